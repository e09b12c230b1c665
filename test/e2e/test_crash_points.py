"""
Every named point at which a worker may die, in every dialect: reached, died at by SIGKILL, and nobody notices.

A reference life of subscriptions tells which points are passed in which part of a life. Then life goes on with other
subscriptions, and a worker for each point that dies there, beside one that lives; whatever they were at is the living
one's to finish. A point that no life reaches is a failure, and so is one that is reached and not died at.
"""

import collections
import concurrent.futures
import os
import signal
import time
import traceback

import psycopg2

from harness import (Case, Expected, FaultyWorker, Subscription, eventually, fault_points, flow_data, flow_uuid, main,
                     say)

LEASE_S, TAKEOVER_S, PARTITIONS = 3, 20, 32
SURVIVORS_JOBS = 8  # that the one holds who outlives the others

# What is only met where something goes wrong once: what a worker for that point fails at before.
PROVOKED = {"store/job_settle/": "request/before#1", "store/jobs_back/": "statement/step_name#1-4",
            "store/outbox_back/": "kafka/outcomes/delivery#1", "store/outbox_forget/": "unsent/outbox_claim#2"}
# In the reference: a lost connection by itself, since it drops what else goes wrong.
IN_REFERENCE = {"created": "request/before#1,statement/step_name#1-4,kafka/outcomes/delivery#1",
                "ordered again": "unsent/outbox_claim#2"}
# What only those pass who have partitions.
TAKEN_IN = ("kafka/events/", "kafka/dead_letters/", "store/inbox_take/", "store/dead_letter_")
SETTINGS = {"worker.lease": f"{LEASE_S}s", "worker.probe_settle": "100ms", "retry.initial": "50ms",
            "retention.chat_history": "30d", "worker.max_jobs": 2, "runtimes.0.langflow.timeout": "2s",
            "runtimes.0.ragflow.timeout": "2s",
            "kafka.properties": {"session.timeout.ms": "3000", "heartbeat.interval.ms": "500"}}


class Life:
    """The parts of the lives of some subscriptions, in order. Each sends its events; what they lead to is awaited."""

    PARTS = ("created", "ordered again", "suspended", "resumed", "terminated", "restored", "purged")
    late_ms = 0  # how late the first requests of a part are answered

    def __init__(self, seed, stage):
        self.seed, self.stage = seed, stage
        self.expected, self.outcomes, self.born = {}, collections.Counter(), 0
        self.perhaps = collections.Counter()  # outcomes that are told where a job comes before its successor
        self.kept = []  # closed, and due to be purged

    def bear(self, n):
        subs = [Subscription(self.seed, self.born + i, organizations=10 ** 6) for i in range(n)]
        self.born += n
        return subs

    def begin(self, part, subs):
        self.in_time()
        getattr(self, part.replace(" ", "_"))(subs)

    def settle(self, timeout=60):
        self.stage.promise(self.expected, timeout=timeout)

    def expect(self, subs, active, *outcomes, **more):
        """What is then there of them, and what of it is told: "ready", ..."""
        self.outcomes.update((s.uuid, f"subscription.{outcome}") for s in subs for outcome in outcomes)
        self.expected.update({s.uuid: Expected.of(s, active, **{**s.own, **more} if active else more) for s in subs})

    def send(self, *events):
        self.late(len(events))
        self.stage.producer.send(*events)

    def late(self, jobs):
        """Jobs in hand take a second: while one has all that it may hold, others get theirs."""
        if self.late_ms:
            for standin in (self.stage.langflow, self.stage.ragflow):
                standin.fault("delay_reply", every=True, count=3 * jobs, ms=self.late_ms, path_prefix="/api/")

    def in_time(self):
        for standin in (self.stage.langflow, self.stage.ragflow):
            standin.clear_faults()

    def created(self, subs):
        for sub in subs:
            sub.own = {}
        events = [s.created() for s in subs]
        for partition in range(PARTITIONS):
            self.stage.letters += 1
            self.stage.producer.raw(None, b"{nonsense %d" % self.stage.letters, partition=partition)
        self.send(*events, *events[::3])
        self.expect(subs, True, "ready")

    def ordered_again(self, subs):
        for sub in subs:
            sub.variables = {**sub.variables, "tone": "casual", "added": "later"}
            self.spoil(sub)
        self.send(*(s.created() for s in subs))
        self.expect(subs, True, "ready")

    def suspended(self, subs):
        self.send(*(s.suspended() for s in subs))
        self.expect(subs, True, "paused", suspended=True)

    def resumed(self, subs):
        for sub in subs:
            sub.variables = {**sub.variables, "tone": "calm"}
        self.send(*(e for s in subs for e in (s.updated(), s.resumed())))
        self.perhaps.update((s.uuid, "subscription.paused") for s in subs)
        self.expect(subs, True, "ready")

    def terminated(self, subs):
        for sub in subs:
            self.use(sub)
        self.send(*(s.terminated() for s in subs))
        self.expect(subs, False, "archived", kept=True)
        self.kept += subs

    def restored(self, subs):
        self.kept = [s for s in self.kept if s not in subs]
        self.send(*(s.created() for s in subs))
        self.expect(subs, True, "ready")

    def purged(self, subs):
        for sub in subs:
            self.use(sub)
        self.send(*(s.terminated() for s in subs))
        self.expect(subs, False, "archived", kept=True)
        self.kept += subs
        self.settle()
        self.in_time()
        for i, sub in enumerate(subs):
            self.leave(sub, i)
        self.late(len(self.kept))
        self.stage.purge()
        self.expect(self.kept, False, "purged")
        self.kept = []

    # What tenants and administrators do, where the products are there themselves.

    def spoil(self, sub):
        """What is ours is not as it was."""

    def use(self, sub):
        """As its tenant does."""

    def leave(self, sub, i):
        """What happens to closed ones."""


