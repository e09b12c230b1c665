"""
Thousands of jobs in hand, all waiting on slow upstreams: kilobytes each, not threads. WAITING: how many (default
5000). The bound itself holds for builds without sanitizers, which multiply memory.
"""

import os

from harness import Case, Expected, Subscription, eventually, main, say

WAITING = int(os.environ.get("WAITING", "5000"))
LIMIT_KB = 40 * 1024


class Memory(Case):
    def test_thousands_wait(self):
        stage = self.stage(overrides={"worker.max_jobs": WAITING + 1000})
        worker = stage.workers[0]
        at_rest = worker.memory_kb()
        for standin in (stage.langflow, stage.ragflow):
            standin.fault("delay", every=True, ms=5000, path_prefix="/api/")
        subs = [Subscription("waiting", i, offering="faq" if i % 2 else "csa") for i in range(WAITING)]
        stage.producer.send(*(s.created() for s in subs))
        stage.taken_in(120)
        eventually(lambda: worker.metrics().get("provisioner_jobs_in_hand", 0) >= WAITING * 0.99, 120,
                   f"{WAITING} jobs are in hand", every=0.5, describe=stage.describe)
        peak = worker.memory_kb()
        say(f"{at_rest} kB at rest, {peak} kB at most with {WAITING} jobs waiting")
        self.assertEqual(worker.get("/healthz")[0], 200)
        if not os.environ.get("SANITIZED"):
            self.assertLess(peak, LIMIT_KB)
        for standin in (stage.langflow, stage.ragflow):
            standin.clear_faults()
        stage.promise({s.uuid: Expected(True, s.rag, s.name) for s in subs}, timeout=240)
        say(f"{worker.memory_kb()} kB at most in the end")
        if not os.environ.get("SANITIZED"):
            self.assertLess(worker.memory_kb(), LIMIT_KB)


if __name__ == "__main__":
    main()
