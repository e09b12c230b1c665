"""
The n-th statement, commit and call of Kafka fails; test_nth_request: the n-th request.

For n = 1, 2, 3, ... a worker lives with the n-th of a kind failing once, until one ends in which nothing was left to
fail: each time the promise holds, and the worker ends in order, with nothing leaked and nothing for sanitizers to say.
LANES: how many at once (default 4).
"""

import concurrent.futures
import os
import threading
import time
import traceback

from harness import Case, Expected, FaultyWorker, Subscription, main, say

LANES = int(os.environ.get("LANES", "4"))
SETTINGS = {"worker.lease": "3s", "worker.probe_settle": "100ms", "retry.initial": "50ms",
            "runtimes.0.langflow.timeout": "2s", "runtimes.0.ragflow.timeout": "2s"}


class Failing(Case):
    """Lives in which one thing fails."""

    partitions = 1

    def failing_life(self, stage, name, fail):
        """One worker and what one subscription needs of it; did anything fail?"""
        worker = FaultyWorker(stage, name, fail=fail, listen="127.0.0.1:0")
        sub = Subscription(name, len(stage.expected) + 1, id=str(len(stage.expected) + 1))
        try:
            worker.start(ready=False)
            stage.producer.raw(None, b"{nonsense " + name.encode())
            stage.producer.send(sub.created(), sub.terminated(), sub.created())
            stage.promise({**stage.expected, sub.uuid: Expected.of(sub)}, timeout=60)
            stage.producer.send(sub.terminated())
            stage.expected[sub.uuid] = Expected.of(sub, False)
            stage.promise(stage.expected, timeout=60)
            worker.stop()
        except AssertionError as e:
            raise AssertionError(f"{fail}: {e}\n{worker.tail(40)}") from None
        finally:
            worker.kill()
        return bool(worker.told("failed"))

    def one_after_another(self, kinds, **options):
        """Each lane has a stage of its own; they share the numbers."""
        lock, open_, counts, problems = threading.Lock(), {kind: 1 for kind in kinds}, dict.fromkeys(kinds, 0), []

        def take():
            with lock:
                for kind, n in open_.items():
                    open_[kind] = n + 1
                    return kind, n

        def lane():
            try:
                stage = self.stage(workers=0, overrides=SETTINGS, **options)
                stage.expected = {}
                while not problems and (task := take()):
                    kind, n = task
                    name = f"{kind.replace('/', '-').replace('*', 'any')}-{n}"
                    if self.failing_life(stage, name, f"{kind}#{n}"):
                        counts[kind] = max(counts[kind], n)
                    else:
                        with lock:
                            open_.pop(kind, None)
            except Exception:
                problems.append(traceback.format_exc())

        pool = concurrent.futures.ThreadPoolExecutor(LANES)
        self.addCleanup(pool.shutdown)  # after the stages: what a thread has started ends with it
        began = time.monotonic()
        concurrent.futures.wait([pool.submit(lane) for _ in range(LANES)])
        say(f"{counts}, {time.monotonic() - began:.0f} s")
        self.assertFalse(problems, "\n".join(problems))
        for kind, n in counts.items():
            self.assertGreater(n, 3, f"{kind}: hardly anything was there to fail")


class NthFailure(Failing):
    def test_statements_commits_and_kafka(self):
        self.one_after_another(("statement/*", "refusal/*", "unsent/*", "commit/before", "commit/after", "kafka/*"))


if __name__ == "__main__":
    main()
