"""
Thousands of jobs wait on slow upstreams: kilobytes each, not threads, and the process stays below 40 MB from its first
moment to its last. Measures a release build, since sanitizers multiply memory. WAITING: how many jobs (default 5000).
"""

import os
import time

from harness import Case, Expected, Subscription, environment, eventually, main, say

WAITING = int(os.environ.get("WAITING", "5000"))
LIMIT_KB = int(os.environ.get("MEMORY_LIMIT_KB", 40 * 1024))
WATCHED_S = 8  # longer than the slowest answer takes


class Memory(Case):
    def setUp(self):
        path = environment("PROVISIONER")
        with open(path, "rb") as f:
            if b"__asan_init" in f.read():
                self.fail(f"{path} is built with a sanitizer: name a release build")

    def wait_on_slow_upstreams(self, seed, in_hand, overrides):
        """Everything arrives at once; nothing moves but at the upstreams' pace; then they are well again."""
        stage = self.stage(overrides=overrides)
        worker = stage.workers[0]
        at_rest = worker.memory_kb()
        for standin in (stage.langflow, stage.ragflow):
            standin.fault("delay", probability=0.5, seed=1, ms=2000, path_prefix="/api/")
            standin.fault("delay", every=True, ms=5000, path_prefix="/api/")
        subs = [Subscription(seed, i, offering="faq" if i % 2 else "csa") for i in range(WAITING)]
        stage.producer.send(*(s.created() for s in subs))
        stage.taken_in(120)
        eventually(lambda: worker.metrics().get("provisioner_jobs_in_hand", 0) >= in_hand * 0.98, 120,
                   f"{in_hand} jobs are in hand", every=0.5, describe=stage.describe)
        time.sleep(WATCHED_S)
        held, live = worker.metrics()["provisioner_jobs_in_hand"], stage.db.live_jobs()
        say(f"{held:.0f} of {live} live jobs in hand: {at_rest} kB at rest, {worker.memory_kb()} kB at most")
        self.assertGreaterEqual(held, in_hand * 0.95)
        self.assertEqual(worker.get("/healthz")[0], 200)
        self.assert_small(worker)
        for standin in (stage.langflow, stage.ragflow):
            standin.clear_faults()
        stage.promise({s.uuid: Expected(True, s.rag, s.name) for s in subs}, timeout=240)
        stage.producer.send(*(s.terminated() for s in subs))
        stage.promise({s.uuid: Expected(False) for s in subs}, timeout=240)
        say(f"{worker.memory_kb()} kB at most in the end")
        self.assert_small(worker)

    # Whole thousands of a few organizations at once.
    UNBOUND = {"worker.max_jobs": WAITING, "scheduling.organization_max": WAITING, "scheduling.runtime_max": WAITING}

    def assert_small(self, worker):
        self.assertLess(worker.memory_kb(), LIMIT_KB, "peak resident memory in kB")

    def test_thousands_wait_with_default_settings(self):
        self.wait_on_slow_upstreams("default", min(500, WAITING), {})

    def test_thousands_are_in_hand(self):
        self.wait_on_slow_upstreams("in-hand", WAITING, self.UNBOUND)

    def test_thousands_are_in_hand_and_hundreds_of_requests_under_way(self):
        self.wait_on_slow_upstreams("requests", WAITING, {
            **self.UNBOUND, "runtimes.0.langflow.concurrency": 128, "runtimes.0.ragflow.concurrency": 128})


if __name__ == "__main__":
    main()
