"""
A release build under valgrind through one small life of everything: no error, no block lost for good. What sanitizers
do not see: memory handed to and taken from libraries that are not built with them, and values never set.
"""

import os
import shutil
import signal

from harness import Case, Expected, Subscription, environment, eventually, main, say, source_dir

ERRORS = 99  # valgrind's exit status when it found something


class Valgrind(Case):
    @classmethod
    def setUpClass(cls):
        path = environment("PROVISIONER")
        with open(path, "rb") as f:
            assert b"__asan_init" not in f.read(), f"{path} is built with a sanitizer: name a release build"
        valgrind = shutil.which("valgrind")
        assert valgrind, "valgrind is not installed"
        cls.wrapper = [valgrind, "--quiet", "--leak-check=full", "--show-leak-kinds=definite",
                       "--errors-for-leak-kinds=definite", f"--error-exitcode={ERRORS}", "--num-callers=30",
                       f"--suppressions={os.path.join(source_dir(), 'test', 'valgrind.supp')}"]
        super().setUpClass()

    def check_reload(self, worker):
        os.kill(worker.pid, signal.SIGHUP)
        eventually(lambda: worker.logs(event="configuration reloaded: runtimes, offerings, retry, retention, limits, "
                                             "log; servers' addresses need a restart"), 30, "it reloads",
                   describe=worker.tail)

    def test_one_small_life_of_everything(self):
        stage = self.stage(workers=0, overrides={"retention.chat_history": "0", "worker.lease": "60s",
                                                 "worker.drain": "60s"})
        worker = stage.start_workers(wrapper=self.wrapper)
        subs = [Subscription("valgrind", i, offering="faq" if i % 3 == 0 else "csa") for i in range(12)]
        say("provisioned, each event twice, one of them in binary mode; two replies are lost")
        for standin in (stage.langflow, stage.ragflow):
            standin.fault("lose_reply", method="POST", nth=2)
        for s in subs:
            event = s.created()
            stage.producer.send(event)
            stage.producer.send(event, binary=True)
        say("two that cannot be decoded, and one whose name somebody else has upstream")
        stage.producer.raw("nobody", b"{not json")
        stage.producer.raw("nobody", b'{"specversion":"1.0","id":"x"}')
        clash = Subscription("valgrind-clash", 1)
        foreign = stage.plant_foreign(2, names=[clash.name])
        stage.producer.send(clash.created())
        stage.settled(90)
        stage.producer.send(clash.terminated())
        expected = {clash.uuid: Expected(False), **{s.uuid: Expected(True, s.rag, s.name) for s in subs}}
        stage.promise(expected, foreign, timeout=90)
        eventually(lambda: stage.db.value("SELECT count(*) FROM dead_letter WHERE published_at IS NOT NULL") == 2, 30,
                   "both are dead letters", describe=stage.describe)
        self.assertGreater(stage.langflow.fired() + stage.ragflow.fired(), 0)
        self.check_reload(worker)
        for path in ("/healthz", "/readyz", "/metrics", "/nothing"):
            worker.get(path, timeout=30)
        say("terminated, and ended in the middle of it")
        stage.producer.send(*(s.terminated() for s in subs))
        eventually(lambda: stage.db.events() > len(subs) + 2 + len(subs) // 2, 60,
                   "terminations come in", every=0.02, describe=stage.describe)
        worker.stop(timeout=90)
        say("the rest without valgrind")
        stage.start_workers()
        stage.promise({uuid: Expected(False) for uuid in expected}, foreign, timeout=60)


if __name__ == "__main__":
    main()
