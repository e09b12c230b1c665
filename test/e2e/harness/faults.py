"""The faults build (test/faults): where it can be made to die or to fail, and replicas that do."""

import os
import re
import signal

from .process import source_dir
from .worker import Worker


def _source(*path):
    with open(os.path.join(source_dir(), *path)) as f:
        return f.read()


def _sources(folder):
    directory = os.path.join(source_dir(), "lib", folder)
    return {name: _source("lib", folder, name) for name in sorted(os.listdir(directory)) if name.endswith(".c")}


def statements():
    """The names in worker/statements.c."""
    named = re.findall(r"\[S_(\w+)\]\s*=\s*\{\s*\"(\w+)\"", _source("worker", "statements.c"))
    listed = re.findall(r"^ +S_(\w+),", _source("worker", "statements.h"), re.M)
    assert sorted(i for i, _ in named) == sorted(listed), "the table of statements is not read as it should be"
    return {name for _, name in named}


# Sent by a worker alone that has a Waldur.
FOR_WALDUR = re.compile(r"waldur_\w+|step_announce|step_report|step_api_key_for_waldur")


def effects():
    """{api: names of the changes that its driver makes}, out of the drivers' tables."""
    langflow, ragflow = _sources("langflow"), _sources("ragflow")
    facade = r"\.effect_\w+ = \"([\w.]+)\""
    found = {"workspaces": set(re.findall(facade, langflow.pop("workspaces.c"))),
             "collections": set(re.findall(facade, ragflow.pop("collections.c"))),
             "langflow": set(), "ragflow": set(),
             "waldur": {name for text in _sources("waldur").values()
                        for name in re.findall(r"\"((?:order|resource|key)\.\w+)\"", text)}}
    for text in langflow.values():
        found["langflow"] |= set(re.findall(r"\.effect = \"([\w.]+)\"", text))
    for text in ragflow.values():
        found["ragflow"] |= set(re.findall(r"\{METHOD_\w+,\s*\w+,\s*\w+,\s*\"([\w.]+)\"", text))
    # Each step that is no GET is a change, or a login; a table that is written otherwise is noticed here.
    steps = sum(len(re.findall(r"\.method = METHOD_(?!GET)", t)) for t in langflow.values())
    named = sum(len(re.findall(r"\.effect = \"", t)) for t in langflow.values())
    assert named == steps - LOGINS["langflow"], f"{named} effects in {steps} steps of lib/langflow that are no GET"
    steps = len(re.findall(r"\{METHOD_(?!GET)", ragflow["native.c"]))
    named = len(re.findall(r"\{METHOD_\w+,\s*\w+,\s*\w+,\s*\"", ragflow["native.c"]))
    assert named == steps - LOGINS["ragflow"], f"{named} effects in {steps} steps of lib/ragflow that are no GET"
    return found


# Requests that are no GET and change nothing.
LOGINS = {"langflow": 2, "ragflow": 2}


def points(apis):
    """Every crash point of a worker that speaks these dialects; "waldur" among them: that has a Waldur."""
    all_effects = effects()
    named = {f"store/{s}/{at}" for s in statements() for at in ("before", "committed")
             if "waldur" in apis or not FOR_WALDUR.fullmatch(s)}
    named |= {f"http/{api}/{effect}/{at}" for api in apis for effect in {*all_effects[api], "look"}
              for at in ("before", "answered")}
    named |= {f"kafka/{topic}/produce/{at}" for topic in ("outcomes", "dead_letters") for at in ("before", "answered")}
    return named | {"kafka/events/message", "kafka/events/offset/before", "kafka/events/offset/stored"}


class FaultyWorker(Worker):
    """Points are named by what topics are for. crash_at: one of them, or several of which the first kills."""

    def __init__(self, stage, name, crash_at=None, fail=None, listen=None):
        super().__init__(stage.installation, name, listen=listen)
        self.topics = stage.topics
        self.crash_at = crash_at
        self.log_of_faults = os.path.join(self.installation.dir, f"{name}.faults")
        self.env = {"PROVISIONER_FAULT_LOG": self.log_of_faults}
        if crash_at:
            self.env["PROVISIONER_CRASH_AT"] = self._topic(crash_at)
        if fail:
            self.env["PROVISIONER_FAIL"] = ",".join(self._topic(kind) for kind in fail.split(","))

    def _topic(self, point):
        return re.sub(r"^kafka/(\w+)/", lambda m: f"kafka/{self.topics[m.group(1)]}/", point)

    def _role(self, point):
        roles = {topic: role for role, topic in self.topics.items()}
        return re.sub(r"^kafka/([^/]+)/", lambda m: f"kafka/{roles[m.group(1)]}/", point)

    def told(self, what):
        """Names in order: "passed", "failed" or "died"."""
        try:
            with open(self.log_of_faults) as f:
                lines = [line.rstrip("\n").partition(" ") for line in f if line.endswith("\n")]
        except FileNotFoundError:
            return []
        return [self._role(name) for kind, _, name in lines if kind == what]

    def passed(self, point):
        return point in self.told("passed")

    def fell(self):
        """Is it dead? Then of its own hand, and where it was told."""
        if self.alive():
            return False
        code, died = self.process.returncode, self.told("died")
        assert code == -signal.SIGKILL, f"{self.name} ended with {code}, not at {self.crash_at}\n{self.tail()}"
        assert died == [self.crash_at], f"{self.name} died at {died}, not at {self.crash_at}"
        return True
