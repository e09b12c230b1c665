"""Every mutating upstream call of a provision and a terminate has its answer spoilt, one call at a time."""

import re

from harness import Case, Expected, Subscription, main, say

# (kind, what is said of it, further members of the fault)
SPOILT = [
    ("lose_reply", "acts, then the connection ends without a byte", {}),
    ("drop_before", "the connection ends without acting", {}),
    ("malformed", "acts, then answers what is not JSON", {}),
    ("truncate", "acts, then half of the answer", {}),
    ("status", "acts, then says 500", {"act": True, "status": 500}),
    ("fail_before", "says 502 without acting", {"status": 502}),
    ("fail_before", "says 503 with Retry-After", {"status": 503, "headers": {"Retry-After": "1"}}),
    ("delay_reply", "acts, and answers after the client has gone", {"ms": 4000}),
]


def shape(entry):
    """A call without its ids."""
    return entry["method"], re.sub(r"/[0-9a-f-]{36}$", "/{id}", entry["path"])


class LostReplies(Case):
    partitions = 1

    def life(self, stage, number):
        sub = Subscription("lost", number)
        stage.producer.send(sub.created())
        stage.promise({**self.before, sub.uuid: Expected(True, name=sub.name)}, self.foreign)
        stage.producer.send(sub.terminated())
        self.before[sub.uuid] = Expected(False, kept=self.kept)
        stage.promise(self.before, self.foreign)
        return sub

    def record(self, stage):
        """The mutating calls of a clean life: [(stand-in, call, how many of that shape came before)]."""
        calls = []
        self.life(stage, 0)
        for standin in (stage.langflow, stage.ragflow):
            shapes = [shape(e) for e in standin.mutations()]
            calls += [(standin, call, shapes[:i].count(call)) for i, call in enumerate(shapes)]
        return calls

    def spoil(self, stage, number, standin, call, earlier, kind, fault):
        method, path = call
        standin.clear_faults()
        for s in (stage.langflow, stage.ragflow):
            s.clear_log()
        standin.fault(kind, method=method, path_regex="^" + path.replace("{id}", "[^/]+") + "$", nth=earlier + 1,
                      **fault)
        before = self.created(stage)
        sub = self.life(stage, number)
        self.assertEqual(standin.fired(), 1, f"{call} did not come")
        # Whatever was lost, one create took effect at each product.
        self.assertEqual(self.created(stage), [n + 1 for n in before])
        states = [(j["kind"], j["state"]) for j in stage.db.jobs(sub.uuid)]
        self.assertEqual(states, [("provision", "succeeded"), ("terminate", "succeeded")], "no human was needed")

    @staticmethod
    def created(stage):
        """How many objects each product has made so far, by its own count."""
        return [s.admin("GET", "/objects")["created"] for s in (stage.langflow, stage.ragflow)]

    def run_all(self, retention, least, skipped=()):
        self.before, self.kept = {}, retention != "0"
        stage = self.stage(overrides={"retention.chat_history": retention, "worker.probe_settle": "300ms",
                                      "retry.initial": "100ms", "runtimes.0.langflow.timeout": "2s",
                                      "runtimes.0.ragflow.timeout": "2s"})
        self.foreign = stage.plant_foreign(5)
        calls = self.record(stage)
        say("a clean life makes: " + ", ".join(f"{c[0]} {c[1]}" for _, c, _ in calls))
        self.assertGreaterEqual(len(calls), least)
        number = 0
        for standin, call, earlier in (c for c in calls if c[1][0] not in skipped):
            for kind, what, fault in SPOILT:
                number += 1
                say(f"{call[0]} {call[1]}: {what}")
                with self.subTest(call=call, fault=kind):
                    self.spoil(stage, number, standin, call, earlier, kind, fault)

    def test_chat_history_is_not_kept(self):
        self.run_all("0", 4)

    def test_chat_history_is_kept(self):
        self.run_all("30d", 4, skipped=("POST",))  # a provision's calls are the other test's


if __name__ == "__main__":
    main()
