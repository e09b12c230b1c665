"""RAGFlow tenants of organizations and of subscriptions, made through the admin service."""

from harness import Case, Expected, Subscription, eventually, main, say
from test_native_replies import NativeReplies
from test_lost_replies import SPOILT


class Tenancy(Case):
    partitions = 1

    def tenant_of(self, stage, sub):
        return stage.db.config(sub.uuid)["knowledge_base_tenant"]

    def live(self, stage, tenancy):
        foreign = stage.plant_foreign(3)
        subs = [Subscription(tenancy, i, organization=f"org-{i % 2}", offering="faq" if i == 5 else "csa")
                for i in range(6)]
        stage.producer.send(*(s.created() for s in subs))
        stage.promise({s.uuid: Expected.of(s) for s in subs}, foreign)
        return subs, foreign

    def test_a_tenant_for_each_subscription(self):
        stage = self.stage(dialect="native", tenancy="subscription")
        before = len(stage.ragflow.tenants())
        subs, foreign = self.live(stage, "subscription")
        retrieving = [s for s in subs if s.rag]
        self.assertEqual(len({self.tenant_of(stage, s) for s in retrieving}), len(retrieving))
        say("a tenant's key opens its own collection, and no other")
        for sub in retrieving:
            seen = stage.ragflow.do("GET", "/datasets", key=stage.runtime_key(sub.uuid, "ragflow"))
            self.assertEqual([d["id"] for d in seen], [stage.db.config(sub.uuid)["knowledge_base_id"]])
        keys = [stage.runtime_key(s.uuid, "ragflow") for s in retrieving]
        for sub in retrieving:
            stage.ragflow.documents(stage.db.config(sub.uuid)["knowledge_base_id"], "document.pdf")
        say("steady, and then all of them go")
        stage.producer.send(*(s.created() for s in subs))
        stage.promise({s.uuid: Expected.of(s) for s in subs}, foreign)
        self.assertEqual([stage.runtime_key(s.uuid, "ragflow") for s in retrieving], keys)
        stage.producer.send(*(s.terminated() for s in subs))
        stage.promise({s.uuid: Expected.of(s, False) for s in subs}, foreign)
        # The stage's own two, and the foreign one.
        self.assertEqual(len(stage.ragflow.tenants()), before + 1)
        for key in keys:
            self.assertEqual(stage.ragflow.call("GET", "/datasets", key=key)[0], 401)
        say("and one comes back")
        stage.producer.send(retrieving[0].created())
        stage.promise({s.uuid: Expected.of(s, s is retrieving[0]) for s in subs}, foreign)

    def test_a_tenant_for_each_organization(self):
        stage = self.stage(dialect="native", tenancy="organization")
        subs, foreign = self.live(stage, "organization")
        retrieving = [s for s in subs if s.rag]
        tenants = {(s.organization["slug"], self.tenant_of(stage, s)) for s in retrieving}
        self.assertEqual(len(tenants), 2, tenants)
        stage.producer.send(*(s.terminated() for s in subs[:3]))
        expected = {s.uuid: Expected.of(s, s not in subs[:3]) for s in subs}
        stage.promise(expected, foreign)
        stage.producer.send(*(s.terminated() for s in subs[3:]))
        stage.promise({s.uuid: Expected.of(s, False) for s in subs}, foreign)

    def test_somebody_else_logs_in(self):
        """Each login ends the session before it: ours is renewed, once, and not by everybody."""
        stage = self.stage(dialect="native", tenancy="subscription")
        stage.ragflow.fault("status", path_prefix="/api/v1/admin/users", nth=4, count=3, status=401,
                            body="<!doctype html><h1>Unauthorized</h1>", headers={"Content-Type": "text/html"})
        subs = [Subscription("session", i) for i in range(8)]
        stage.producer.send(*(s.created() for s in subs))
        stage.promise({s.uuid: Expected.of(s) for s in subs}, timeout=90)
        logins = [e for e in stage.ragflow.log() if e["path"] == "/api/v1/admin/login"]
        say(f"{len(logins)} logins")
        self.assertLessEqual(len(logins), 5)

    def test_sessions_that_end_at_once(self):
        """As those of replicas do, whose logins end each other's. It is no refusal, for which jobs would be held."""
        stage = self.stage(dialect="native", tenancy="subscription")
        stage.ragflow.fault("status", path_prefix="/api/v1/admin/users", every=True, count=6, status=401,
                            body="<!doctype html><h1>Unauthorized</h1>", headers={"Content-Type": "text/html"})
        sub = Subscription("robbed", 1)
        stage.producer.send(sub.created())
        stage.promise({sub.uuid: Expected.of(sub)})
        self.assertEqual(stage.ragflow.fired(), 6)
        self.assertEqual(stage.db.value("SELECT count(*) FROM audit_log WHERE action = 'job.held'"), 0)
        self.assertEqual(stage.db.value("SELECT max(attempts) FROM provisioning_job"), 0)

    def test_two_replicas_at_one_admin_service(self):
        stage = self.stage(workers=2, partitions=4, dialect="native", tenancy="subscription")
        for standin in (stage.langflow, stage.ragflow):
            standin.fault("delay_reply", every=True, ms=20, path_prefix="/api/")
        subs = [Subscription("sessions", i) for i in range(60)]
        stage.producer.send(*(s.created() for s in subs))
        stage.promise({s.uuid: Expected.of(s) for s in subs}, timeout=120)
        ended = [e for e in stage.ragflow.log() if e["path"].startswith("/api/v1/admin/users") and e["status"] == 401]
        say(f"{len(ended)} requests came with a session that had ended")

    def test_a_wrong_password_of_the_admin_service(self):
        stage = self.stage(dialect="native", tenancy="subscription")
        stage.ragflow.settings(refuse_login=True)
        sub = Subscription("refused", 1)
        stage.producer.send(sub.created())

        def waits():
            jobs = stage.db.jobs(sub.uuid)
            return jobs and jobs[-1]["state"] == "held" and jobs[-1]["error"]

        said = eventually(waits, 30, "the job is held", describe=stage.describe)
        say(said)
        stage.ragflow.settings(refuse_login=False)
        stage.promise({sub.uuid: Expected.of(sub)}, timeout=90)


class TenantsReplies(NativeReplies):
    def test_changes(self):
        self.run_all("0", lambda c: self.changes(c) and c.product == "ragflow", SPOILT, tenancy="subscription")


if __name__ == "__main__":
    main()
