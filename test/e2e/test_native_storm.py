"""
Two replicas, some hundred subscriptions, every event three times and shuffled, in the products themselves.

STORM: how many stay and how many are created and terminated (default 250 each). STORM_SEED: another shuffle.
"""

import os
import random
import time

from harness import Case, Expected, Subscription, main, say
from test_storm import COPIES, SEED, interleave, own_order

LATENCY_MS, SLICE, SLICE_S = 20, 50, 0.1
N = int(os.environ.get("STORM", "250"))


class NativeStorm(Case):
    def storm(self, *profiles):
        rng = random.Random(SEED)
        say(f"{N} that stay, {N} that go; seed {SEED}")
        stage = self.stage(workers=2, partitions=8, dialect="native", profiles=profiles)
        subs = [Subscription("native", i, offering="faq" if i % 5 == 0 else "csa") for i in range(2 * N)]
        stay, go = subs[:N], subs[N:]
        foreign = stage.plant_foreign(50)
        for standin in (stage.langflow, stage.ragflow):  # so that events come in while others are under way
            standin.fault("delay_reply", every=True, ms=LATENCY_MS, path_prefix="/api/")
        sequences = [own_order(rng, s.created(), None) for s in stay]
        sequences += [own_order(rng, s.created(), s.terminated()) for s in go]
        events = interleave(rng, sequences)
        for i in range(0, len(events), SLICE):  # in slices, so that many a created one is made before its end comes
            stage.producer.send(*events[i:i + SLICE])
            time.sleep(SLICE_S)
        began = time.monotonic()
        expected = {s.uuid: Expected.of(s) for s in stay}
        expected.update({s.uuid: Expected.of(s, False, known=False) for s in go})
        stage.promise(expected, foreign, timeout=300)
        self.assertEqual(stage.db.events(), 3 * N)
        self.assertEqual(stage.db.value("SELECT count(*) FROM worker"), 2)
        made = stage.langflow.world()["created"] - len(foreign[0]) - N
        say(f"settled after {time.monotonic() - began:.1f} s, {made} of those that go were made before; "
            f"now the {N} that stayed go too")
        self.assertGreater(made, N // 10, "none had anything to lose")
        events = [e for s in stay for e in [s.terminated()] * COPIES]
        rng.shuffle(events)
        stage.producer.send(*events)
        stage.promise({s.uuid: Expected.of(s, False, known=False) for s in subs}, foreign, timeout=300)
        self.assertEqual([o for o in stage.langflow.objects() + stage.ragflow.objects() if not o["planted"]], [])
        say(f"all is gone after {time.monotonic() - began:.1f} s; "
            f"{len(stage.langflow.log())} requests to Langflow, {len(stage.ragflow.log())} to RAGFlow")

    def test_storm(self):
        self.storm("1.10", "0.27-python")

    def test_storm_in_old_and_go(self):
        self.storm("1.8", "0.27-go")

    def test_storm_in_new(self):
        self.storm("1.13", "0.27-python")


if __name__ == "__main__":
    main()
