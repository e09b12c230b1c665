"""Where cases happen: servers, stand-ins, two replicas and load, and the timeline that every case follows."""

import ctypes
import os
import subprocess
import time

from harness import Database, PrivateKafka, PrivatePostgres, Stage, Standin, Worker, breaches, eventually, workdir

from load import Arrivals, Load

SHARED, DEDICATED, BIG = "shared-eu", "big-dedicated", "bigcorp"
NAME = "chaos"
PARTITIONS = 8
# Answers take their time and few are asked for at once, so that it is the upstreams that bound throughput and not the
# processors, which are others' too. A replica holds little more than it can ask for: both are always busy.
ANSWER_MS = 100
NATIVE_ANSWER_MS = 30  # they are asked more often
AT_ONCE = 24
IN_HAND = 60
OUTSTANDING = 110
PRESSURE = 0.5  # of the baseline, while a fault lasts
BACK = 0.9      # of the baseline, for a second: recovered
DISK_MB = 256

CLONE_NEWNS = 0x00020000


def own_mounts():
    """What is mounted from here on is seen by us and our children only, and goes with the last of us."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS) != 0:
        raise RuntimeError(f"a file system of its own cannot be mounted ({os.strerror(ctypes.get_errno())}): "
                           "run as root, in a container with CAP_SYS_ADMIN")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)


class Both:
    """Two runtimes' stand-ins of one product, for those who only want to see what exists."""

    def __init__(self, *standins):
        self.standins = standins

    def objects(self):
        return [o for s in self.standins for o in s.objects()]


class Form:
    """How long things take: the short form only proves, the long one gives figures."""

    def __init__(self, short, seconds=10):
        self.short = short
        self.window_s = 3 if short else seconds
        self.settle_s = 1 if short else 3
        self.patience_s = 40 if short else 120

    def of(self, short, long):
        return short if self.short else long


