"""
Memory ends once at every place of the program that allocates, as its stack tells them apart.

A worker that cannot go on says so and ends with status 1, and another begins; the places that have failed are kept, so
that each goes further. Then lives of subscriptions go on through all that is left, until one meets no new place.
"""

import os
import time

from harness import Case, Expected, FaultyWorker, Subscription, main, say
from test_nth_failure import SETTINGS

# Subscriptions at once, since each failure keeps one waiting.
TOGETHER = 16
LIVES_MAX = 30


class Allocations(Case):
    partitions = 1

    def test_every_place_that_allocates(self):
        """Each fails once, at its first pass; a worker that cannot go on says so and ends with 1, and begins anew."""
        kafka = {"session.timeout.ms": "3000", "heartbeat.interval.ms": "500", "group.instance.id": "env:REPLICA"}
        stage = self.stage(workers=0, overrides={**SETTINGS, "retry.max": "100ms", "kafka.properties": kafka},
                           dialect="native", profiles=("1.10", "0.27-python"), tenancy="subscription")
        worker = FaultyWorker(stage, "short-of-memory", listen="127.0.0.1:0")
        sites = os.path.join(stage.installation.dir, "sites")
        worker.env["PROVISIONER_FAIL_SITES"] = sites
        expected, lives, ended, known, read = {}, 0, 0, -1, 0
        stage.workers.append(worker)

        def count():
            with open(sites) as f:
                return sum(1 for _ in f)

        def go_on():
            """One that ended did so in order, and another begins."""
            nonlocal ended, read
            if worker.alive():
                return
            if worker.process is not None:
                ended += 1
                text = worker.text()
                self.assertEqual(worker.process.returncode, 1, worker.tail())
                self.assertRegex(text[read:], r'(?m)^provisioner: .|"level":"error"', "it said nothing")
                worker.assert_clean()
                read = len(text)
            worker.start(ready=False)

        def until(check):
            end = time.monotonic() + 120
            while not check():
                go_on()
                self.assertLess(time.monotonic(), end, stage.describe())
                time.sleep(0.02)

        go_on()
        while lives == 0 or count() > known:
            known = count() if os.path.exists(sites) else 0
            subs = [Subscription("memory", lives * TOGETHER + i, id=str(lives * TOGETHER + i)) for i in range(TOGETHER)]
            lives += 1
            stage.producer.raw(None, b"{nonsense")
            for active in (True, True, False):
                stage.producer.send(*(s.created() if active else s.terminated() for s in subs))
                until(lambda: stage.db.events() >= len(stage.producer.sent) and stage.db.live_jobs() == 0
                      and stage.db.value("SELECT count(*) FROM outbox") == 0)
                expected.update({s.uuid: Expected.of(s, active) for s in subs})
                stage.promise(expected)
            say(f"life {lives}: {count()} places have failed, {ended} ends")
            self.assertLess(lives, LIVES_MAX, "there is no end of places that allocate")


if __name__ == "__main__":
    main()
