"""
Updated, suspended, resumed: whole lives, with the platform's own facade and with the products themselves, and beside
workers that are killed. KILLS: how often each (default 24). KILLS_SEED: another sequence.
"""

import os

from harness import LANGFLOW_PROFILES, Case, Expected, Subscription, eventually, flow_uuid, main, say
from test_kills import SEED, Killing

KILLS = int(os.environ.get("KILLS", "24"))


class Lives(Case):
    partitions = 1

    def admitted(self, stage, sub):
        """What the gateway is told of the subscription's one key: True, or why not."""
        row = stage.db.one("SELECT sealed_key FROM agent_api_key WHERE subscription_uuid = %s", sub.uuid)
        told = stage.db.one("SELECT allowed, reason FROM authenticate_api_key(%s, NULL)", stage.reveal.open(row["sealed_key"]))
        return told["reason"] or told["allowed"]

    def kept(self, stage, sub):
        c = stage.db.config(sub.uuid)
        return [c[k] for k in ("name", "runtime_workspace_id", "knowledge_base_id", "api_key", "runtime_name")]

    def outcomes(self, reader, n):
        """The first n outcomes: (type, order)."""
        eventually(lambda: len(reader.events()) >= n, 30, f"{n} outcomes are told")
        return [(e["type"].partition(".")[2], e["data"]["order_uuid"]) for e in reader.events()]

    def kinds(self, stage, sub):
        return [j["kind"] for j in stage.db.jobs(sub.uuid)]

    # ---- the platform's own facade ----

    def edit(self, stage, sub, **variables):
        """As its tenant does."""
        id = stage.db.config(sub.uuid)["runtime_workspace_id"]
        status, answer, _ = stage.langflow.request("PATCH", f"/api/v1/workspaces/{id}", {"variables": variables})
        self.assertEqual(status, 200, answer)

    def variables(self, stage, sub):
        workspace, = stage.langflow.marked(sub.uuid)
        return workspace["variables"]

    def test_suspended_and_resumed(self):
        stage = self.stage()
        reader = stage.reader("outcomes")
        foreign = stage.plant_foreign(3)
        sub = Subscription("rests", 1)
        orders = []

        def order(event, **expected):
            stage.producer.send(event)
            orders.append(sub.order)
            stage.promise({sub.uuid: Expected(True, sub.rag, sub.name, **expected)}, foreign)

        order(sub.created())
        before = self.kept(stage, sub)
        self.edit(stage, sub, tone="as I like it")
        order(sub.suspended(), suspended=True)
        self.assertEqual((self.admitted(stage, sub), self.kept(stage, sub)), ("subscription not active", before))
        order(sub.resumed())
        self.assertEqual((self.admitted(stage, sub), self.kept(stage, sub)), (True, before))
        self.assertEqual(self.variables(stage, sub)["tone"], "as I like it")
        say("updated while it rests")
        order(sub.suspended(), suspended=True)
        order(sub.updated(variables={**sub.variables, "agent_name": "Another", "new": "one"},
                          api_key={"rate_limit": "7/hour"}), suspended=True)
        order(sub.resumed())
        there = self.variables(stage, sub)
        self.assertEqual((there["agent_name"], there["new"], there["tone"]), ("Another", "one", "as I like it"))
        self.assertEqual((self.admitted(stage, sub), self.kept(stage, sub)), (True, before))
        self.assertEqual(stage.db.value("SELECT rate_limit FROM agent_api_key"), "7/hour")
        self.assertEqual(self.outcomes(reader, 6), list(zip(["ready", "paused", "ready", "paused", "paused", "ready"], orders)))
        self.assertEqual(self.kinds(stage, sub), ["provision", "suspend", "resume", "suspend", "suspend", "resume"])
        say("ended while it rests")
        order(sub.suspended(), suspended=True)
        stage.producer.send(sub.terminated())
        stage.promise({sub.uuid: Expected(False)}, foreign)

    def test_updated(self):
        """What the order changed is written; what the tenant made of the rest stays; ids and key stay."""
        stage = self.stage()
        sub = Subscription("changes", 1, variables={"agent_name": "One", "tone": "calm", "old": "x", "mine": "ordered"})
        stage.producer.send(sub.created(api_key={"rate_limit": "5/minute"}))
        expected = {sub.uuid: Expected(True, name=sub.name)}
        stage.promise(expected)
        before = self.kept(stage, sub)
        self.edit(stage, sub, mine="edited", tone="edited", own="the tenant's")
        stage.producer.send(sub.updated(variables={"agent_name": "Two", "tone": "brisk", "mine": "ordered"},
                                        plan={"tier": "enterprise"}, api_key={"rate_limit": "900/minute",
                                                                              "allowed_domains": ["a.example"]}))
        stage.promise(expected)
        there = self.variables(stage, sub)
        self.assertEqual({k: there[k] for k in ("agent_name", "tone", "mine", "own", "old")},
                         {"agent_name": "Two", "tone": "brisk", "mine": "edited", "own": "the tenant's", "old": ""})
        config, key = stage.db.config(sub.uuid), stage.db.one("SELECT * FROM agent_api_key")
        self.assertEqual((self.kept(stage, sub), config["plan_tier"], config["variables_due"]), (before, "enterprise", []))
        self.assertEqual((key["rate_limit"], key["allowed_domains"]), ("900/minute", ["a.example"]))
        say("said again, it writes nothing")
        stage.langflow.clear_log()
        self.edit(stage, sub, tone="edited again")
        stage.langflow.clear_log()
        stage.producer.send(sub.updated(plan={"tier": "enterprise"}, api_key={"rate_limit": "900/minute"}))
        stage.promise(expected)
        self.assertEqual((stage.langflow.mutations(), self.variables(stage, sub)["tone"]), ([], "edited again"))
        self.assertEqual(self.kinds(stage, sub), ["provision", "update", "update"])

    def test_retrieval_comes_and_goes(self):
        """Its key is good all the while, even where RAGFlow is not."""
        stage = self.stage(overrides={"retry.initial": "200ms", "retry.max": "1s"})
        sub = Subscription("gains", 1, rag=False, offering="faq")
        stage.producer.send(sub.created())
        stage.promise({sub.uuid: Expected(True, False, sub.name)})
        stage.ragflow.fault("fail_before", every=True, status=500)
        stage.producer.send(sub.updated(rag=True, knowledge_base={"chunk_size": 512}))
        eventually(lambda: stage.ragflow.fired() > 0, 30, "RAGFlow is asked", describe=stage.describe)
        self.assertEqual(self.admitted(stage, sub), True)
        stage.ragflow.clear_faults()
        stage.promise({sub.uuid: Expected(True, True, sub.name)})
        stage.producer.send(sub.updated(rag=False))
        stage.promise({sub.uuid: Expected(True, False, sub.name)})
        self.assertFalse(self.variables(stage, sub)["ragflow_collection_id"])
        self.assertEqual(stage.ragflow.objects(), [])

    def test_suspended_while_langflow_is_down(self):
        """The key is refused at once; the workspace is shut when that can be done."""
        stage = self.stage(overrides={"retry.initial": "200ms", "retry.max": "1s"})
        sub = Subscription("down", 1)
        stage.producer.send(sub.created())
        stage.promise({sub.uuid: Expected(True, name=sub.name)})
        stage.installation.command("pause", "--runtime", "shared-eu")
        stage.producer.send(sub.suspended())
        eventually(lambda: self.admitted(stage, sub) == "subscription not active", 30, "the key is refused",
                   describe=stage.describe)
        self.assertEqual(self.variables(stage, sub)["waldur_status"], "active")
        stage.installation.command("resume", "--runtime", "shared-eu")
        stage.promise({sub.uuid: Expected(True, name=sub.name, suspended=True)})

    def test_they_come_as_they_like(self):
        """Suspended before it is created, updated before either, ended and told more of: the times decide."""
        stage = self.stage()
        early, ended, first = (Subscription("order", i) for i in range(3))
        created, suspended = early.created(), early.suspended()
        stage.producer.send(suspended)
        stage.settled()
        stage.producer.send(created)
        ending = [ended.created(), ended.terminated(), ended.updated(), ended.resumed()]
        stage.producer.send(*ending[::-1])
        told = [first.created(), first.updated(variables={"agent_name": "Later"})]
        stage.producer.send(*told[::-1])
        stage.promise({early.uuid: Expected(True, known=False, suspended=True), ended.uuid: Expected(False, known=False),
                       first.uuid: Expected(True, name=first.name)})
        self.assertIsNone(stage.db.config(early.uuid))
        self.assertEqual(self.variables(stage, first)["agent_name"], "Later")
        stage.producer.send(early.resumed())
        stage.promise({early.uuid: Expected(True, name=early.name), ended.uuid: Expected(False, known=False),
                       first.uuid: Expected(True, name=first.name)})

    def test_an_update_of_what_is_being_made(self):
        stage = self.stage()
        sub = Subscription("hurried", 1)
        stage.langflow.fault("delay_reply", method="POST", ms=2000)
        stage.producer.send(sub.created())
        eventually(lambda: stage.langflow.marked(sub.uuid), 30, "the workspace is being made", describe=stage.describe)
        stage.producer.send(sub.updated(variables={"agent_name": "Later"}))
        stage.promise({sub.uuid: Expected(True, name=sub.name)})
        self.assertEqual((self.kinds(stage, sub), self.variables(stage, sub)["agent_name"]), (["provision"] * 2, "Later"))

    # ---- the products themselves ----

    def run_flow(self, stage, sub, key):
        return stage.langflow.call("POST", "/run/" + flow_uuid(sub.uuid), {"input_value": "hello"}, key=key)[0]

    def whole_life(self, langflow):
        stage = self.stage(dialect="native", profiles=(langflow, None), overrides={"retention.chat_history": "30d"})
        foreign = stage.plant_foreign(3)
        sub = Subscription("native", 1, variables={"agent_name": "One", "tone": "calm", "old": "x"})
        stage.producer.send(sub.created())
        stage.promise({sub.uuid: Expected.of(sub)}, foreign)
        before, key = self.kept(stage, sub), stage.runtime_key(sub.uuid)
        self.assertEqual(self.run_flow(stage, sub, key), 200)
        stage.ragflow.documents(before[2], "one.pdf", "two.pdf")
        tone, = (v for v in stage.langflow.account(sub.uuid)["variables"] if v["name"] == "tone")
        stage.langflow.do("PATCH", "/variables/" + tone["id"],
                          {"id": tone["id"], "name": "tone", "value": "edited", "type": "Generic", "default_fields": []}, key=key)
        say("suspended: shut, and nothing lost")
        stage.producer.send(sub.suspended())
        stage.promise({sub.uuid: Expected.of(sub, suspended=True)}, foreign)
        self.assertEqual((self.admitted(stage, sub), self.kept(stage, sub)), ("subscription not active", before))
        self.assertEqual(self.run_flow(stage, sub, key), 403)
        dataset, = stage.ragflow.marked(sub.uuid)
        self.assertEqual(dataset["document_count"], 2)
        say("resumed: the same account, its tenant's variables, its chats and documents")
        stage.producer.send(sub.resumed())
        stage.promise({sub.uuid: Expected.of(sub, own_variables={"tone"})}, foreign)
        self.assertEqual((self.admitted(stage, sub), self.kept(stage, sub)), (True, before))
        values = {v["name"]: v["value"] for v in stage.langflow.account(sub.uuid)["variables"]}
        self.assertEqual(values["tone"], "edited")
        flow, = stage.langflow.account(sub.uuid)["flows"]
        self.assertEqual((len(flow["messages"]), self.run_flow(stage, sub, stage.runtime_key(sub.uuid))), (1, 200))
        dataset, = stage.ragflow.marked(sub.uuid)
        self.assertEqual(dataset["document_count"], 2)
        say("updated: what the order changed, and that alone")
        stage.producer.send(sub.updated(variables={"agent_name": "Two", "tone": "calm", "more": "y"}))
        stage.promise({sub.uuid: Expected.of(sub, own_variables={"tone"})}, foreign)
        values = {v["name"]: v["value"] for v in stage.langflow.account(sub.uuid)["variables"]}
        self.assertEqual((values["agent_name"], values["tone"], values["more"], "old" in values), ("Two", "edited", "y", False))
        stage.producer.send(sub.updated(variables={"agent_name": "Two", "tone": "brisk", "more": "y"}))
        stage.promise({sub.uuid: Expected.of(sub)}, foreign)
        self.assertEqual(self.kept(stage, sub), before)
        say("ended")
        stage.producer.send(sub.suspended())
        stage.promise({sub.uuid: Expected.of(sub, suspended=True)}, foreign)
        stage.producer.send(sub.terminated())
        stage.promise({sub.uuid: Expected.of(sub, False, kept=True)}, foreign)

    def test_native_lives(self):
        for langflow in LANGFLOW_PROFILES:
            with self.subTest(langflow=langflow):
                self.whole_life(langflow)


class Kills(Killing):
    """Every subscription changes again and again while workers are killed."""

    in_the_middle = 0.3  # many an order has nothing to do by the time that its job begins

    def load(self, rng, number, living):
        if living and rng.random() < 0.7:
            sub = rng.choice(living)
            event = rng.choice([sub.updated, sub.suspended, sub.resumed, sub.resumed])()
            self.resting = {"subscription.suspended": self.resting | {sub.uuid},
                            "subscription.resumed": self.resting - {sub.uuid}}.get(event.document["type"], self.resting)
            return sub, event, True
        sub, event, active = super().load(rng, number, living)
        self.resting = self.resting - {sub.uuid}
        return sub, event, active

    def of(self, sub, active):
        return Expected.of(sub, active, known=False, suspended=sub.uuid in self.resting)

    def test_facade(self):
        self.resting = frozenset()
        self.kill_under_load(KILLS, SEED, (12, 30))

    def test_native(self):
        self.resting = frozenset()
        self.kill_under_load(KILLS // 2, SEED, (8, 20), dialect="native")


if __name__ == "__main__":
    main()
