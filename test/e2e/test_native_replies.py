"""
Every call of a subscription's life in the products themselves has its answer spoilt.

The calls are those of a clean life. For each of them and each way to spoil it there is a subscription of its own, and
all of these live at once: a fault is found by its subscription's traceparent.
"""

import collections
import re

from harness import Case, Expected, Subscription, flow_uuid, main, say
from test_lost_replies import SPOILT

# What may come between a look and its answer.
BLINDED = [
    ("drop_before", "the connection ends", {}),
    ("malformed", "answers what is not JSON", {}),
    ("truncate", "half of the answer", {}),
    ("fail_before", "says 502", {"status": 502}),
    ("fail_before", "says 503 with Retry-After", {"status": 503, "headers": {"Retry-After": "1"}}),
]
ID = re.compile(r"/([0-9a-f]{32}|[0-9a-f-]{36}|[^/]+@[^/]+|ragflow-[^/]+)(?=/|$)")
OVERRIDES = {"worker.probe_settle": "300ms", "retry.initial": "100ms", "runtimes.0.langflow.timeout": "2s",
             "runtimes.0.ragflow.timeout": "2s"}

Call = collections.namedtuple("Call", "product method path nth")


def calls_of(stage, sub):
    """The calls of a life, ids left out: [Call], nth being which one of its shape it was."""
    calls, seen = [], collections.Counter()
    for product, entries in zip(("langflow", "ragflow"), stage.requests(sub)):
        for e in entries:
            shape = product, e["method"], ID.sub("/{id}", e["path"])
            seen[shape] += 1
            calls.append(Call(*shape, seen[shape]))
    return calls


class NativeReplies(Case):
    partitions = 4

    def live(self, stage, subs, kept, restored=False):
        """From created to purged, all at once; restored: with another life in between. Returns the first calls."""
        owned = self.begin(stage, subs, {})
        calls = calls_of(stage, subs[0])
        if restored:
            self.end(stage, subs, True)
            self.begin(stage, subs, owned)
        self.end(stage, subs, kept)
        if kept:
            stage.retention(31)
        self.others.update({s.uuid: Expected.of(s, False) for s in subs})
        stage.promise(self.others, self.foreign, timeout=120)
        return calls

    def begin(self, stage, subs, owned):
        """owned: what tenants made of their accounts in an earlier life, {uuid: members of Expected}."""
        stage.producer.send(*(s.created(s.traceparent) for s in subs))
        stage.promise({**self.others, **{s.uuid: Expected.of(s, **owned.get(s.uuid, {})) for s in subs}}, self.foreign,
                      timeout=120)
        return {s.uuid: self.use(stage, s, s.uuid in owned) for s in subs}

    @staticmethod
    def use(stage, sub, again):
        """A tenant opens its flow to all, and makes itself a key and another flow, open too."""
        key, flow = stage.runtime_key(sub.uuid), "/flows/" + flow_uuid(sub.uuid)
        stage.ragflow.documents(stage.db.config(sub.uuid)["knowledge_base_id"], "document.pdf")
        stage.langflow.message(flow_uuid(sub.uuid))
        stage.langflow.do("PATCH", flow, {"access_type": "PUBLIC"}, key=key)
        stage.langflow.do("POST", "/api_key/", {"name": "mine"}, key=key)
        if again:
            return None
        mine = stage.langflow.do("POST", "/flows/", {"name": "mine", "access_type": "PUBLIC"}, key=key)["id"]
        return {"own_flows": [mine]}

    def end(self, stage, subs, kept):
        stage.producer.send(*(s.terminated(s.traceparent) for s in subs))
        stage.promise({**self.others, **{s.uuid: Expected.of(s, False, kept=kept) for s in subs}}, self.foreign,
                      timeout=120)

    def spoil(self, stage, sub, call, kind, more):
        standin = {"langflow": stage.langflow, "ragflow": stage.ragflow}[call.product]
        path = "^" + re.escape(call.path).replace(re.escape("{id}"), "[^/]+") + "$"
        standin.fault(kind, method=call.method, path_regex=path, nth=call.nth, trace=sub.trace, **more)

    @staticmethod
    def made(stage):
        return [s.admin("GET", "/objects")["created"] for s in (stage.langflow, stage.ragflow)]

    def run_all(self, retention, wanted, faults, restored=False, **options):
        """wanted: which calls of a clean life are spoilt; of one with a second life only what the first did not do."""
        self.others, kept = {}, retention != "0"
        stage = self.stage(dialect="native", **options,
                           overrides={**OVERRIDES, "retention.chat_history": retention})
        self.foreign = stage.plant_foreign(3)
        self.live(stage, [Subscription("warm", 0)], kept)  # what is asked once of each server
        clean = Subscription("clean", 1)
        first = self.live(stage, [clean], kept, restored)
        calls = [c for c in calls_of(stage, clean) if wanted(c) and not (restored and c in first)]
        say(f"{len(calls)} calls: " + ", ".join(f"{c.method} {c.path}" for c in calls))
        self.assertGreaterEqual(len(calls), 4)
        cases = [(Subscription("spoilt", i), call, fault)
                 for i, (call, fault) in enumerate((c, f) for c in calls for f in faults)]
        for sub, call, (kind, _, more) in cases:
            self.spoil(stage, sub, call, kind, more)
        before = self.made(stage)
        self.live(stage, [sub for sub, _, _ in cases], kept, restored)
        self.check(stage, cases, kept, restored)
        # Whatever was lost, one create took effect for each of them, and one more where a dataset was made anew.
        self.assertEqual(self.made(stage), [before[0] + len(cases), before[1] + len(cases) * (2 if restored else 1)])

    def check(self, stage, cases, kept, restored):
        """Each fault has struck once, and nobody had to help."""
        rules = {(r["match"]["trace"]): r["fired"] for s in (stage.langflow, stage.ragflow) for r in s.faults()}
        missed = [(call, what) for sub, call, (_, what, _) in cases if rules[sub.trace] != 1]
        self.assertEqual(missed, [], "these calls did not come")
        kinds = ["provision", "terminate"] * (2 if restored else 1) + ["purge"] * kept
        clean = [(kind, "succeeded") for kind in kinds]
        for sub, call, (_, what, _) in cases:
            self.assertEqual([(j["kind"], j["state"]) for j in stage.db.jobs(sub.uuid)], clean, (call, what))
        say(f"{len(cases)} subscriptions, each with an answer spoilt")

    @staticmethod
    def changes(call):
        return call.method not in ("GET", "HEAD")

    @staticmethod
    def looks(call):
        return call.method == "GET"


class Replies(NativeReplies):
    def test_changes(self):
        self.run_all("30d", self.changes, SPOILT)

    def test_changes_without_retention(self):
        self.run_all("0", lambda c: self.changes(c) and c.method not in ("POST", "PUT"), SPOILT)

    def test_looks(self):
        self.run_all("30d", self.looks, BLINDED)


if __name__ == "__main__":
    main()
