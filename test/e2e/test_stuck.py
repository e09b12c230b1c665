"""
Nothing stays stuck: a lease that is renewed at the last moment, rows that somebody keeps locked, statements that fail
alone, upstreams that say nothing, credentials and runtimes that come and go, orders that overtake each other.

STUCK_JOBS: how many wait for a silent upstream (default 400).
"""

import json
import os
import random
import signal
import threading
import time

import psycopg2

from harness import Case, Expected, Subscription, eventually, main, say

JOBS = int(os.environ.get("STUCK_JOBS", "400"))
SEED = int(os.environ.get("STUCK_SEED", "20261122"))
TRIGGER = """
CREATE FUNCTION public.trouble() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'no' USING ERRCODE = '{code}';
END $$;
CREATE TRIGGER zz_trouble BEFORE INSERT OR UPDATE ON {table} FOR EACH {level} {when} EXECUTE FUNCTION public.trouble()
"""


class Stuck(Case):
    def slow(self, stage, ms, kind="delay"):
        for standin in (stage.langflow, stage.ragflow):
            standin.fault(kind, every=True, ms=ms, path_prefix="/api/")

    def quick(self, stage):
        for standin in (stage.langflow, stage.ragflow):
            standin.clear_faults()

    def create(self, stage, name, n, first=0, **more):
        subs = [Subscription(name, first + i, **more) for i in range(n)]
        stage.producer.send(*(s.created() for s in subs))
        return {s.uuid: Expected(True, s.rag, s.name) for s in subs}

    def running(self, stage):
        return stage.db.value("SELECT count(*) FROM provisioning_job WHERE state = 'running'")

    def trouble(self, stage, table, code, level="ROW", when=""):
        stage.db.rows(TRIGGER.format(table=table, code=code, level=level, when=when))

    def no_trouble(self, stage):
        stage.db.rows("DROP FUNCTION public.trouble() CASCADE")

    def reload(self, stage, worker):
        """Writes the settings anew, tells the worker, and waits until it has read them."""
        before = len(worker.logs(event=RELOADED))
        stage.installation.config_file(worker.name, f"127.0.0.1:{worker.port}")
        worker.process.send_signal(signal.SIGHUP)
        eventually(lambda: len(worker.logs(event=RELOADED)) > before, 10, "it has read its configuration anew",
                   describe=worker.tail)

    # ---- leases ----

    def test_a_nap_nearly_as_long_as_the_lease(self):
        """It wakes up too late for another request, but early enough to renew: the jobs in hand must not be lost."""
        stage = self.stage(overrides={"worker.lease": "3s"})
        worker = stage.workers[0]
        self.slow(stage, 150)
        expected = self.create(stage, "nap", 30)
        eventually(lambda: self.running(stage) >= 10, 20, "jobs are in hand", describe=stage.describe)
        worker.process.send_signal(signal.SIGSTOP)
        left = "SELECT extract(epoch FROM max(lease_until) - clock_timestamp())::float FROM worker"
        while stage.db.value(left) > 0.6:
            time.sleep(0.02)
        worker.process.send_signal(signal.SIGCONT)
        stage.promise(expected, timeout=30)
        self.assertEqual(stage.db.value("SELECT count(*) FROM worker"), 1, "the lease was renewed in time")

    def test_a_nap_longer_than_the_lease(self):
        """What it then sends for a job of another's is nothing."""
        stage = self.stage(workers=2, overrides={"worker.lease": "3s", "worker.probe_settle": "200ms"})
        self.slow(stage, 300)
        expected = self.create(stage, "long-nap", 60)
        sleeper = eventually(lambda: next((w for w in stage.workers if stage.db.rows(
            "SELECT 1 FROM provisioning_job j JOIN worker w ON w.owner = j.lease_owner WHERE w.pid = %s OFFSET 10",
            w.pid)), None), 20, "jobs are in hand", describe=stage.describe)
        sleeper.process.send_signal(signal.SIGSTOP)
        mine = stage.db.rows("SELECT j.id, j.fence FROM provisioning_job j JOIN worker w ON w.owner = j.lease_owner "
                             "WHERE w.pid = %s AND j.state = 'running'", sleeper.pid)
        stale = {f"p{r['id']}.{r['fence']}." for r in mine}
        self.assertTrue(stale)
        stage.settled()
        for standin in (stage.langflow, stage.ragflow):
            standin.clear_log()
        sleeper.process.send_signal(signal.SIGCONT)
        expected.update(self.create(stage, "long-nap-after", 40, first=100))
        stage.promise(expected, timeout=60)
        for entry in stage.langflow.log() + stage.ragflow.log():
            sent = entry["headers"].get("x-request-id", "")
            self.assertFalse(any(sent.startswith(s) for s in stale), f"sent after waking: {entry}")
        eventually(lambda: sleeper.get("/readyz")[0] == 200, 10, "it works on", describe=sleeper.tail)

    # ---- statements that fail alone ----

    def test_a_row_that_somebody_keeps_locked(self):
        """It delays its own job; the others go on, under the same lease."""
        stage = self.stage(overrides={"worker.lease": "6s"})
        self.slow(stage, 200)
        expected = self.create(stage, "locked", 20)
        victim = next(iter(expected))
        eventually(lambda: [j["state"] for j in stage.db.jobs(victim)] == ["running"], 20, "it runs",
                   describe=stage.describe)
        conn = psycopg2.connect(stage.database_url)
        try:
            with conn.cursor() as c:
                c.execute("SELECT 1 FROM agent_marketplace.subscription WHERE uuid = %s FOR UPDATE", (victim,))
                others = [u for u in expected if u != victim]
                eventually(lambda: all((stage.db.config(u) or {}).get("status") == "ready" for u in others), 30,
                           "the others go on", describe=stage.describe)
                time.sleep(3)
        finally:
            conn.close()
        stage.promise(expected, timeout=30)
        self.assertEqual(stage.db.value("SELECT count(*) FROM worker"), 1, "the lease was kept")

    def test_a_job_that_cannot_be_written(self):
        """Every write of one job fails: the others do not notice, and it goes on when that is over."""
        stage = self.stage()
        subs = [Subscription("unwritable", i) for i in range(20)]
        self.slow(stage, 200)
        stage.producer.send(subs[0].created())
        eventually(lambda: [j["state"] for j in stage.db.jobs(subs[0].uuid)] == ["running"], 20, "it runs")
        self.trouble(stage, "provisioning_job", "XX001", when=f"WHEN (NEW.subscription_uuid = '{subs[0].uuid}')")
        self.others_go_on(stage, subs[1:10])
        self.assertLessEqual(len([e for e in stage.workers[0].logs() if e["level"] in ("warn", "error")]), 8)
        say("and now as the first that each claim meets")
        stage.workers[0].stop()
        self.assertEqual(self.running(stage), 1)
        stage.workers[0].start()
        self.others_go_on(stage, subs[10:])
        self.no_trouble(stage)
        stage.promise({s.uuid: Expected(True, name=s.name) for s in subs}, timeout=30)

    def others_go_on(self, stage, subs):
        stage.producer.send(*(s.created() for s in subs))
        eventually(lambda: all((stage.db.config(s.uuid) or {}).get("status") == "ready" for s in subs), 30,
                   "the others go on", describe=stage.describe)

    def test_a_full_disk(self):
        """No statement that writes works, while the connection lives: said once, no storm of retries; all goes on."""
        stage = self.stage()
        worker = stage.workers[0]
        self.slow(stage, 200)
        expected = self.create(stage, "full", 30)
        eventually(lambda: self.running(stage) > 5, 20, "jobs are in hand", describe=stage.describe)
        self.trouble(stage, "provisioning_job", "53100", "STATEMENT")
        self.trouble_more(stage, ("subscription", "subscription_event", "outbox", "worker"))
        before = len(worker.logs())
        expected.update(self.create(stage, "full-more", 30, first=100))
        time.sleep(2)
        spent = self.transactions(stage, 4)
        say(f"{spent} transactions in 4 s on a full disk")
        self.assertLess(spent, 400)
        told = [e["event"] for e in worker.logs()[before:] if e["level"] in ("warn", "error")]
        self.assertTrue(told and all(told.count(t) <= 5 for t in told), told)
        self.no_trouble(stage)
        stage.promise(expected, timeout=60)

    def trouble_more(self, stage, tables):
        for table in tables:
            stage.db.rows(f"CREATE TRIGGER zz_trouble BEFORE INSERT OR UPDATE OR DELETE ON {table} FOR EACH STATEMENT "
                          "EXECUTE FUNCTION public.trouble()")

    def transactions(self, stage, seconds):
        count = ("SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()")
        before = stage.db.value(count)
        time.sleep(seconds)
        return stage.db.value(count) - before

    def test_connections_die_all_the_time(self):
        """The worker's sessions end every 200 ms for some seconds, under load."""
        stage = self.stage(overrides={"worker.probe_settle": "200ms"})
        self.slow(stage, 30)
        over = threading.Event()

        def reaper():
            conn = psycopg2.connect(stage.database_url)
            conn.autocommit = True
            with conn.cursor() as c:
                while not over.wait(0.2):
                    c.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = "
                              "current_database() AND application_name = 'provisioner'")
            conn.close()

        thread = threading.Thread(target=reaper)
        thread.start()
        try:
            expected = self.create(stage, "reaped", 60)
            time.sleep(5)
        finally:
            over.set()
            thread.join()
        stage.promise(expected, timeout=60)

    # ---- upstreams ----

    def test_an_upstream_that_says_nothing(self):
        """Jobs that are held cost next to nothing, and all come back when it works again."""
        stage = self.stage(overrides={"runtimes.0.ragflow.timeout": "1s", "runtimes.0.ragflow.concurrency": 8})
        stage.ragflow.fault("hang", every=True, path_prefix="/api/")
        expected = self.create(stage, "silent", JOBS)
        stage.taken_in()
        held = "SELECT count(*) FROM provisioning_job WHERE state = 'held'"
        eventually(lambda: stage.db.value(held) >= JOBS - 2, 60, "the jobs are held", describe=stage.describe)
        # As after so long an outage that their own times have come.
        stage.db.rows("UPDATE provisioning_job SET next_attempt_at = now() WHERE state = 'held'")
        spent = self.transactions(stage, 5)
        say(f"{spent} transactions in 5 s with {JOBS} jobs held")
        self.assertLess(spent, 150)
        stage.ragflow.clear_faults()
        began = time.monotonic()
        stage.promise(expected, timeout=90)
        say(f"all settled {time.monotonic() - began:.1f} s after it works again")

    def test_an_upstream_that_asks_for_patience(self):
        """Everybody's requests wait as told, not only those of the job that was told."""
        stage = self.stage(overrides={"runtimes.0.ragflow.concurrency": 8})
        stage.ragflow.fault("status", every=True, path_prefix="/api/", status=429, headers={"Retry-After": "1"})
        expected = self.create(stage, "patience", 200)
        stage.taken_in()
        time.sleep(5)
        asked = len(stage.ragflow.log())
        say(f"asked {asked} times in 5 s")
        self.assertLess(asked, 100)
        stage.ragflow.clear_faults()
        stage.promise(expected, timeout=60)

    def test_a_credential_is_mended(self):
        """A reload is enough: nobody waits for the next rare look."""
        stage = self.stage()
        worker, good = stage.workers[0], stage.installation.settings["runtimes"][0]["langflow"]["api_key"]
        self.assertEqual(good, "env:LANGFLOW_API_KEY")
        stage.installation.set("runtimes.0.langflow.api_key", "not-the-right-one-at-all")
        self.reload(stage, worker)
        expected = self.create(stage, "credential", 10)
        eventually(lambda: stage.db.value("SELECT count(*) FROM provisioning_job WHERE state = 'held'") == 10, 20,
                   "the jobs are held", describe=stage.describe)
        self.assertNotIn("not-the-right-one-at-all", worker.text())
        stage.installation.set("runtimes.0.langflow.api_key", good)
        began = time.monotonic()
        self.reload(stage, worker)
        stage.promise(expected, timeout=15)
        say(f"all settled {time.monotonic() - began:.1f} s after the reload")

    def test_a_runtime_goes_and_comes_back(self):
        stage = self.stage()
        worker, runtime = stage.workers[0], stage.installation.settings["runtimes"][0]
        first = self.create(stage, "runtime", 3)
        stage.promise(first)
        self.slow(stage, 300)
        under_way = self.create(stage, "runtime-under-way", 10, first=100)
        eventually(lambda: self.running(stage) >= 5, 20, "jobs are in hand", describe=stage.describe)
        stage.installation.settings["runtimes"] = [{**runtime, "name": "another"}]
        self.reload(stage, worker)
        gone = {u: Expected(False) for u in first}
        subs = [Subscription("runtime", i) for i in range(3)]
        for s in subs:
            s.created()
        stage.producer.send(*(s.terminated() for s in subs))
        eventually(lambda: stage.db.value("SELECT count(*) FROM provisioning_job WHERE state = 'held' "
                                          "AND error LIKE '%%not in the configuration%%'") >= 3, 30,
                   "jobs are held and say why", describe=stage.describe)
        stage.installation.settings["runtimes"] = [runtime]
        self.quick(stage)
        self.reload(stage, worker)
        stage.promise({**gone, **under_way}, timeout=20)

    def test_reloads_under_load(self):
        stage = self.stage()
        worker, runtime = stage.workers[0], stage.installation.settings["runtimes"][0]
        self.slow(stage, 20)
        expected = self.create(stage, "reloaded", 150)
        rng = random.Random(SEED)
        while stage.db.live_jobs() or stage.db.events() < len(expected):
            other = {**runtime, "name": "another"}
            stage.installation.settings["runtimes"] = rng.choice([[runtime], [runtime, other], [other, runtime]])
            stage.installation.set("offerings.faq.flow", f"faq-{rng.randrange(1000)}")
            self.reload(stage, worker)
        stage.promise(expected, timeout=60)

    def test_the_drain_runs_out_of_time(self):
        """Requests that are not answered in time are left; their jobs are given back all the same."""
        stage = self.stage(overrides={"worker.drain": "3s"})
        worker = stage.workers[0]
        stage.langflow.fault("hang", every=True, path_prefix="/api/")
        expected = self.create(stage, "undrained", 10)
        eventually(lambda: stage.db.value("SELECT count(*) FROM provisioning_job WHERE step = 'workspace' AND "
                                          "state = 'running'") == 10, 20, "all ask and wait", describe=stage.describe)
        began = time.monotonic()
        worker.stop(timeout=10)
        say(f"drained in {time.monotonic() - began:.1f} s")
        self.assertEqual(self.running(stage), 0, "nobody has to wait for the lease's end")
        stage.langflow.clear_faults()
        worker.start()
        stage.promise(expected, timeout=30)

    def test_a_second_signal_ends_at_once(self):
        stage = self.stage(overrides={"worker.lease": "3s"})
        worker = stage.workers[0]
        stage.langflow.fault("hang", every=True, path_prefix="/api/")
        expected = self.create(stage, "impatient", 5)
        eventually(lambda: stage.db.value("SELECT count(*) FROM provisioning_job WHERE step = 'workspace' AND "
                                          "state = 'running'") == 5, 20, "all ask and wait", describe=stage.describe)
        worker.process.send_signal(signal.SIGTERM)
        time.sleep(1)
        self.assertTrue(worker.alive(), "requests under way are heard out")
        worker.stop(timeout=3)
        stage.langflow.clear_faults()
        worker.start()
        stage.promise(expected, timeout=40)

    def test_it_ends_while_the_database_is_away(self):
        stage = self.stage()
        worker = stage.workers[0]
        self.slow(stage, 300)
        expected = self.create(stage, "away", 20)
        eventually(lambda: self.running(stage) > 5, 20, "jobs are in hand", describe=stage.describe)
        stage.db.close()
        self.postgres.kill()
        expected.update(self.create(stage, "away-more", 5, first=100))
        time.sleep(1)
        worker.stop(timeout=15)
        self.postgres.start()
        self.quick(stage)
        worker.start()
        stage.promise(expected, timeout=60)

    # ---- orders that overtake each other ----

    def test_superseded_anywhere(self):
        """Terminated and created again at every moment of a life: nothing is left behind, nothing is missing."""
        stage = self.stage(overrides={"worker.probe_settle": "200ms"})
        self.slow(stage, 60)
        foreign = stage.plant_foreign(5)
        rng = random.Random(SEED)
        expected, plan = {}, []
        for i in range(60):
            sub = Subscription("overtaken", i, offering="faq" if i % 4 == 0 else "csa")
            events = [sub.created(), sub.terminated(), sub.created(), sub.terminated()][:rng.choice((2, 3, 3, 4))]
            at = rng.uniform(0, 1)
            for event in events:
                plan.append((at, event))
                at += rng.uniform(0.02, 0.9)
            active = len(events) == 3
            expected[sub.uuid] = Expected(active, sub.rag, sub.name if active else None, known=False)
        began = time.monotonic()
        for at, event in sorted(plan, key=lambda p: p[0]):
            time.sleep(max(0, began + at - time.monotonic()))
            stage.producer.send(event, flush=False)
            stage.producer._producer.poll(0)
        stage.producer.flush()
        stage.promise(expected, foreign, timeout=60)

    def test_a_delete_that_lands_late(self):
        """It was given up as unanswered; the server performs it after the subscription was ordered anew."""
        stage = self.stage(overrides={"runtimes.0.langflow.timeout": "1s", "runtimes.0.ragflow.timeout": "1s",
                                      "worker.probe_settle": "300ms"})
        subs = {standin: Subscription("late-delete", i) for i, standin in enumerate((stage.langflow, stage.ragflow))}
        expected = {s.uuid: Expected(True, name=s.name) for s in subs.values()}
        stage.producer.send(*(s.created() for s in subs.values()))
        stage.promise(expected)
        late = {}
        for standin, sub in subs.items():
            path = f"{standin.root}/{standin.marked(sub.uuid)[0]['id']}"
            late[standin] = path
            standin.clear_log()
            standin.fault("delay", method="DELETE", path_prefix=path, nth=1, ms=4000)
        stage.producer.send(*(s.terminated() for s in subs.values()))
        for standin in subs:
            eventually(lambda: [e for e in standin.mutations() if e["path"] == late[standin]], 20,
                       "the delete is under way", describe=stage.describe)
        stage.producer.send(*(s.created() for s in subs.values()))
        stage.promise(expected, timeout=30)
        for standin in subs:
            eventually(lambda: [e for e in standin.mutations() if e["fault"] == "delay" and e["acted"]], 20,
                       "the late delete has landed", describe=lambda: str(standin.mutations()))
        stage.promise(expected)


RELOADED = ("configuration reloaded: runtimes, offerings, retry, retention, limits, log; "
            "servers' addresses need a restart")

if __name__ == "__main__":
    main()
