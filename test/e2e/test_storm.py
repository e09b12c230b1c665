"""
Two replicas, thousands of subscriptions, every event three times and shuffled.

STORM: how many stay and how many are created and terminated (default 2000 each). STORM_SEED: another shuffle.
"""

import os
import random
import time

from harness import Case, Expected, Subscription, eventually, main, say

N = int(os.environ.get("STORM", "2000"))
SEED = int(os.environ.get("STORM_SEED", "20261121"))
COPIES = 3


def interleave(rng, sequences):
    """One order of all, each sequence's own order kept."""
    tickets = [i for i, s in enumerate(sequences) for _ in s]
    rng.shuffle(tickets)
    iterators = [iter(s) for s in sequences]
    return [next(iterators[i]) for i in tickets]


def own_order(rng, created, terminated):
    """Three copies of each: the first created comes before the first terminated, the rest as it falls."""
    rest = [created] * (COPIES - 1)
    if terminated:
        rest += [terminated] * COPIES
    rng.shuffle(rest)
    return [created, *rest]


class Storm(Case):
    def test_storm(self):
        rng = random.Random(SEED)
        say(f"{N} that stay, {N} that go; seed {SEED}")
        stage = self.stage(workers=2, partitions=8)
        stay = [Subscription("stay", i, offering="faq" if i % 5 == 0 else "csa") for i in range(N)]
        go = [Subscription("go", N + i, offering="faq" if i % 5 == 0 else "csa") for i in range(N)]
        foreign = stage.plant_foreign(200)
        sequences = [own_order(rng, s.created(), None) for s in stay]
        sequences += [own_order(rng, s.created(), s.terminated()) for s in go]
        events = interleave(rng, sequences)
        began = time.monotonic()
        for i, event in enumerate(events):
            stage.producer.send(event, binary=i % 2 == 0, flush=False)
        stage.producer.flush()
        say(f"{len(events)} messages sent in {time.monotonic() - began:.1f} s")
        stage.taken_in(timeout=300)
        say(f"taken in after {time.monotonic() - began:.1f} s")
        expected = {s.uuid: Expected(True, s.rag, s.name) for s in stay}
        expected.update({s.uuid: Expected(False, known=False) for s in go})
        stage.promise(expected, foreign, timeout=600)
        took = time.monotonic() - began
        say(f"settled after {took:.1f} s, {3 * N / took:.0f} changes of subscriptions a second")
        self.assertEqual(stage.db.events(), 3 * N)
        self.check_shared(stage)
        say(f"now the {N} that stayed go too")
        events = [e for s in stay for e in [s.terminated()] * COPIES]
        rng.shuffle(events)
        stage.producer.send(*events)
        stage.promise({uuid: Expected(False, known=False) for uuid in expected}, foreign, timeout=600)
        self.assertEqual([o for o in stage.langflow.objects() + stage.ragflow.objects() if not o["planted"]], [])

    def check_shared(self, stage):
        """Both replicas worked, and every message was read: the group's lag comes down to nothing."""
        def lag():
            values = [v for w in stage.workers for k, v in w.metrics().items() if "lag" in k and "kafka" in k]
            return values and sum(values) == 0

        eventually(lag, 60, "the lag comes down to nothing", describe=stage.describe)
        owners = stage.db.value("SELECT count(*) FROM worker")
        self.assertEqual(owners, 2)
        for worker in stage.workers:
            say(f"{worker.name}: {worker.memory_kb() // 1024} MB at most")


if __name__ == "__main__":
    main()
