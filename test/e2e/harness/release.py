"""What is measured is a release build: measuring a debug build would measure the sanitizers."""

import os
import subprocess

from .process import source_dir


def use_release(directory=None, build=True):
    """
    Names the programs of a release build to the harness, made (build) where it is not up to date, and returns where
    they are. directory: an existing one; None: build/, made where it is missing.
    """
    root = source_dir()
    directory = directory or os.path.join(root, "build")
    cache = os.path.join(directory, "CMakeCache.txt")
    if not os.path.exists(cache):
        if directory != os.path.join(root, "build"):
            raise RuntimeError(f"{directory} is no build directory")
        subprocess.run(["cmake", "--preset", "release"], cwd=root, check=True, stdout=subprocess.DEVNULL)
    with open(cache) as f:
        settings = dict(line.strip().split("=", 1) for line in f if "=" in line and line[0] not in "#/")
    if settings.get("CMAKE_BUILD_TYPE:STRING") != "Release" or settings.get("PROVISIONER_SANITIZE:STRING"):
        raise RuntimeError(f"{directory} is not a release build")
    if build:
        subprocess.run(["cmake", "--build", directory], check=True, stdout=subprocess.DEVNULL)
    binaries = os.path.join(directory, "bin")
    os.environ.update(PROVISIONER=os.path.join(binaries, "provisioner"), STANDIN=os.path.join(binaries, "standin"),
                      SOURCE_DIR=root)
    return binaries
