"""The stand-in upstream: one process, one dialect, its admin path."""

import http.client
import json
import os
import signal
import subprocess

from .process import WITH_US, at_end, environment, eventually, workdir

MARKER = "waldur-subscription:"


def _once_each(pairs):
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("a member twice")
    return dict(pairs)


class Standin:
    _count = 0

    def __init__(self, dialect, token, profile=None):
        Standin._count += 1
        self.dialect = dialect
        self.token = token
        port_file = os.path.join(workdir(), f"standin-{Standin._count}.port")
        self.log_path = os.path.join(workdir(), f"standin-{Standin._count}.log")
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [*WITH_US, environment("STANDIN"), "--dialect", dialect, "--listen", "127.0.0.1:0", "--token", token,
                 *(["--profile", profile] if profile else []), "--port-file", port_file],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        at_end(self.close)
        eventually(lambda: os.path.exists(port_file) or self.process.poll() is not None, 20, "the stand-in listens",
                   every=0.02)
        assert self.process.poll() is None, self.output()
        with open(port_file) as f:
            self.port = int(f.read())
        self.url = f"http://127.0.0.1:{self.port}"

    def output(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def close(self):
        """Ends it and holds it to a clean end (sanitizers make the status non-zero)."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        assert self.process.returncode == 0, f"stand-in ended with {self.process.returncode}\n{self.output()}"

    # ---- plain HTTP ----

    def request(self, method, path, body=None, token=None, headers=None, timeout=30, members=_once_each):
        """
        (status, parsed body or text, headers). token None: the right one; "": none at all. members: makes an object of its
        (name, value) pairs.
        """
        conn = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            sent = dict(headers or {})
            if token != "":
                sent["Authorization"] = "Bearer " + (token or self.token)
            if body is not None and not isinstance(body, bytes):
                body = json.dumps(body).encode()
            if body is not None:
                sent.setdefault("Content-Type", "application/json")
            conn.request(method, path, body, sent)
            answer = conn.getresponse()
            text = answer.read()
            try:
                parsed = json.loads(text, object_pairs_hook=members) if text else None
            except ValueError:
                parsed = text
            return answer.status, parsed, answer.headers
        finally:
            conn.close()

    @property
    def root(self):
        return "/api/v1/" + self.dialect

    def admin(self, method, path, body=None, **more):
        status, answer, _ = self.request(method, "/admin" + path, body, token="", **more)
        assert status < 300, f"{method} /admin{path}: {status} {answer}"
        return answer

    # ---- faults ----

    def fault(self, kind, method=None, path_prefix=None, path_regex=None, nth=None, every=None, count=None,
              body_contains=None, trace=None, probability=None, seed=None, **fault):
        match = {"method": method, "path_prefix": path_prefix, "path_regex": path_regex, "nth": nth, "every": every,
                 "count": count, "body_contains": body_contains, "trace": trace, "probability": probability,
                 "seed": seed}
        match = {k: v for k, v in match.items() if v is not None}
        return self.admin("POST", "/faults", {"match": match, "fault": {"kind": kind, **fault}})["ids"][0]

    def faults(self):
        return self.admin("GET", "/faults")["rules"]

    def fired(self):
        return sum(rule["fired"] for rule in self.faults())

    def clear_faults(self):
        self.admin("DELETE", "/faults")

    def down(self, ms, refuse=False):
        """Cut off (or, with refuse, not even accepted) from now on for ms."""
        self.admin("POST", "/down", {"ms": ms, "mode": "refuse" if refuse else "close"})

    # ---- what is there and what was asked ----

    def objects(self):
        return self.admin("GET", "/objects")["objects"]

    def plant(self, objects):
        return self.admin("POST", "/objects", objects)["ids"]

    def marked(self, uuid):
        return [o["object"] for o in self.objects() if o["marker"] == MARKER + uuid]

    def log(self):
        entries, since = [], 0
        while True:
            # A query may say a name more than once; its last value is told.
            page = self.admin("GET", f"/log?since={since}", members=dict)
            assert page["dropped"] == 0 or since, "the stand-in's log overflowed"
            entries += page["entries"]
            if not page["entries"]:
                return entries
            since = page["next"]

    def mutations(self):
        """The requests that change something, in order."""
        return [e for e in self.log() if e["method"] not in ("GET", "HEAD")]

    def clear_log(self):
        self.admin("DELETE", "/log")
