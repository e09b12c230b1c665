"""Processes, directories and waiting. Whatever is started here ends with the test, however the test ends."""

import atexit
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

# Before a command: SIGKILL for it when this process ends. (preexec_fn is not safe beside librdkafka's threads.)
WITH_US = ("setpriv", "--pdeathsig", "KILL")


def environment(name):
    value = os.environ.get(name)
    if not value:
        sys.exit(f"{name} is not set; run this through ctest, or set PROVISIONER, STANDIN and SOURCE_DIR")
    return value


def source_dir():
    return os.environ.get("SOURCE_DIR") or os.path.abspath(os.path.join(os.path.dirname(__file__), "../../.."))


def tool(name):
    return os.path.join(source_dir(), "test", "tools", name)


_ports = set()


def free_port():
    """A loopback port that nothing listens on now, outside the range of outgoing connections. Each is given once."""
    for _ in range(1000):
        port = 30000 + int.from_bytes(os.urandom(2), "big") % 2700
        if port in _ports:
            continue
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                _ports.add(port)
                return port
            except OSError:
                continue
    raise RuntimeError("no free port found")


def eventually(check, timeout, what, every=0.1, describe=None):
    """Calls check until it returns something true, and returns that. An AssertionError counts as not yet."""
    end = time.monotonic() + timeout
    while True:
        why = None
        try:
            result = check()
            if result:
                return result
        except AssertionError as e:
            why = str(e)
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout} s: {what}"
                                 + (f"\n{why}" if why else "")
                                 + (f"\n{describe()}" if describe else ""))
        time.sleep(every)


# ---- the test's own directory ----

_workdir = None
keep = bool(os.environ.get("E2E_KEEP"))


def workdir():
    global _workdir
    if _workdir is None:
        _workdir = tempfile.mkdtemp(prefix="provisioner-e2e-")
        os.chmod(_workdir, 0o755)  # PostgreSQL's user must be able to enter it
    return _workdir


def keep_workdir():
    global keep
    keep = True


# ---- the guard: ends servers that were started by a tool and live on their own ----

_guard = None

_GUARD = r"""
import shutil, subprocess, sys
servers = {}
for line in sys.stdin:
    what, tool, directory = line.rstrip("\n").split("\t")
    if what == "+":
        servers[directory] = tool
    else:
        servers.pop(directory, None)
quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
for directory, tool in servers.items():
    subprocess.run([tool, "kill", directory], **quiet)
    shutil.rmtree(directory, ignore_errors=True)
"""


def _start_guard():
    """A process that is nobody's child, so that a runner which kills the whole tree leaves it to tidy up."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writing)
        os.setsid()
        if os.fork():
            os._exit(0)
        os.dup2(reading, 0)
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 1)
        os.dup2(null, 2)
        os.closerange(3, 1024)
        os.execv(sys.executable, [sys.executable, "-c", _GUARD])
    os.close(reading)
    os.waitpid(child, 0)
    return os.fdopen(writing, "w", buffering=1)


def guard(tool_path, directory):
    global _guard
    if _guard is None:
        _guard = _start_guard()
    _guard.write(f"+\t{tool_path}\t{directory}\n")


def unguard(tool_path, directory):
    if _guard is not None:
        _guard.write(f"-\t{tool_path}\t{directory}\n")


def run_tool(*argv, env=None, timeout=180):
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          timeout=timeout, env={**os.environ, **(env or {})})
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(argv)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


# ---- the end ----

_closers = []


def at_end(close):
    _closers.append(close)


def _end():
    while _closers:
        try:
            _closers.pop()()
        except Exception as e:  # one server's trouble must not keep the others alive
            print(f"while ending: {e}", file=sys.stderr)
    if _guard is not None:
        _guard.close()
    if _workdir is not None and not keep:
        shutil.rmtree(_workdir, ignore_errors=True)


def _on_signal(number, frame):
    sys.exit(128 + number)


atexit.register(_end)
if os.environ.get("E2E_SIGNALS", "1") == "1":
    signal.signal(signal.SIGTERM, _on_signal)
    signal.signal(signal.SIGHUP, _on_signal)