class Scene:
    """
    options: dialect, disk (PostgreSQL's is a small one), second (runtime, of one organization beside few others'),
    clock (of worker-1 may be set).
    """

    _count = 0

    def __init__(self, form, dialect="facade", disk=False, second=False, clock=False):
        Scene._count += 1
        self.form, self.second = form, second
        self.answer_ms = ANSWER_MS if dialect == "facade" else NATIVE_ANSWER_MS
        self.mount = None
        if disk:
            self.mount = os.path.join(workdir(), f"postgres-{self._count}")
            os.makedirs(self.mount)
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m,mode=755", "tmpfs", self.mount], check=True)
        self.postgres = PrivatePostgres(f"postgres-{self._count}")
        self.kafka = PrivateKafka(f"kafka-{self._count}")
        overrides = {"worker.max_jobs": form.of(4 * IN_HAND, 1000) if second else IN_HAND,
                     "runtimes.0.langflow.concurrency": AT_ONCE, "runtimes.0.ragflow.concurrency": AT_ONCE}
        if form.short:
            overrides.update({"worker.lease": "3s", "worker.probe_settle": "300ms",
                              "runtimes.0.langflow.timeout": "3s", "runtimes.0.ragflow.timeout": "3s"})
        self.stage = Stage(self.postgres, self.kafka, NAME, partitions=PARTITIONS, overrides=overrides, dialect=dialect)
        database = self.stage.database_url.rsplit("/", 1)[1]
        self.admin = Database(self.postgres.admin_url().rsplit("/", 1)[0] + "/" + database)
        self.standins = [self.stage.langflow, self.stage.ragflow]
        self.foreign = self.stage.plant_foreign(20)
        if second:
            self._add_runtime()
        for standin in self.standins:
            self.slow_down(standin)
        self.clock = os.path.join(self.stage.installation.dir, "clock")
        self.set_clock(0)
        self._start_replicas(self._faked_clock() if clock else ())
        self.loads = {SHARED: Load(self.stage, SHARED, OUTSTANDING, organizations=2 if second else 20)}
        if second:
            self.loads[DEDICATED] = Load(self.stage, DEDICATED, OUTSTANDING, organization=BIG,
                                         data={"runtime": {"mode": "dedicated"}})

    def _start_replicas(self, wrapper):
        """wrapper: of the second."""
        self.stage.workers += [Worker(self.stage.installation, "worker-0"),
                               Worker(self.stage.installation, "worker-1", wrapper)]
        for worker in self.workers:
            worker.start(ready=False)
        for worker in self.workers:
            worker.wait_ready()

    def _add_runtime(self):
        secrets = self.stage.secrets
        pair = Standin("workspaces", secrets["langflow"]), Standin("collections", secrets["ragflow"])
        first = self.stage.installation.settings["runtimes"][0]
        self.stage.installation.settings["runtimes"].append({
            "name": DEDICATED, "mode": "dedicated", "organization": BIG,
            "langflow": {**first["langflow"], "url": pair[0].url},
            "ragflow": {**first["ragflow"], "url": pair[1].url}})
        self.standins += pair

    def _faked_clock(self):
        library = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"
        if not os.path.exists(library):
            raise RuntimeError("libfaketime is missing: install the Debian package faketime")
        return ("env", f"LD_PRELOAD={library}", f"FAKETIME_TIMESTAMP_FILE={self.clock}", "FAKETIME_CACHE_DURATION=1",
                "DONT_FAKE_MONOTONIC=1", "FAKETIME_DONT_FAKE_MONOTONIC=1")

    # ---- what cases do to it ----

    @property
    def workers(self):
        return self.stage.workers

    def slow_down(self, standin):
        standin.fault("delay_reply", every=True, ms=self.answer_ms, path_prefix="/api/")

    def set_clock(self, hours):
        """Of worker-1; it notices within a second."""
        with open(self.clock + ".new", "w") as f:
            f.write(f"{hours * 3600:+d}s\n")
        os.replace(self.clock + ".new", self.clock)

    def sleep(self, short, long):
        time.sleep(self.form.of(short, long))

    # ---- the timeline ----

    def begin(self):
        for load in self.loads.values():
            load.start()
        # As many begin as end only when the first ones are on their way out.
        eventually(lambda: all(load.ended >= load.outstanding for load in self.loads.values()), self.form.patience_s,
                   "the load flows", describe=self.stage.describe)

    def _check_loads(self):
        for load in self.loads.values():
            load.check()

    def _worked_off(self, backlogs):
        self._check_loads()
        return not any(backlog & load.backlog() for backlog, load in zip(backlogs, self.loads.values()))

    def _everyone_is_well(self):
        """Replicas say so themselves; each listens, and somebody reads every partition."""
        for worker in self.workers:
            assert worker.alive(), worker.tail()
            status, text = worker.get("/readyz")
            assert status == 200, f"{worker.name}: /readyz {status} {text}"
        listening = self.admin.value("SELECT count(*) FROM pg_stat_activity WHERE application_name = "
                                     "'provisioner listen' AND datname = current_database()")
        assert listening == len(self.workers), f"{listening} sessions listen"
        return True

    def go_through(self, case, window):
        """Baseline, fault, recovery; returns {runtime: figures}. window: seconds that throughput is measured for."""
        before = time.time()
        time.sleep(window)
        faulty = time.time()
        rates = {runtime: Arrivals(self.stage.db, runtime).per_second(before, faulty) for runtime in self.loads}
        for runtime, load in self.loads.items():
            load.press(PRESSURE * rates[runtime])
        notes = []
        story = case.story(self, notes.append)
        next(story)
        healed = time.time()
        for load in self.loads.values():
            load.press(0)
        time.sleep(0.2)  # what it was about to order
        backlogs = [load.backlog() for load in self.loads.values()]
        eventually(lambda: self._worked_off(backlogs), self.form.patience_s, f"{case.name}: the backlog is worked off",
                   describe=self.stage.describe)
        caught_up = time.time()
        eventually(self._everyone_is_well, self.form.patience_s, f"{case.name}: every replica is well",
                   describe=self.stage.describe)
        # The throughput of what was held back is not the usual one.
        time.sleep(self.form.settle_s)
        after = time.time()
        time.sleep(window)
        end = time.time()
        for _ in story:
            raise AssertionError(f"{case.name} goes on")
        self._check_loads()
        found = {}
        for runtime in self.loads:
            arrivals = Arrivals(self.stage.db, runtime)
            baseline = rates[runtime]
            found[runtime] = {
                "baseline": baseline, "during": arrivals.count(faulty, healed) / (healed - faulty),
                "after": arrivals.per_second(after, end),
                "recover_s": max(caught_up, arrivals.back_at(healed, BACK * baseline, end)) - healed}
        return found, notes

    def settle(self):
        """Ends the load and returns the breaches of the promise."""
        expected = {}
        for load in self.loads.values():
            load.end()
            expected.update(load.expected)
        self.stage.settled(self.form.patience_s)
        langflow, ragflow = (Both(*self.standins[i::2]) if self.second else self.standins[i] for i in (0, 1))
        return breaches(self.stage.db, langflow, ragflow, expected, self.foreign, self.stage.world)

    def close(self):
        for load in self.loads.values():
            load.stop()
        self.admin.close()
        self.stage.close()
        for standin in self.standins[2:]:
            standin.close()
        self.kafka.close()
        self.postgres.close()
        if self.mount:
            subprocess.run(["umount", self.mount], check=True)
            self.mount = None
