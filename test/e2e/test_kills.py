"""
SIGKILL, again and again, under load. KILLS: how often (default 100). KILLS_SEED: another sequence.
"""

import os
import random
import signal
import time

from harness import Case, Expected, Subscription, eventually, main, say

KILLS = int(os.environ.get("KILLS", "100"))
SEED = int(os.environ.get("KILLS_SEED", "20261121"))
TAKEOVER_S = 20
WORK_S = 5


class Killing(Case):
    """Replicas that are killed in the middle of their work: at least so many of them."""

    in_the_middle = 0.75

    def load(self, rng, number, living):
        """One more event: a new subscription, or the end of one that lives."""
        if living and rng.random() < 0.4:
            sub = living.pop(rng.randrange(len(living)))
            return sub, sub.terminated(), False
        sub = Subscription("kill", number, offering="faq" if number % 4 == 0 else "csa")
        living.append(sub)
        return sub, sub.created(), True

    def of(self, sub, active):
        return Expected.of(sub, active, known=False)

    def kill_under_load(self, kills, seed, events, **options):
        """Each victim is killed in the middle of its work, and the work never ends. events: a range, for each kill."""
        rng = random.Random(seed)
        say(f"{kills} kills, seed {seed}")
        # Static members: one that comes back takes its partitions at once, and so has work to be killed in.
        kafka = {"session.timeout.ms": "6000", "heartbeat.interval.ms": "1000", "group.instance.id": "env:REPLICA"}
        stage = self.stage(workers=2, overrides={"worker.lease": "3s", "worker.probe_settle": "300ms",
                                                 "kafka.properties": kafka}, **options)
        foreign = stage.plant_foreign(20)
        for standin in (stage.langflow, stage.ragflow):
            standin.fault("lose_reply", probability=0.02, seed=seed, path_prefix="/api/")
            standin.fault("delay_reply", every=True, ms=30, path_prefix="/api/")
        expected, living, at_work, jobs_cut = {}, [], 0, 0
        for kill in range(kills):
            for _ in range(rng.randrange(*events)):
                sub, event, active = self.load(rng, len(expected), living)
                expected[sub.uuid] = self.of(sub, active)
                stage.producer.send(*[event] * rng.randrange(1, 3), binary=rng.random() < 0.5, flush=False)
            stage.producer.flush()
            victim = rng.choice(stage.workers)
            self.wait_for_work(stage, victim)
            time.sleep(rng.uniform(0, 0.15))
            self.assertTrue(victim.alive(), victim.tail())
            victim.kill()
            cut = len(self.running_of(stage, victim))
            at_work += cut > 0
            jobs_cut += cut
            victim.start(ready=False)
            if kill % 10 == 9:
                say(f"{kill + 1} kills, {at_work} in the middle of work, {jobs_cut} jobs cut off; "
                    f"{stage.db.events()} of {len(stage.producer.sent)} messages are distinct events taken in, "
                    f"{stage.db.live_jobs()} jobs live")
        self.assertGreaterEqual(at_work, int(kills * self.in_the_middle), "too many were killed when they had nothing to lose")
        for worker in stage.workers:
            worker.wait_ready(60)
        stage.promise(expected, foreign, timeout=300)
        for standin in (stage.langflow, stage.ragflow):
            say(f"{standin.dialect}: {standin.faults()[0]['fired']} answers lost besides")
        for worker in stage.workers:
            worker.assert_clean()

    def wait_for_work(self, stage, worker):
        """Until it has jobs under way; not for ever, for others may have done it all."""
        end = time.monotonic() + WORK_S
        while time.monotonic() < end and not self.running_of(stage, worker):
            time.sleep(0.01)

    def running_of(self, stage, worker):
        return {r["id"] for r in stage.db.rows(
            "SELECT j.id FROM provisioning_job j JOIN worker w ON w.owner = j.lease_owner "
            "WHERE j.state = 'running' AND w.pid = %s", worker.pid)}


class Kills(Killing):
    def test_killed_under_load(self):
        self.kill_under_load(KILLS, SEED, (8, 24))

    def test_a_killed_replicas_jobs_move_on(self):
        stage = self.stage(workers=2)  # with the lease that the program has by itself
        for standin in (stage.langflow, stage.ragflow):
            standin.fault("delay_reply", every=True, ms=1500, path_prefix="/api/")
        subs = [Subscription("moved", i) for i in range(40)]
        stage.producer.send(*(s.created() for s in subs))
        both = eventually(lambda: self.running_of(stage, stage.workers[0]) or self.running_of(stage, stage.workers[1]),
                          30, "jobs are under way", describe=stage.describe)
        self.assertTrue(both)
        victim = max(stage.workers, key=lambda w: len(self.running_of(stage, w)))
        victim.kill()
        killed = time.monotonic()
        jobs = self.running_of(stage, victim)
        say(f"killed with {len(jobs)} jobs under way")
        self.assertTrue(jobs, "the victim had nothing to lose")
        eventually(lambda: not self.running_of(stage, victim) & jobs, TAKEOVER_S, "another replica has them all",
                   describe=stage.describe)
        say(f"taken over within {time.monotonic() - killed:.1f} s")
        stage.promise({s.uuid: Expected(True, name=s.name) for s in subs}, timeout=120)

    def test_a_paused_replica_wakes_up_to_lost_leases(self):
        """SIGSTOP for longer than the lease: its jobs move on, and what it then does changes nothing."""
        stage = self.stage(workers=2, overrides={"worker.lease": "3s"})
        for standin in (stage.langflow, stage.ragflow):
            standin.fault("delay_reply", every=True, ms=1000, path_prefix="/api/")
        subs = [Subscription("paused", i) for i in range(30)]
        stage.producer.send(*(s.created() for s in subs))
        victim = eventually(lambda: next((w for w in stage.workers if self.running_of(stage, w)), None), 30,
                            "jobs are under way", describe=stage.describe)
        victim.process.send_signal(signal.SIGSTOP)
        stopped = self.running_of(stage, victim)
        try:
            eventually(lambda: not self.running_of(stage, victim) & stopped, TAKEOVER_S, "the jobs move on",
                       describe=stage.describe)
        finally:
            victim.process.send_signal(signal.SIGCONT)
        stage.promise({s.uuid: Expected(True, name=s.name) for s in subs}, timeout=120)

    def test_sigterm_drains(self):
        stage = self.stage(workers=2)
        for standin in (stage.langflow, stage.ragflow):
            standin.fault("delay_reply", every=True, ms=300, path_prefix="/api/")
        subs = [Subscription("drained", i) for i in range(60)]
        stage.producer.send(*(s.created() for s in subs))
        # One of them may have been faster, and have them all.
        leaver = eventually(lambda: next((w for w in stage.workers if self.running_of(stage, w)), None), 30,
                            "jobs are under way", describe=stage.describe)
        pid, began = leaver.pid, time.monotonic()
        leaver.stop()
        say(f"drained in {time.monotonic() - began:.1f} s")
        left = stage.db.value("SELECT count(*) FROM provisioning_job j JOIN worker w ON w.owner = j.lease_owner "
                              "WHERE w.pid = %s AND j.state = 'running'", pid)
        self.assertEqual(left, 0, "it gave back what it did not finish")
        stage.promise({s.uuid: Expected(True, name=s.name) for s in subs}, timeout=60)


if __name__ == "__main__":
    main()
