#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "supervisor.h"

static struct loop *loop;
static int listener;

static int begin(void **state)
{
    struct err err;
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    (void)state;
    loop = loop_new(&err);
    listener = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    /* Abstract, and so gone with the process. */
    int n = snprintf(a.sun_path + 1, sizeof(a.sun_path) - 1, "supervisor-test-%ld", (long)getpid());
    char name[120];
    snprintf(name, sizeof(name), "@%s", a.sun_path + 1);
    setenv("NOTIFY_SOCKET", name, 1);
    return bind(listener, (struct sockaddr *)&a,
                (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n));
}

static int end(void **state)
{
    (void)state;
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
    close(listener);
    loop_free(loop);
    return 0;
}

static int heard(char *out, size_t size)
{
    ssize_t n = recv(listener, out, size - 1, 0);
    out[n > 0 ? n : 0] = '\0';
    return n > 0;
}

static void stop(void *ctx)
{
    loop_stop(ctx);
}

static void run_for(int64_t ms)
{
    struct err err;
    struct loop_timer t = {.fn = stop, .ctx = loop};
    assert_int_equal(loop_timer_set(loop, &t, ms, &err), 0);
    assert_int_equal(loop_run(loop, &err), 0);
}

static void test_tells(void **state)
{
    struct err err;
    char text[64];
    (void)state;
    struct supervisor *s = supervisor_new(loop, &err);
    assert_non_null(s);
    assert_false(heard(text, sizeof(text))); /* no watchdog was asked for */
    supervisor_tell(s, "READY=1");
    assert_true(heard(text, sizeof(text)));
    assert_string_equal(text, "READY=1");
    supervisor_free(s);
}

static void test_feeds_while_the_loop_turns(void **state)
{
    struct err err;
    char text[64];
    (void)state;
    setenv("WATCHDOG_USEC", "40000", 1);
    struct supervisor *s = supervisor_new(loop, &err);
    run_for(110);
    int n = 0;
    while (heard(text, sizeof(text))) {
        assert_string_equal(text, "WATCHDOG=1");
        n++;
    }
    assert_in_range(n, 3, 7); /* every 20 ms, from the start */
    supervisor_free(s);
    run_for(50);
    assert_false(heard(text, sizeof(text)));
}

static void test_silent_where_nobody_listens(void **state)
{
    static const char *const odd[] = {"", "@", "relative", "/no/such/socket"};
    struct err err;
    char text[64];
    (void)state;
    for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
        setenv("NOTIFY_SOCKET", odd[i], 1);
        struct supervisor *s = supervisor_new(loop, &err);
        supervisor_tell(s, "READY=1");
        supervisor_free(s);
    }
    assert_false(heard(text, sizeof(text)));
    supervisor_free(NULL);
}

static void test_another_process_is_watched(void **state)
{
    struct err err;
    char text[64];
    (void)state;
    setenv("WATCHDOG_USEC", "40000", 1);
    setenv("WATCHDOG_PID", "1", 1);
    struct supervisor *s = supervisor_new(loop, &err);
    run_for(60);
    assert_false(heard(text, sizeof(text)));
    supervisor_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_tells, begin, end),
        cmocka_unit_test_setup_teardown(test_feeds_while_the_loop_turns, begin, end),
        cmocka_unit_test_setup_teardown(test_silent_where_nobody_listens, begin, end),
        cmocka_unit_test_setup_teardown(test_another_process_is_watched, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
