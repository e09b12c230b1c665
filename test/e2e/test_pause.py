"""
The operators' brakes, with jobs that run: pause, resume, cancel. And what holds itself back: servers that ask for
patience, runtimes that hang, tenants that flood.

FLOOD: events of the loud tenant (default 600).
"""

import json
import os
import time

from harness import Case, Expected, Standin, Subscription, eventually, main, say

FLOOD = int(os.environ.get("FLOOD", "600"))


class Pause(Case):
    def program(self, stage, *argv, check=0):
        return json.loads(stage.installation.command(*argv, "--json", check=check))

    def slow(self, stage, ms):
        for standin in (stage.langflow, stage.ragflow):
            standin.fault("delay", every=True, ms=ms, path_prefix="/api/")

    def quick(self, stage):
        for standin in (stage.langflow, stage.ragflow):
            standin.clear_faults()

    def create(self, stage, seed, n, **more):
        subs = [Subscription(seed, i, **more) for i in range(n)]
        stage.producer.send(*(s.created() for s in subs))
        return subs

    def expected(self, subs, alive=True):
        return {s.uuid: Expected(alive, s.rag, s.name) for s in subs}

    def counts(self, stage, **where):
        """Jobs by state."""
        condition = " AND ".join(f"{column} = %s" for column in where) or "true"
        return {r["state"]: r["n"] for r in stage.db.rows(
            f"SELECT state::text, count(*) AS n FROM provisioning_job WHERE {condition} GROUP BY 1", *where.values())}

    def stands_still(self, stage, n, **where):
        """n jobs are queued and none of them runs; nothing is asked upstream from then on."""
        eventually(lambda: self.counts(stage, **where).get("queued") == n and not
                   self.counts(stage, **where).get("running"), 60, f"{n} jobs stand still", describe=stage.describe)

    def requests(self, stage):
        return len(stage.langflow.log()) + len(stage.ragflow.log())

    def running(self, stage, n, **where):
        eventually(lambda: self.counts(stage, **where).get("running", 0) >= n, 30, f"{n} jobs run",
                   describe=stage.describe)

    # ---- pause and resume ----

    def test_everything(self):
        """Running jobs stop, new ones wait, for all workers and across a restart; then all goes on by itself."""
        stage = self.stage(workers=2)
        self.slow(stage, 150)
        subs = self.create(stage, "all", 60)
        self.running(stage, 10)
        done = self.program(stage, "pause", "--all", "--reason", "upgrade")
        self.assertEqual([(d["scope"], d["verdict"]) for d in done], [("all", "paused")])
        self.assertGreater(done[0]["running"], 0)
        eventually(lambda: not self.counts(stage).get("running"), 30, "nothing runs", describe=stage.describe)
        stage.taken_in()
        ready = self.counts(stage).get("succeeded", 0)
        more = self.create(stage, "all-more", 10)
        stage.taken_in()
        self.stands_still(stage, len(subs) + len(more) - ready)
        before = self.requests(stage)
        worker = stage.workers[0]
        worker.stop()
        worker.start()
        self.assertEqual(self.program(stage, "pause")[0]["reason"], "upgrade")
        eventually(lambda: json.loads(worker.get("/readyz")[1])["paused"]["all"] == 1, 30, "/readyz says so")
        self.assertEqual(worker.get("/readyz")[0], 200)
        self.assertEqual(worker.metrics()['provisioner_paused{scope="all"}'], 1)
        self.assertTrue(worker.logs(event="pauses changed", scope="all"))
        time.sleep(2)  # several looks for work
        self.assertEqual(self.requests(stage), before)
        shown = self.program(stage, "show", subs[-1].uuid)
        self.assertEqual([(p["scope"], p["reason"]) for p in shown["pauses"]], [("all", "upgrade")])
        self.quick(stage)
        self.assertEqual(self.program(stage, "resume", "--all")[0]["verdict"], "resumed")
        stage.promise(self.expected(subs + more), timeout=120)
        self.assertEqual(self.program(stage, "pause"), [])
        self.assertEqual(self.program(stage, "resume", "--all")[0]["verdict"], "was not paused")

    def test_one_of_many(self):
        """An organization, a subscription, a runtime: each stops alone; duplicates and terminations wait with it."""
        stage = self.stage()
        loud = self.create(stage, "org-a", 5, organization="acme")
        stage.promise(self.expected(loud))
        self.program(stage, "pause", "--organization", "acme", "--subscription", loud[0].name)
        other = self.create(stage, "org-b", 5, organization="other")
        again = [s.terminated() for s in loud]
        stage.producer.send(*again, *again)
        eventually(lambda: self.counts(stage, organization_slug="other").get("succeeded") == 5, 60,
                   "the others are ready", describe=stage.describe)
        self.stands_still(stage, 5, organization_slug="acme", kind="terminate")
        self.assertEqual(stage.db.value("SELECT count(*) FROM agent_config WHERE status = 'ready'"), 10)
        self.program(stage, "resume", "--organization", "acme")
        eventually(lambda: self.counts(stage, kind="terminate").get("succeeded") == 4, 60, "all but one are gone",
                   describe=stage.describe)
        self.assertEqual(stage.db.config(loud[0].uuid)["status"], "ready")
        self.program(stage, "resume", "--subscription", loud[0].uuid)
        stage.promise({**self.expected(loud, False), **self.expected(other)})
        self.program(stage, "pause", "--runtime", "shared-eu")
        stage.producer.send(*(s.terminated() for s in other))
        self.stands_still(stage, 5, organization_slug="other", kind="terminate")
        # Keys need no runtime.
        self.assertEqual(stage.db.value("SELECT count(*) FROM agent_api_key WHERE revoked_at IS NULL"), 0)
        self.program(stage, "resume", "--runtime", "shared-eu")
        stage.promise({**self.expected(loud, False), **self.expected(other, False)})

    def test_what_does_not_exist(self):
        stage = self.stage(workers=0)
        for argv in (("--runtime", "shraed-eu"), ("--organization", "nobody"), ("--subscription", "nothing")):
            stage.installation.command("pause", *argv, check=1)
        stage.installation.command("resume", check=2)
        stage.installation.command("pause", "--reason", "x", check=2)
        self.assertEqual(self.program(stage, "pause"), [])

    # ---- cancel ----

    def test_cancel(self):
        """One that runs is dropped; replayed, it ends well, and what it had made is neither lost nor made twice."""
        stage = self.stage()
        self.slow(stage, 3000)
        subs = self.create(stage, "cancel", 4)
        self.running(stage, 4)
        time.sleep(4)  # in the midst of it
        jobs = {s.uuid: stage.db.jobs(s.uuid)[0]["id"] for s in subs}
        victims = subs[:2]
        done = self.program(stage, "cancel", *(str(jobs[s.uuid]) for s in victims), "--reason", "ordered twice")
        self.assertEqual([d["verdict"] for d in done], ["cancelling"] * 2)
        self.quick(stage)
        stage.settled()
        for s in victims:
            self.assertEqual(stage.db.jobs(s.uuid)[0]["state"], "cancelled")
            config = stage.db.config(s.uuid)
            self.assertEqual(config["status"], "failed")
            self.assertIn("ordered twice", config["status_reason"])
        stage.installation.command("cancel", str(jobs[subs[2].uuid]), check=1)
        stage.installation.command("cancel", "999999", check=1)
        stage.installation.command("cancel", "x", check=2)
        stage.installation.command("replay", *(s.uuid for s in victims), "--yes")
        stage.promise(self.expected(subs))

    def test_cancel_and_terminate(self):
        """What a cancelled job left behind is taken away by the termination."""
        stage = self.stage()
        self.slow(stage, 3000)
        subs = self.create(stage, "leave", 3)
        self.running(stage, 3)
        time.sleep(4)  # something is made
        self.program(stage, "cancel", *(str(stage.db.jobs(s.uuid)[0]["id"]) for s in subs))
        self.quick(stage)
        stage.producer.send(*(s.terminated() for s in subs))
        stage.promise(self.expected(subs, False))

    # ---- patience ----

    def test_retry_after_is_kept_to_the_second(self):
        """By the server's own clock: nothing between its answer and the time that it named; then soon."""
        stage = self.stage()
        for n, status, seconds in ((0, 429, 3), (1, 503, 8)):
            standin = (stage.langflow, stage.ragflow)[n]
            standin.clear_log()
            standin.fault("status", nth=3, count=1, path_prefix="/api/", status=status,
                          headers={"Retry-After": str(seconds)})
            subs = self.create(stage, f"patience-{n}", 30, organization=f"patience-{n}")
            stage.promise(self.expected([*getattr(self, "before", []), *subs]), timeout=90)
            self.before = [*getattr(self, "before", []), *subs]
            log = [e for e in standin.log() if e["path"].startswith("/api/")]
            told = next(e for e in log if e["status"] == status)
            at = told["at_ms"] + told["took_ms"]
            # What was under way already may arrive beside the answer.
            later = sorted(e["at_ms"] - at for e in log if e["at_ms"] > at + 250)
            say(f"{status}, Retry-After {seconds}: the next request came after {later[0]} ms")
            self.assertGreaterEqual(later[0], seconds * 1000)
            self.assertLess(later[0], seconds * 1000 + 5000)
            standin.clear_faults()

    # ---- nobody waits for others ----

    def test_a_hanging_runtime_keeps_its_jobs_to_itself(self):
        """It has far more jobs than there are places; another runtime's go through meanwhile."""
        stage = self.stage(workers=0, overrides={"worker.max_jobs": 20, "scheduling": {"runtime_max": 100}})
        own = Standin("workspaces", stage.secrets["langflow"]), Standin("collections", stage.secrets["ragflow"])
        for standin in own:
            self.addCleanup(standin.close)
        runtimes = stage.installation.settings["runtimes"]
        runtimes.append({"name": "own", "mode": "dedicated", "organization": "bigcorp",
                         "langflow": {**runtimes[0]["langflow"], "url": own[0].url},
                         "ragflow": {**runtimes[0]["ragflow"], "url": own[1].url}})
        stage.start_workers()
        for standin in (stage.langflow, stage.ragflow):
            standin.fault("hang", every=True, path_prefix="/api/", ms=60000)
        stuck = self.create(stage, "stuck", 100)
        self.running(stage, 8, runtime_name="shared-eu")
        subs = [Subscription("own", i, organization="bigcorp") for i in range(40)]
        stage.producer.send(*(s.created(runtime={"mode": "dedicated"}) for s in subs))
        eventually(lambda: self.counts(stage, organization_slug="bigcorp").get("succeeded") == 40, 25,
                   "the other runtime's are ready", describe=stage.describe)
        self.assertEqual(self.counts(stage, runtime_name="shared-eu").get("succeeded"), None)
        self.assertLessEqual(self.counts(stage, runtime_name="shared-eu").get("running", 0), 10)
        self.quick(stage)
        del stuck

    def test_bounds_over_all_workers(self):
        stage = self.stage(workers=2, overrides={"scheduling": {"runtime_max": 12, "organization_max": 5}})
        self.slow(stage, 30)
        subs = self.create(stage, "bounds", 120, organizations=6)
        most, most_of_one = 0, 0
        while self.counts(stage).get("succeeded", 0) < 120:
            rows = stage.db.rows("SELECT organization_uuid, count(*) AS n FROM provisioning_job WHERE state = 'running' "
                                 "GROUP BY 1")
            most = max(most, sum(r["n"] for r in rows))
            most_of_one = max([most_of_one, *(r["n"] for r in rows)])
        say(f"at most {most} jobs ran at once, {most_of_one} of one organization")
        self.assertTrue(0 < most <= 12 and 0 < most_of_one <= 5, (most, most_of_one))
        stage.promise(self.expected(subs))

    def test_a_flood_delays_only_itself(self):
        """A quiet tenant's events that come behind the flood are ready long before it is."""
        stage = self.stage(overrides={"worker.max_jobs": 200})
        self.slow(stage, 20)
        flood = self.create(stage, "flood", FLOOD, organization="loud")
        stage.taken_in()
        quiet = self.create(stage, "quiet", 20, organization="quiet")
        eventually(lambda: self.counts(stage, organization_slug="quiet").get("succeeded") == 20, 120,
                   "the quiet tenant's are ready", describe=stage.describe)
        ahead = self.counts(stage, organization_slug="loud").get("succeeded", 0)
        say(f"{ahead} of the flood's {FLOOD} were ready before the last of the quiet tenant's")
        arrived = stage.db.value("SELECT count(*) FROM agent_config WHERE organization_slug = 'loud' AND ready_at < "
                                 "(SELECT min(received_at) FROM subscription_event WHERE organization_uuid = %s)",
                                 quiet[0].organization["uuid"])
        # While twenty of the one are made, about as many of the other are, and those that had begun.
        self.assertLess(ahead - arrived, FLOOD / 2)
        self.quick(stage)
        stage.promise(self.expected(flood + quiet), timeout=240)


if __name__ == "__main__":
    main()
