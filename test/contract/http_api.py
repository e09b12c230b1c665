"""What the contract suites share: plain HTTP, and a stand-in of their own where no live server is given."""

import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.parse


class Answer:
    """status, headers, and the body: parsed where it is JSON, else text."""

    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.text = response.read().decode("utf-8", "replace")
        try:
            self.body = json.loads(self.text)
        except ValueError:
            self.body = self.text

    @property
    def code(self):
        return self.body.get("code") if isinstance(self.body, dict) else None

    @property
    def data(self):
        return self.body.get("data") if isinstance(self.body, dict) else None

    @property
    def message(self):
        return self.body.get("message") if isinstance(self.body, dict) else None

    def __repr__(self):
        return f"HTTP {self.status} {self.text[:1000]}"


def call(base, method, path, body=None, authorization=None, raw=None, content_type="application/json", timeout=60):
    """One request on a connection of its own. body is sent as JSON, raw as it is."""
    url = urllib.parse.urlsplit(base)
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    connection = kind(url.hostname, url.port, timeout=timeout)
    headers = {} if authorization is None else {"Authorization": authorization}
    payload = raw if raw is not None else None if body is None else json.dumps(body)
    if payload is not None and content_type:
        headers["Content-Type"] = content_type
    try:
        connection.request(method, url.path.rstrip("/") + path, payload, headers)
        return Answer(connection.getresponse())
    finally:
        connection.close()


class PrivateStandin:
    """A stand-in for this test alone, ended (and held to a clean end) by close()."""

    def __init__(self, dialect, token, profile=None):
        program = os.environ.get("STANDIN")
        if not program:
            sys.exit("STANDIN is not set: run this through ctest, or name the program, or a live server")
        self.directory = tempfile.TemporaryDirectory(prefix="provisioner-contract-")
        port_file = os.path.join(self.directory.name, "port")
        self.log_path = os.path.join(self.directory.name, "log")
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", program, "--dialect", dialect,
                 *(["--profile", profile] if profile else []), "--token", token, "--port-file", port_file],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until = time.monotonic() + 20
        while not os.path.exists(port_file):
            if self.process.poll() is not None or time.monotonic() > until:
                sys.exit("the stand-in does not start: " + self.output())
            time.sleep(0.02)
        with open(port_file) as f:
            self.url = f"http://127.0.0.1:{int(f.read())}"

    def output(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def admin(self, method, path, body=None):
        answer = call(self.url, method, "/admin" + path, body)
        assert answer.status < 300, f"{method} /admin{path}: {answer}"
        return answer.body

    def close(self):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        output = self.output()
        self.directory.cleanup()
        assert self.process.returncode == 0, f"the stand-in ended with {self.process.returncode}\n{output}"