def let_many_in(postgres):
    """Connections for all who shall die, at once."""
    conn = psycopg2.connect(postgres.admin_url())
    conn.autocommit = True
    with conn.cursor() as c:
        c.execute("ALTER SYSTEM SET max_connections = 400")
    conn.close()
    postgres.restart()


class Enumeration:
    """Every point of one dialect, on a stage of its own."""

    name, apis, options, life = "facade", ("workspaces", "collections"), {}, Life
    # Points that this dialect has and its lives do not meet, with why; another one's do.
    elsewhere = {}
    in_reference = IN_REFERENCE

    def __init__(self, case):
        self.case, self.stage, self.retention, self.worst = case, None, [], 0
        self.points, self.died = set(), 0

    def say(self, text):
        say(f"{self.name}: {text}")

    def run(self):
        began = time.monotonic()
        self.stage = self.set_up()
        self.stage.purge, self.stage.letters = self.purge, 0
        self.foreign = self.stage.plant_foreign(3)
        parts = self.reference()
        self.points = set().union(*parts.values())
        self.say(f"{len(self.points)} points are passed in a life, {time.monotonic() - began:.0f} s")
        self.check_complete(self.points)
        self.kill_everywhere(parts)

    def set_up(self):
        """A stage without workers."""
        return self.case.stage(workers=0, overrides=SETTINGS, partitions=PARTITIONS, **self.options)

    def wanted(self):
        """The points that its lives have to meet."""
        return fault_points(self.apis)

    # ---- retention ----

    def purge(self):
        """Wishes what is due away, and leaves it to the workers."""
        stage = self.stage
        keeper = FaultyWorker(stage, f"retention-{len(self.retention)}", fail="statement/jobs_claim#0")
        later = stage.db.value("SELECT to_char((now() + interval '31 days') AT TIME ZONE 'UTC', "
                               "'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')")
        keeper.launch("retention", "--now", later)
        self.retention.append(keeper)

    def retained(self):
        for keeper in self.retention:
            self.case.assertEqual(keeper.process.wait(60), 0, keeper.tail())
            keeper.assert_clean()
        self.retention = []

    # ---- the reference ----

    def reference(self):
        """{part: the points that are passed in it}. Each part in a process of its own, the last of its kind."""
        stage, parts = self.stage, {}
        life, subs = self.life("reference", stage), None
        for i, part in enumerate(self.life.PARTS):
            worker = FaultyWorker(stage, f"reference-{i}", fail=self.in_reference.get(part))
            stage.workers.append(worker)
            worker.start()
            subs = subs or life.bear(3)
            life.begin(part, subs)
            self.retained()
            life.settle()
            eventually(lambda: worker.passed("store/worker_renew/committed") and
                       worker.passed("store/counts/committed"), 20, "it works for some time")
            worker.stop()
            parts[part] = set(worker.told("passed"))
        self.reference_life = life
        return parts

    def check_complete(self, passed):
        wanted = self.wanted()
        self.case.assertEqual(sorted(passed - wanted), [], "points that nobody knows of")
        missing, met = ({p.rpartition("/")[0] for p in some} for some in (wanted - passed, passed))
        self.case.assertEqual(sorted(missing - set(self.elsewhere)), [], "points that no life reaches")
        self.case.assertEqual(sorted(met & set(self.elsewhere)), [], "points that are said not to be met")

    # ---- the kills ----

    def assign(self, parts):
        """Each point to one of its parts, evenly; to the last what is nowhere else: not every job passes that."""
        where = collections.defaultdict(list)
        for part, passed in parts.items():
            for point in passed:
                where[point].append(part)
        assigned, last = {part: [] for part in self.life.PARTS}, self.life.PARTS[-1]
        for point in sorted(where, key=lambda p: (len(where[p]), p)):
            first = point.startswith((*PROVOKED, *TAKEN_IN))
            part = self.life.PARTS[0] if first else min(where[point], key=lambda p: (p == last, len(assigned[p])))
            assigned[part].append(point)
        return assigned

    def kill_everywhere(self, parts):
        stage = self.stage
        life = self.life("killed", stage)
        life.late_ms = 150
        life.expected.update(self.reference_life.expected)
        life.outcomes.update(self.reference_life.outcomes)
        life.perhaps.update(self.reference_life.perhaps)
        stage.installation.set("worker.max_jobs", SURVIVORS_JOBS)
        stage.start_workers(1)
        assigned = self.assign(parts)
        subs = life.bear(2 * max(len(points) for points in assigned.values()) + SURVIVORS_JOBS)
        for i, part in enumerate(self.life.PARTS):
            began = time.monotonic()
            self.kill_in(life, i, subs, assigned[part])
            self.retained()
            life.settle(180)
            self.died += len(assigned[part])
            self.say(f"{part}: {len(assigned[part])} died, {time.monotonic() - began:.1f} s, worst takeover "
                     f"{self.worst:.1f} s")
        stage.promise(life.expected, self.foreign)
        self.nothing_is_lost(life)
        self.case.assertEqual(self.died, len(self.points))

    def nothing_is_lost(self, life):
        """Each outcome was told, under one id, and each letter that cannot be read is kept and published."""
        wanted, most, reader = life.outcomes, life.outcomes + life.perhaps, self.stage.reader("outcomes")

        def told():
            events = {e["id"]: (e["subject"], e["type"]) for e in reader.events()}
            return collections.Counter(events.values())

        eventually(lambda: told() >= wanted, 30, "all outcomes are told", describe=lambda: str(wanted - told()))
        self.case.assertEqual(told() - most, collections.Counter(), "what nobody is to be told")
        self.case.assertEqual(self.unrecorded(), [], "changes that left before their intent was kept")
        letters = self.stage.db.one("SELECT count(*) AS kept, count(published_at) AS published FROM dead_letter")
        self.case.assertEqual(letters, {"kept": self.stage.letters, "published": self.stage.letters})

    def unrecorded(self):
        """The workers' changes, told by their request ids, that the journal does not know of. A login is none."""
        known = {r["request_id"] for r in self.stage.db.rows("SELECT request_id FROM provisioning_effect")}
        sent = {e["headers"]["x-request-id"]: f"{e['method']} {e['path']}"
                for standin in (self.stage.langflow, self.stage.ragflow) for e in standin.mutations()
                if "x-request-id" in e["headers"] and not e["path"].endswith("/login")}
        self.case.assertGreater(len(sent), len(self.points), "hardly a change bears a request id")
        return sorted(f"{id}: {what}" for id, what in sent.items() if id not in known)

    def kill_in(self, life, at, subs, points):
        """All jobs are in hand somewhere, once each has what it may hold."""
        stage, victims = self.stage, []
        stage.installation.set("worker.max_jobs", (len(subs) - SURVIVORS_JOBS) // max(1, len(points)))
        for point in points:
            fail = next((f for p, f in PROVOKED.items() if point.startswith(p)), None)
            self.prepare(point)
            victims.append(FaultyWorker(stage, f"victim-{at}-{len(victims)}", point, fail, "127.0.0.1:0"))
        stage.workers += victims
        for v in victims:
            v.start(ready=False)
        eventually(lambda: all(v.passed("store/worker_register/committed") or not v.alive() for v in victims), 60,
                   "the victims are registered", describe=stage.describe)
        if any(v.crash_at.startswith(TAKEN_IN) for v in victims):
            self.shared_out(victims)
        for v in victims:
            if v.crash_at.startswith("store/worker_leave/"):
                v.process.send_signal(signal.SIGTERM)
        life.begin(self.life.PARTS[at], subs)
        self.watch(life, at, victims)

    def prepare(self, point):
        """The configuration of the one that shall die there."""

    def shared_out(self, victims):
        """Every one of them has its share of the partitions."""
        group = self.stage.installation.settings["kafka"]["group_id"]

        def shared():
            state, members = self.case.kafka.group(group)
            return state == "Stable" and members > sum(v.alive() for v in victims)

        eventually(shared, 60, "the partitions are shared out", describe=self.stage.describe)

    def watch(self, life, at, victims):
        """Until all are dead and what they were at is another's. Who has nothing left to do gets more."""
        living, orphaned, end = set(victims), {}, time.monotonic() + 180
        while living or orphaned:
            now = time.monotonic()
            if now > end:
                self.case.fail(f"not died: {[v.crash_at for v in living]}, not taken over: {orphaned}\n"
                          + self.stage.describe())
            fallen = {v for v in living if v.fell()}
            living -= fallen
            running = self.running()
            for v in fallen:
                orphaned.update({job: now for job, pid in running.items() if pid == v.pid})
            for job in [j for j in orphaned if j not in running]:
                self.worst = max(self.worst, now - orphaned.pop(job))
                self.case.assertLess(self.worst, TAKEOVER_S)
            if living and not fallen and not orphaned and self.idle():
                self.say(f"not met yet: {sorted(v.crash_at for v in living)}")
                subs = life.bear(2 * len(living) + SURVIVORS_JOBS)
                for part in self.life.PARTS[:at]:
                    life.begin(part, subs)
                    life.settle()
                life.begin(self.life.PARTS[at], subs)
            time.sleep(0.05)

    def idle(self):
        """Whatever was sent is done."""
        db = self.stage.db
        return (db.events() >= len(self.stage.producer.sent) and db.live_jobs() == 0
                and db.value("SELECT count(*) FROM outbox") == 0
                and all(k.process.poll() is not None for k in self.retention))

    def running(self):
        """{(job, fence): its worker's pid}"""
        return {(r["id"], r["fence"]): r["pid"] for r in self.stage.db.rows(
            "SELECT j.id, j.fence, w.pid FROM provisioning_job j LEFT JOIN worker w ON w.owner = j.lease_owner "
            "WHERE j.state = 'running'")}


class Facade(Enumeration):
    """The platform's own dialect."""

    elsewhere = {"store/runtime_keep": "an object's id is told with the object"}


class NativeLife(Life):
    """Spoilt, used and left so that every change of the products' drivers is needed somewhere."""

    def spoil(self, sub):
        langflow, ragflow, config = self.stage.langflow, self.stage.ragflow, self.stage.db.config(sub.uuid)
        key, account = self.stage.runtime_key(sub.uuid), langflow.account(sub.uuid)
        flow, = account["flows"]
        there = {v["name"]: v for v in account["variables"]}
        langflow.do("DELETE", "/flows/" + flow["id"], key=key)
        # It takes the name: what is made anew is renamed by the server.
        mine = langflow.do("POST", "/flows/", {"name": flow["name"], "data": flow_data("mine")}, key=key)["id"]
        collection = there["ragflow_collection_id"]
        langflow.do("PATCH", "/variables/" + collection["id"], {**collection, "value": "another"}, key=key)
        langflow.do("DELETE", "/variables/" + there["ragflow_url"]["id"], key=key)
        langflow.do("POST", "/api_key/", {"name": "mine"}, key=key)
        langflow.do("PATCH", "/users/" + config["runtime_workspace_id"], {"is_active": False})
        ragflow.do("PUT", "/datasets/" + config["knowledge_base_id"], {"parser_config": {"chunk_token_num": 128}},
                   key=self.ragflow_key(sub))
        if self.stage.setup.tenancy == "subscription":
            self.change_keys(sub)
        if self.stage.setup.tenancy != "shared":
            ragflow.administrate("PUT", config["knowledge_base_tenant"], "/activate", {"activate_status": "off"})
        sub.own = {"own_flows": [mine], "own_keys": ["mine"], "variables": None, "own_variables": ["tone", "added"]}

    def change_keys(self, sub):
        """Its tenant's key is gone, and there are two others."""
        ragflow, former = self.stage.ragflow, self.ragflow_key(sub)
        for _ in range(2):
            ragflow.do("POST", "/system/tokens", {}, key=former)
        ragflow.administrate("DELETE", self.stage.db.config(sub.uuid)["knowledge_base_tenant"], "/keys/" + former)

    def ragflow_key(self, sub):
        own = self.stage.db.value("SELECT count(*) FROM agent_runtime_key WHERE subscription_uuid = %s AND "
                                  "product = 'ragflow'", sub.uuid)
        return self.stage.runtime_key(sub.uuid, "ragflow") if own else None

    def use(self, sub):
        langflow, account = self.stage.langflow, self.stage.langflow.account(sub.uuid)
        key, flow = self.stage.runtime_key(sub.uuid), flow_uuid(sub.uuid)
        self.stage.ragflow.documents(self.stage.db.config(sub.uuid)["knowledge_base_id"], "document.pdf")
        langflow.do("POST", "/run/" + flow, {"input_value": "hello"}, key=key)
        langflow.upload("/api/v1/files/upload/" + flow, "note.txt", key)
        langflow.upload("/api/v2/files", "own.txt", key)
        langflow.do("PATCH", "/flows/" + flow, {"locked": False}, key=key)
        langflow.do("PATCH", "/flows/" + flow, {"access_type": "PUBLIC"}, key=key)
        for f in account["flows"]:
            langflow.do("PATCH", "/flows/" + f["id"], {"locked": True}, key=key)

    def leave(self, sub, i):
        langflow, config = self.stage.langflow, self.stage.db.config(sub.uuid)
        langflow.message(flow_uuid(sub.uuid))
        if i % 2 and langflow.profile != "1.13":
            langflow.do("DELETE", "/users/" + config["runtime_workspace_id"])
        else:
            # A flow that cannot be deleted leaves its messages to be.
            langflow.fault("status", method="DELETE", path_prefix="/api/v1/flows/" + flow_uuid(sub.uuid), every=True,
                           count=2, status=404, body='{"detail":"Flow not found"}')


# Why points are not met, each where another case meets them.
LOCKED = {"http/langflow/flow.unlock": "a locked flow can be changed all the same"}
STAYS = {f"http/ragflow/tenant.{effect}": "an organization's tenant stays"
         for effect in ("close", "delete", "key.delete")}


class Langflow18(Enumeration):
    """Langflow 1.8 and RAGFlow in Go, one tenant for all."""

    name, apis, life = "langflow 1.8", ("langflow", "ragflow"), NativeLife
    options = {"dialect": "native", "profiles": ("1.8", "0.27-go")}
    elsewhere = {**LOCKED, **{f"http/ragflow/tenant.{effect}": "the platform's tenant is there" for effect in (
        "create", "open", "close", "delete", "key", "key.delete", "invite", "join", "provider", "model")}}


class Langflow110(Enumeration):
    """Langflow 1.10 and RAGFlow in Python, a tenant with a provider of its own for each organization."""

    name, apis, life = "langflow 1.10", ("langflow", "ragflow"), NativeLife
    options = {"dialect": "native", "profiles": ("1.10", "0.27-python"), "tenancy": "organization",
               "models": "provider"}
    elsewhere = {**LOCKED, **STAYS, "http/ragflow/tenant.invite": "models are the tenant's own",
                 "http/ragflow/tenant.join": "models are the tenant's own"}


class Langflow113(Enumeration):
    """Langflow 1.13 and RAGFlow in Python, a tenant that shares the platform's models for each subscription."""

    name, apis, life = "langflow 1.13", ("langflow", "ragflow"), NativeLife
    options = {"dialect": "native", "profiles": ("1.13", "0.27-python"), "tenancy": "subscription"}
    elsewhere = {"http/langflow/residue.put": "messages go with their flow's user",
                 "http/langflow/residue.delete": "messages go with their flow's user",
                 "http/ragflow/tenant.provider": "models are shared", "http/ragflow/tenant.model": "models are shared"}


DIALECTS = (Facade, Langflow18, Langflow110, Langflow113)
WANTED = os.environ.get("DIALECT")


class CrashPoints(Case):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        let_many_in(cls.postgres)

    def test_every_change_and_statement_is_met_somewhere(self):
        for point in fault_points({api for d in DIALECTS for api in d.apis}):
            place = point.rpartition("/")[0]
            able = [d for d in DIALECTS if point in fault_points(d.apis)]
            self.assertTrue(any(place not in d.elsewhere for d in able), f"no dialect's lives have to meet {place}")

    def test_every_point(self):
        """All dialects at once: most of it is waiting. DIALECT: only that one."""
        chosen = [d(self) for d in DIALECTS if WANTED in (None, d.name)]
        pool = concurrent.futures.ThreadPoolExecutor(len(chosen))
        self.addCleanup(pool.shutdown)  # after the stages: what a thread has started ends with it
        runs = {d: pool.submit(d.run) for d in chosen}
        problems = [f"--- {d.name} ---\n" + "".join(traceback.format_exception(run.exception()))
                    for d, run in runs.items() if run.exception()]
        say(f"{sum(d.died for d in chosen)} workers died at {len(set().union(*(d.points for d in chosen)))} points of "
            f"{len(chosen)} dialects; worst takeover {max(d.worst for d in chosen):.1f} s")
        self.assertFalse(problems, "\n".join(problems))


if __name__ == "__main__":
    main()
