"""`provisioner run` and the program's commands, with a configuration written for one stage."""

import base64
import ctypes
import ctypes.util
import http.client
import json
import os
import re
import signal
import subprocess
import time

from .process import WITH_US, at_end, environment, eventually, free_port, workdir

SANITIZER = re.compile(r"ERROR: (Address|Leak|Thread|Undefined)\w*Sanitizer|runtime error:|SUMMARY: \w+Sanitizer")

_sodium = None


def sodium():
    global _sodium
    if _sodium is None:
        _sodium = ctypes.CDLL(ctypes.util.find_library("sodium") or "libsodium.so.23")
        assert _sodium.sodium_init() >= 0
    return _sodium


class RevealKey:
    """The key pair that seals API keys; the private half is the platform's, and here the test's."""

    def __init__(self):
        self.public, self.private = ctypes.create_string_buffer(32), ctypes.create_string_buffer(32)
        sodium().crypto_box_keypair(self.public, self.private)

    def base64(self):
        return base64.b64encode(self.public.raw).decode()

    def open(self, sealed):
        clear = ctypes.create_string_buffer(len(sealed))
        opened = sodium().crypto_box_seal_open(clear, bytes(sealed), ctypes.c_ulonglong(len(sealed)), self.public,
                                               self.private)
        assert opened == 0, "the sealed key does not open with the private half"
        return clear.raw[:len(sealed) - 48].decode()


class Installation:
    """Where the replicas of one stage share their settings: secrets, URLs, configuration text."""

    _count = 0

    def __init__(self, database_url, bootstrap, topics, langflow, ragflow, secrets, reveal, overrides=None):
        Installation._count += 1
        self.dir = os.path.join(workdir(), f"stage-{Installation._count}")
        os.makedirs(self.dir)
        self.env = {"DATABASE_URL": database_url, "LANGFLOW_API_KEY": secrets["langflow"],
                    "RAGFLOW_API_KEY": secrets["ragflow"], "PROVISIONER_MASTER_KEY": secrets["master"],
                    "RAGFLOW_ADMIN_PASSWORD": secrets.get("admin", ""),
                    "RAGFLOW_MODELS_KEY": secrets.get("models", "")}
        self.settings = {
            "database": {"url": "env:DATABASE_URL"},
            "kafka": {"bootstrap_servers": bootstrap, "group_id": f"provisioner-{Installation._count}",
                      "topics": topics,
                      "properties": {"session.timeout.ms": "6000", "heartbeat.interval.ms": "1000"}},
            "runtimes": [{"name": "shared-eu", "mode": "shared",
                          "langflow": {"api": "workspaces", "url": langflow, "api_key": "env:LANGFLOW_API_KEY"},
                          "ragflow": {"api": "collections", "url": ragflow, "api_key": "env:RAGFLOW_API_KEY",
                                      "tenancy": "shared"}}],
            "offerings": {"csa": {"flow": "customer-support-agent-v1", "capabilities": ["rag"]},
                          "faq": {"flow": "faq-assistant-v1", "capabilities": []}},
            "retry": {"initial": "200ms", "factor": 2, "max": "2s", "deadline": "30m"},
            "retention": {"chat_history": "0", "dead_letters": "90d", "events": "90d"},
            "secrets": {"master_key": "env:PROVISIONER_MASTER_KEY",
                        "reveal_public_key": "file:" + self._write("reveal.pub", reveal.base64() + "\n")},
            "log": {"level": "info", "format": "json"},
        }
        for path, value in (overrides or {}).items():
            self.set(path, value)

    def set(self, path, value):
        """path: "retry.max", "runtimes.0.langflow.url"."""
        at = self.settings
        *parents, last = path.split(".")
        for name in parents:
            at = at[int(name)] if isinstance(at, list) else at.setdefault(name, {})
        at[last] = value

    def _write(self, name, text):
        path = os.path.join(self.dir, name)
        with open(path, "w") as f:
            f.write(text)
        os.chmod(path, 0o600)
        return path

    def config_file(self, name, listen):
        """JSON is YAML."""
        return self._write(f"{name}.yaml", json.dumps({**self.settings, "http": {"listen": listen}}, indent=1) + "\n")

    def command(self, *argv, check=0, stdin=None, timeout=120):
        """Runs one of the program's commands to its end; returns its standard output."""
        config = self.config_file("command", "127.0.0.1:0")
        done = subprocess.run([environment("PROVISIONER"), *argv], env={**os.environ, **self.env,
                              "REPLICA": "command", "PROVISIONER_CONFIG": config}, input=stdin, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, timeout=timeout)
        assert not SANITIZER.search(done.stderr), done.stderr
        if check is not None:
            assert done.returncode == check, f"{argv} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        return done.stdout


