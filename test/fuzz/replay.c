/*
 * Runs a target on every file of its corpus, without a fuzzer: replay DIRECTORY-OR-FILE... The last
 * name that is printed is the input that fails.
 */
#include <dirent.h>
#include <sys/stat.h>

#include "fuzz.h"

int LLVMFuzzerInitialize(int *argc, char ***argv) __attribute__((weak));

static int run_file(const char *path)
{
    char *data = NULL;
    size_t n = 0;
    FILE *f = fopen(path, "rb");
    if (!f) {
        perror(path);
        return -1;
    }
    puts(path);
    for (size_t room = 4096, got = 1; got > 0; n += got, room *= 2) {
        char *more = realloc(data, room);
        HOLDS(more);
        data = more;
        got = fread(data + n, 1, room - n, f);
        if (got == 0) {
            break;
        }
    }
    fclose(f);
    char *exact = fuzz_copy((struct fuzz_input){data, n});
    free(data);
    int rc = LLVMFuzzerTestOneInput((const uint8_t *)exact, n);
    free(exact);
    return rc;
}

static int not_hidden(const struct dirent *e)
{
    return e->d_name[0] != '.';
}

static int run_directory(const char *path)
{
    struct dirent **names = NULL;
    char file[4096];
    int n = scandir(path, &names, not_hidden, alphasort);
    int rc = n > 0 ? 0 : -1;
    if (n <= 0) {
        fprintf(stderr, "%s: no inputs\n", path);
    }
    for (int i = 0; i < n; i++) {
        snprintf(file, sizeof(file), "%s/%s", path, names[i]->d_name);
        rc = run_file(file) == 0 ? rc : -1;
        free(names[i]);
    }
    free(names);
    printf("%d inputs\n", n);
    return rc;
}

int main(int argc, char **argv)
{
    struct stat st;
    int rc = argc > 1 ? 0 : -1;
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (LLVMFuzzerInitialize) {
        LLVMFuzzerInitialize(&argc, &argv);
    }
    for (int i = 1; i < argc; i++) {
        bool folder = stat(argv[i], &st) == 0 && S_ISDIR(st.st_mode);
        rc = (folder ? run_directory : run_file)(argv[i]) == 0 ? rc : -1;
    }
    return rc == 0 ? 0 : 1;
}
