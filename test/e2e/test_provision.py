"""A created event makes a workspace, a collection and a key; a terminated one takes them away."""

import hashlib
import json
import re

from harness import Case, Expected, MARKER, Subscription, eventually, main, say

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TRACE = TRACEPARENT.split("-")[1]


class Provision(Case):
    def outcome(self, reader, subscription, kind):
        """The outcome events of one type for one subscription, at least one."""
        def found():
            return [e for e in reader.events()
                    if e["type"] == f"subscription.{kind}" and e["subject"] == subscription.uuid]

        return eventually(found, 30, f"subscription.{kind} of {subscription.uuid} is told")

    def ready_config(self, stage, subscription, timeout=30):
        def ready():
            config = stage.db.config(subscription.uuid)
            return config if config and config["status"] == "ready" else None

        return eventually(ready, timeout, f"{subscription.uuid} is ready", describe=stage.describe)

    def test_one_life(self):
        stage = self.stage()
        outcomes = stage.reader("outcomes")
        foreign = stage.plant_foreign(3)
        sub = Subscription("life", 1, organization="acme-corp", project="website-support", id="001",
                           variables={"agent_name": "Support Assistant", "tone": "professional"})
        stage.producer.send(sub.created(TRACEPARENT, api_key={
            "permissions": ["chat", "upload_document"], "allowed_domains": ["example.com", "*.example.com"],
            "rate_limit": "100/minute", "expires_at": None}))
        stage.promise({sub.uuid: Expected(True, name="acme-corp-website-support-csa-001")}, foreign)
        config = self.ready_config(stage, sub)
        say("ready; now what is recorded")
        self.check_record(config, sub)
        self.check_upstream(stage, config, sub)
        key = self.check_key(stage, config, sub)
        ready = self.outcome(outcomes, sub, "ready")
        self.assertEqual(len(ready), 1)
        self.assertEqual(ready[0]["data"]["workspace_id"], config["runtime_workspace_id"])
        self.assertEqual(ready[0]["data"]["order_uuid"], sub.order)
        self.assertIn(TRACE, ready[0].get("traceparent", ""))

        say("terminated")
        stage.producer.send(sub.terminated())
        stage.promise({sub.uuid: Expected(False)}, foreign)
        self.assertEqual(stage.db.config(sub.uuid)["status"], "purged")
        self.assertEqual(len(self.outcome(outcomes, sub, "purged")), 1)
        refused = stage.db.one("SELECT * FROM authenticate_api_key(%s, %s)", key, "https://example.com")
        self.assertEqual((refused["allowed"], refused["reason"]), (False, "revoked"))

    def check_record(self, config, sub):
        self.assertEqual(str(config["organization_uuid"]), sub.organization["uuid"])
        self.assertEqual(config["organization_slug"], "acme-corp")
        self.assertEqual(str(config["project_uuid"]), sub.project["uuid"])
        self.assertEqual((config["project_slug"], config["offering_type"], config["plan_tier"]),
                         ("website-support", "csa", "pro"))
        self.assertEqual((config["runtime"], config["runtime_name"]), ("shared", "shared-eu"))
        self.assertEqual(config["capabilities"], ["rag"])
        self.assertEqual(config["variables"]["agent_name"], "Support Assistant")
        self.assertIsNotNone(config["ready_at"])

    def check_upstream(self, stage, config, sub):
        workspace, = stage.langflow.marked(sub.uuid)
        collection, = stage.ragflow.marked(sub.uuid)
        self.assertEqual(workspace["flow_id"], "customer-support-agent-v1")
        self.assertEqual(workspace["variables"]["agent_name"], "Support Assistant")
        self.assertEqual(workspace["variables"]["ragflow_collection_id"], collection["id"])
        self.assertEqual(workspace["variables"]["ragflow_url"], stage.ragflow.url)
        self.assertEqual(workspace["variables"]["waldur_subscription"], MARKER + sub.uuid)
        self.assertEqual((collection["embedding_model"], collection["chunk_size"], collection["chunk_overlap"]),
                         ("text-embedding-3-small", 512, 50))
        for standin in (stage.langflow, stage.ragflow):
            for entry in standin.log():
                self.assertIn(TRACE, entry["headers"].get("traceparent", ""), entry)
                self.assertRegex(entry["headers"]["traceparent"], "^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$")
                self.assertEqual(entry["headers"]["authorization"], "***")

    def check_key(self, stage, config, sub):
        row = stage.db.one("SELECT * FROM agent_api_key WHERE subscription_uuid = %s", sub.uuid)
        key = stage.reveal.open(row["sealed_key"])
        self.assertRegex(key, "^pk_live_[0-9A-Za-z]{28,}$")
        self.assertEqual(bytes(row["key_hash"]), hashlib.sha256(key.encode()).digest())
        self.assertTrue(key.startswith(row["prefix"]))
        self.assertLess(len(row["prefix"]), len(key) - 20)
        self.assertEqual(config["api_key"], row["prefix"])
        self.assertEqual((row["permissions"], row["allowed_domains"], row["rate_limit"], row["expires_at"]),
                         (["chat", "upload_document"], ["example.com", "*.example.com"], "100/minute", None))
        allowed = stage.db.one("SELECT * FROM authenticate_api_key(%s, %s)", key, "https://www.example.com")
        self.assertEqual((allowed["allowed"], str(allowed["subscription_uuid"])), (True, sub.uuid))
        other = stage.db.one("SELECT * FROM authenticate_api_key(%s, %s)", key, "https://example.org")
        self.assertEqual((other["allowed"], other["reason"]), (False, "domain not allowed"))
        return key

    def test_binary_mode_and_offerings_without_retrieval(self):
        stage = self.stage()
        subs = [Subscription("binary", i, offering="faq" if i % 2 else "csa") for i in range(4)]
        stage.producer.send(*(s.created() for s in subs), binary=True)
        stage.promise({s.uuid: Expected(True, s.rag, s.name) for s in subs})
        self.assertEqual(len(stage.ragflow.objects()), 2)
        stage.producer.send(*(s.terminated() for s in subs), binary=True)
        stage.promise({s.uuid: Expected(False) for s in subs})

    def test_uuids_without_dashes(self):
        stage = self.stage()
        sub = Subscription("dashless", 1)
        event = sub.created()
        text = re.sub(r"([0-9a-f]{8})-([0-9a-f]{4})-([0-9a-f]{4})-([0-9a-f]{4})-([0-9a-f]{12})",
                      lambda m: "".join(m.groups()).upper(), json.dumps(event.document["data"]))
        event.document["data"] = json.loads(text)
        stage.producer.send(event)
        stage.promise({sub.uuid: Expected(True, name=sub.name)})

    def test_duplicates_do_nothing(self):
        stage = self.stage()
        outcomes = stage.reader("outcomes")
        sub = Subscription("twice", 1)
        created = sub.created()
        stage.producer.send(created, created, created)
        stage.promise({sub.uuid: Expected(True, name=sub.name)})
        stage.producer.send(created, binary=True)
        terminated = sub.terminated()
        stage.producer.send(terminated, created, terminated, created)
        stage.promise({sub.uuid: Expected(False)})
        self.assertEqual([j["kind"] for j in stage.db.jobs(sub.uuid)], ["provision", "terminate"])
        self.assertEqual(stage.db.events(), 2)
        posts = [e for s in (stage.langflow, stage.ragflow) for e in s.mutations() if e["method"] == "POST"]
        self.assertEqual(len(posts), 2)
        self.assertEqual([e["type"] for e in outcomes.events()], ["subscription.ready", "subscription.purged"])

    def test_terminated_before_created(self):
        stage = self.stage()
        sub = Subscription("early", 1)
        created, terminated = sub.created(), sub.terminated()
        stage.producer.send(terminated)
        stage.settled()
        stage.producer.send(created)
        stage.promise({sub.uuid: Expected(False, known=False)})
        self.assertEqual(stage.langflow.mutations() + stage.ragflow.mutations(), [])

    def test_terminated_while_a_create_is_in_flight(self):
        stage = self.stage()
        sub = Subscription("in-flight", 1)
        stage.langflow.fault("delay_reply", method="POST", ms=2000)
        stage.producer.send(sub.created())
        eventually(lambda: stage.langflow.marked(sub.uuid), 30, "the workspace is being made", describe=stage.describe)
        stage.producer.send(sub.terminated())
        stage.promise({sub.uuid: Expected(False)})

    def test_restored_by_a_new_order(self):
        stage = self.stage()
        outcomes = stage.reader("outcomes")
        sub = Subscription("again", 1)
        seen = set()
        for life in range(3):
            stage.producer.send(sub.created())
            stage.promise({sub.uuid: Expected(True, name=sub.name)})
            config = self.ready_config(stage, sub)
            seen.add(config["api_key"])
            stage.producer.send(sub.terminated())
            stage.promise({sub.uuid: Expected(False)})
        self.assertEqual(len(seen), 3, "every life has a key of its own")
        self.assertEqual(len(self.outcome(outcomes, sub, "ready")), 3)
        eventually(lambda: len(self.outcome(outcomes, sub, "purged")) == 3, 20, "three purges are told")

    def test_chat_history_waits_for_its_day(self):
        stage = self.stage(overrides={"retention.chat_history": "30d"})
        sub, other = Subscription("kept", 1), Subscription("kept", 2)
        stage.producer.send(sub.created(), other.created())
        stage.settled()
        stage.producer.send(sub.terminated())
        expected = {sub.uuid: Expected(False, kept=True), other.uuid: Expected(True)}
        stage.promise(expected)
        workspace, = stage.langflow.marked(sub.uuid)
        self.assertEqual(workspace["variables"]["waldur_status"], "closed")
        self.assertEqual(stage.db.config(sub.uuid)["status"], "archived")
        stage.installation.command("retention")
        stage.promise(expected)
        say("thirty-one days later")
        later = stage.db.value("SELECT to_char((now() + interval '31 days') AT TIME ZONE 'UTC', "
                               "'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')")
        stage.installation.command("retention", "--now", later, "--dry-run")
        stage.promise(expected)
        for _ in range(2):
            stage.installation.command("retention", "--now", later)
            stage.promise({sub.uuid: Expected(False), other.uuid: Expected(True)})

    def test_restored_before_its_chat_history_is_due(self):
        stage = self.stage(overrides={"retention.chat_history": "30d"})
        sub = Subscription("reopened", 1)
        stage.producer.send(sub.created())
        stage.promise({sub.uuid: Expected(True, name=sub.name)})
        workspace, = stage.langflow.marked(sub.uuid)
        stage.producer.send(sub.terminated())
        stage.promise({sub.uuid: Expected(False, kept=True)})
        stage.producer.send(sub.created())
        stage.promise({sub.uuid: Expected(True, name=sub.name)})
        reopened, = stage.langflow.marked(sub.uuid)
        self.assertEqual(reopened["id"], workspace["id"], "the chat history is still there")
        self.assertEqual(reopened["variables"]["waldur_status"], "active")

    def test_a_foreign_object_of_the_same_name_is_a_conflict(self):
        stage = self.stage()
        sub, good = Subscription("clash", 1), Subscription("clash", 2)
        foreign = stage.plant_foreign(0, names=[sub.name])
        stage.producer.send(sub.created(), good.created())
        stage.settled()
        job, = stage.db.jobs(sub.uuid)
        self.assertEqual((job["state"], job["error_class"]), ("failed", "conflict"))
        self.assertEqual(stage.db.config(sub.uuid)["status"], "failed")
        stage.producer.send(sub.terminated())
        stage.promise({sub.uuid: Expected(False), good.uuid: Expected(True)}, foreign)

    def test_two_subscriptions_of_one_name(self):
        stage = self.stage()
        first = Subscription("same", 1, organization="acme", project="web", id="7")
        second = Subscription("same", 2, organization="acme", project="web", id="007")
        stage.producer.send(first.created())
        stage.settled()
        stage.producer.send(second.created())
        stage.settled()
        job, = stage.db.jobs(second.uuid)
        self.assertEqual((job["state"], job["error_class"]), ("failed", "conflict"))
        self.assertIn(first.uuid, job["error"])
        self.assertIn(second.uuid, job["error"])
        stage.producer.send(second.terminated())
        stage.promise({first.uuid: Expected(True, name="acme-web-csa-007"), second.uuid: Expected(False, known=False)})

    def test_replay_goes_on_from_the_failed_step(self):
        stage = self.stage()
        sub = Subscription("replay", 1)
        stage.langflow.fault("fail_before", method="POST", every=True, status=422, body={"detail": "flow is unknown"})
        stage.producer.send(sub.created())
        stage.settled()
        job, = stage.db.jobs(sub.uuid)
        self.assertEqual((job["state"], job["step"], job["error_class"]), ("failed", "workspace", "refused"))
        self.assertIn("flow is unknown", job["error"])
        listed = json.loads(stage.installation.command("jobs", "--state", "failed", "--json"))
        self.assertEqual([(j["subscription_uuid"], j["step"], j["state"]) for j in listed],
                         [(sub.uuid, "workspace", "failed")])
        stage.langflow.clear_faults()
        stage.ragflow.clear_log()
        stage.installation.command("replay", sub.uuid, "--yes", check=None)
        stage.promise({sub.uuid: Expected(True, name=sub.name)})
        self.assertEqual(stage.ragflow.mutations(), [], "the collection was not made again")
        shown = json.loads(stage.installation.command("show", sub.uuid, "--json"))
        self.assertIn("flow is unknown", json.dumps(shown))


if __name__ == "__main__":
    main()