class Worker:
    """One replica. It may be killed and started again; its log goes on in the same file."""

    def __init__(self, installation, name="worker", wrapper=(), listen=None):
        self.installation = installation
        self.name = name
        self.wrapper = wrapper  # a command that runs it, e.g. valgrind
        self.port = free_port()
        self.config = installation.config_file(name, listen or f"127.0.0.1:{self.port}")
        self.log_path = os.path.join(installation.dir, f"{name}.log")
        self.process = None
        self.env = {}  # of this replica alone
        at_end(self.kill)

    def start(self, ready=True, timeout=60):
        self.launch("run")
        if ready:
            self.wait_ready(timeout)
        return self

    def launch(self, *command):
        assert self.process is None or self.process.poll() is not None
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [*WITH_US, *self.wrapper, environment("PROVISIONER"), *command, "--config", self.config],
                env={**os.environ, **self.installation.env, "REPLICA": self.name, **self.env},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    @property
    def pid(self):
        return self.process.pid

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def wait_ready(self, timeout=60):
        def check():
            assert self.alive(), f"it ended with {self.process.returncode}"
            return self.get("/readyz")[0] == 200

        eventually(check, timeout, f"{self.name} is ready", describe=self.tail)

    def get(self, path, timeout=10):
        """(status, text); status 0 when nobody answers."""
        conn = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            conn.request("GET", path)
            answer = conn.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, http.client.HTTPException) as e:
            return 0, str(e)
        finally:
            conn.close()

    def metrics(self):
        """{'provisioner_x{label="y"}': value}"""
        status, text = self.get("/metrics")
        assert status == 200, f"/metrics: {status} {text}"
        lines = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, value in lines}

    def memory_kb(self, what="VmHWM"):
        with open(f"/proc/{self.pid}/status") as f:
            return int(re.search(rf"^{what}:\s+(\d+)", f.read(), re.M).group(1))

    # ---- the end of a process ----

    def kill(self):
        if self.alive():
            self.process.kill()
        if self.process is not None:
            self.process.wait()

    def stop(self, timeout=45):
        """SIGTERM; it must drain, end with 0 and have nothing to complain about."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"{self.name} did not drain within {timeout} s\n{self.tail()}")
        assert self.process.returncode == 0, f"{self.name} ended with {self.process.returncode}\n{self.tail()}"
        self.assert_clean()

    # ---- its log ----

    def text(self):
        try:
            with open(self.log_path, errors="replace") as f:
                return f.read()
        except FileNotFoundError:
            return ""

    def tail(self, lines=25):
        return f"--- the end of {self.name}'s log ---\n" + "\n".join(self.text().splitlines()[-lines:])

    def logs(self, **wanted):
        """Log lines as dictionaries, those whose members equal what is wanted."""
        entries = []
        for line in self.text().splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict) and all(entry.get(k) == v for k, v in wanted.items()):
                entries.append(entry)
        return entries

    def noise(self):
        """Lines that are not JSON. A process that was killed may leave half a line."""
        def is_json(line):
            try:
                return isinstance(json.loads(line), dict)
            except ValueError:
                return False
        return [line for line in self.text().splitlines() if line.strip() and not is_json(line)]

    def assert_clean(self):
        found = SANITIZER.search(self.text())
        assert not found, self.text()[max(0, found.start() - 500):found.start() + 4000]


def wait_dead(pid, timeout=10):
    end = time.monotonic() + timeout
    while time.monotonic() < end and os.path.exists(f"/proc/{pid}"):
        time.sleep(0.02)
