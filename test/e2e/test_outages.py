"""
Servers go away and come back. The worker stays up, says so once, and goes on by itself.

OUTAGE_S: how long the upstreams are away (default 60).
"""

import collections
import json
import os
import time

from harness import Case, Expected, Subscription, Worker, eventually, main, say

OUTAGE_S = int(os.environ.get("OUTAGE_S", "60"))
REPEATS_MAX = 5  # of one complaint in one outage


class Outages(Case):
    def readyz(self, worker, status, word):
        def check():
            answer, text = worker.get("/readyz")
            assert answer == status and word in text.lower(), f"/readyz: {answer} {text}"
            return True

        eventually(check, 60, f"/readyz is {status} and speaks of {word!r}", describe=worker.tail)

    def complaints(self, worker, before):
        """Warnings and errors since."""
        return [e for e in worker.logs()[before:] if e.get("level") in ("warn", "error")]

    def check_told_once(self, worker, before, word):
        lines = self.complaints(worker, before)
        told = collections.Counter(e.get("event") for e in lines)
        self.assertTrue(any(word in json.dumps(e).lower() for e in lines), f"nothing about {word!r} in the log: {told}")
        flood = {k: n for k, n in told.items() if n > REPEATS_MAX}
        self.assertEqual(flood, {}, worker.tail(40))
        say(f"in the log: {dict(told)}")

    def check_pid(self, worker, pid):
        self.assertTrue(worker.alive(), worker.tail())
        self.assertEqual(worker.pid, pid)

    def test_postgres_goes_away(self):
        stage = self.stage()
        worker, expected = stage.workers[0], {}

        def send(n):
            for _ in range(n):
                sub = Subscription("postgres", len(expected))
                stage.producer.send(sub.created())
                expected[sub.uuid] = Expected(True, name=sub.name)

        send(10)
        stage.promise(expected)
        pid = worker.pid
        for how in ("stop", "kill"):
            say(f"PostgreSQL: {how}, under load")
            before = len(worker.logs())
            send(20)
            getattr(self.postgres, how)()
            stage.db.close()
            self.readyz(worker, 503, "database")
            self.assertEqual(worker.get("/healthz")[0], 200)
            send(10)
            time.sleep(8)
            self.check_pid(worker, pid)
            self.postgres.start()
            self.readyz(worker, 200, "")
            stage.promise(expected, timeout=120)
            self.check_told_once(worker, before, "database")
        say("PostgreSQL: restart")
        send(20)
        self.postgres.restart()
        stage.promise(expected, timeout=120)
        self.check_pid(worker, pid)

    def test_connections_are_killed(self):
        stage = self.stage()
        expected = {}
        for round in range(10):
            for _ in range(10):
                sub = Subscription("cut", len(expected))
                stage.producer.send(sub.created(), flush=False)
                expected[sub.uuid] = Expected(True)
            stage.producer.flush()
            time.sleep(0.1)
            stage.db.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                          "WHERE datname = current_database() AND pid <> pg_backend_pid()")
        stage.promise(expected, timeout=120)

    def test_kafka_goes_away(self):
        stage = self.stage()
        outcomes = stage.reader("outcomes")
        worker, expected = stage.workers[0], {}

        def send(n):
            for _ in range(n):
                sub = Subscription("kafka", len(expected))
                stage.producer.send(sub.created(), flush=False)
                expected[sub.uuid] = Expected(True, name=sub.name)

        send(10)
        stage.promise(expected)
        pid, before = worker.pid, len(worker.logs())
        say("Kafka: stop, under load")
        for standin in (stage.langflow, stage.ragflow):
            standin.fault("delay", every=True, ms=500, path_prefix="/api/")
        send(20)
        stage.taken_in()
        self.kafka.stop()
        self.readyz(worker, 503, "kafka")
        self.assertEqual(worker.get("/healthz")[0], 200)
        eventually(lambda: stage.db.live_jobs() == 0, 60, "jobs go on without Kafka", describe=stage.describe)
        time.sleep(10)
        self.check_pid(worker, pid)
        self.kafka.restart()
        self.readyz(worker, 200, "")
        send(10)
        stage.producer.flush()
        stage.promise(expected, timeout=120)
        self.check_told_once(worker, before, "kafka")
        eventually(lambda: {e["subject"] for e in outcomes.events()} == set(expected), 60, "every outcome is told")

    def upstream_away(self, refuse, word):
        stage = self.stage(overrides={"retry.max": "5s"})
        worker, expected = stage.workers[0], {}

        def send(n, offering):
            for _ in range(n):
                sub = Subscription("away", len(expected), offering=offering)
                stage.producer.send(sub.created(), flush=False)
                expected[sub.uuid] = Expected(True, sub.rag, sub.name)
            stage.producer.flush()

        send(5, "csa")
        stage.promise(expected)
        pid, before = worker.pid, len(worker.logs())
        say(f"{word} is away for {OUTAGE_S} s")
        standin = stage.ragflow if word == "ragflow" else stage.langflow
        standin.down(OUTAGE_S * 1000, refuse=refuse)
        end = time.monotonic() + OUTAGE_S
        send(30, "csa")
        if word == "ragflow":
            send(10, "faq")
            others = [u for u, e in expected.items() if not e.rag]
            eventually(lambda: all((stage.db.config(u) or {}).get("status") == "ready" for u in others), OUTAGE_S,
                       "what needs no collection goes on", describe=stage.describe)
        eventually(lambda: word in worker.get("/readyz")[1].lower(), OUTAGE_S, f"/readyz speaks of {word}",
                   describe=lambda: worker.get("/readyz")[1])
        while time.monotonic() < end:
            time.sleep(1)
            self.check_pid(worker, pid)
        stage.promise(expected, timeout=90)
        self.check_told_once(worker, before, word)
        self.assertEqual(stage.db.value("SELECT count(*) FROM provisioning_job WHERE state = 'failed'"), 0)
        self.readyz(worker, 200, "")

    def test_ragflow_refuses_connections(self):
        self.upstream_away(True, "ragflow")

    def test_langflow_cuts_off(self):
        self.upstream_away(False, "langflow")

    def test_a_credential_that_stops_working_holds_the_runtime(self):
        stage = self.stage()
        first, second = Subscription("credential", 1), Subscription("credential", 2)
        stage.producer.send(first.created())
        stage.promise({first.uuid: Expected(True)})
        stage.langflow.fault("status", every=True, status=401, path_prefix="/api/", body={"detail": "bad key"})
        stage.producer.send(second.created())
        eventually(lambda: [j["state"] for j in stage.db.jobs(second.uuid)] == ["held"], 30, "the job is held",
                   describe=stage.describe)
        self.assertEqual(stage.db.jobs(second.uuid)[0]["error_class"], "unauthorized")
        stage.langflow.clear_faults()
        stage.promise({first.uuid: Expected(True), second.uuid: Expected(True)}, timeout=120)

    def test_the_schema_is_missing(self):
        """A worker that starts before its migration says so and comes up when it is there."""
        stage = self.stage(workers=0)
        stage.db.rows("ALTER SCHEMA agent_marketplace RENAME TO away")
        worker = Worker(stage.installation, "early")
        stage.workers.append(worker)
        worker.start(ready=False)
        self.readyz(worker, 503, "schema")
        stage.db.rows("ALTER SCHEMA away RENAME TO agent_marketplace")
        worker.wait_ready(60)


if __name__ == "__main__":
    main()
