"""
Whole lives in the products themselves while everything that can go wrong does, now and then: from one seed.

CHAOS: how many subscriptions (default 50). CHAOS_SEED: another sequence.
"""

import os
import random
import time

from harness import Case, Expected, Subscription, main, say

N = int(os.environ.get("CHAOS", "50"))
SEED = int(os.environ.get("CHAOS_SEED", "20261126"))
ROUNDS, SHARE = 4, 0.02
KINDS = [("lose_reply", {}), ("drop_before", {}), ("malformed", {}), ("truncate", {}), ("status", {"act": True}),
         ("fail_before", {"status": 502}), ("fail_before", {"status": 503, "headers": {"Retry-After": "1"}}),
         ("fail_before", {"status": 429, "headers": {"Retry-After": "1"}}), ("delay_reply", {"ms": 2500})]


class NativeChaos(Case):
    def chaos(self, langflow, ragflow, tenancy="shared", **settings):
        rng = random.Random(SEED)
        say(f"{N} subscriptions, {ROUNDS} rounds, seed {SEED}; {langflow}, {ragflow}, {tenancy}, {settings}")
        stage = self.stage(workers=2, dialect="native", profiles=(langflow, ragflow), tenancy=tenancy, overrides={
            "retention.chat_history": "30d", "worker.probe_settle": "300ms", "worker.lease": "3s",
            "runtimes.0.langflow.timeout": "2s", "runtimes.0.ragflow.timeout": "2s", "retry.initial": "50ms"})
        stage.langflow.settings(**settings)
        foreign = stage.plant_foreign(30)
        for standin in (stage.langflow, stage.ragflow):
            for i, (kind, more) in enumerate(KINDS):
                standin.fault(kind, probability=SHARE, seed=SEED + i, path_prefix="/api/", **more)
        subs = [Subscription("chaos", i, organizations=7, offering="faq" if i % 5 == 0 else "csa") for i in range(N)]
        lives = {}
        for round in range(ROUNDS):
            for sub in rng.sample(subs, N * 3 // 4):
                self.change(stage, rng, sub, lives)
                if rng.random() < 0.1:
                    stage.producer.flush()
                    time.sleep(rng.uniform(0, 0.1))
            stage.producer.flush()
            if round == ROUNDS - 2:
                for standin in (stage.langflow, stage.ragflow):
                    say(f"{standin.dialect}: {standin.fired()} of {len(standin.log())} answers were spoilt")
            # The last one is calm, or it would be chance what is told to need a human.
            if round == ROUNDS - 1:
                break
            stage.settled(timeout=200)
        for standin in (stage.langflow, stage.ragflow):
            standin.clear_faults()
        stage.promise(self.expected(lives), foreign, timeout=200)
        say("all that are left go, and their chats with them")
        stage.producer.send(*(s.terminated() for s in subs if lives.get(s, (False,))[0]))
        stage.settled(timeout=120)
        stage.retention(31)
        gone = {s.uuid: Expected.of(s, False, known=False) for s in lives}
        stage.promise(gone, foreign, timeout=120)

    def change(self, stage, rng, sub, lives):
        """One event more: what there is ends, what is not begins, or it begins once more."""
        active, ever = lives.get(sub, (False, False))
        if active and rng.random() < 0.6:
            event, active = sub.terminated(), False
        else:
            event, active = sub.created(), True
        lives[sub] = active, True
        stage.producer.send(*[event] * rng.randrange(1, 3), binary=rng.random() < 0.5, flush=False)

    @staticmethod
    def expected(lives):
        """A terminated one is archived where it got far enough to have an account, else it left nothing."""
        return {s.uuid: Expected.of(s, active, known=False, kept=not active) for s, (active, _) in lives.items()}

    def test_chaos(self):
        self.chaos("1.10", "0.27-python")

    def test_chaos_in_old_and_go(self):
        self.chaos("1.8", "0.27-go", shuffle=True)

    def test_chaos_in_new(self):
        self.chaos("1.13", "0.27-python", tenancy="subscription")


if __name__ == "__main__":
    main()
