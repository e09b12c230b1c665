"""
The faults. A case's story is a generator: what comes before its yield breaks something and mends what only a human or
a supervisor could mend; what comes after it tidies up, when throughput has been measured.
"""

import os
import signal
import time
from datetime import datetime, timezone

import psycopg2

from harness import Worker, eventually

from scene import DISK_MB, SHARED, DEDICATED

CASES = {}


class Case:
    def __init__(self, name, story, scene, unharmed=()):
        self.name, self.story, self.scene = name, story, scene
        self.help = " ".join(story.__doc__.split())
        self.unharmed = unharmed  # runtimes that the fault must not slow down


def case(name, unharmed=(), **scene):
    def add(story):
        CASES[name] = Case(name, story, scene, unharmed)
        return story
    return add


# ---- replicas ----

@case("worker-crash")
def worker_crash(scene, note):
    """One of two replicas is killed (SIGKILL) in the middle of its work and started again, several times."""
    for i in range(scene.form.of(2, 6)):
        victim = scene.workers[i % 2]
        victim.kill()
        scene.sleep(1, 4)
        victim.start()
        scene.sleep(0.5, 2)
    yield


@case("rebalance-storm")
def rebalance_storm(scene, note):
    """Two more replicas join the group and leave it again every few seconds."""
    guests = [Worker(scene.stage.installation, f"guest-{i}") for i in range(2)]
    for _ in range(scene.form.of(2, 6)):
        for guest in guests:
            guest.start(ready=False)
            scene.sleep(1, 2)
        for guest in guests:
            guest.wait_ready()
            guest.stop()
    yield


@case("broker-restart")
def broker_restart(scene, note):
    """Kafka is killed (SIGKILL) and comes back on the same data, then is restarted in order."""
    scene.kafka.kill()
    scene.sleep(2, 10)
    scene.kafka.start()
    if not scene.form.short:
        scene.sleep(0, 10)
        scene.kafka.restart()
    yield


# ---- PostgreSQL ----

@case("postgres-restart")
def postgres_restart(scene, note):
    """PostgreSQL is restarted (fast shutdown)."""
    for _ in range(scene.form.of(1, 3)):
        scene.postgres.restart()
        scene.sleep(0, 3)
    yield


@case("postgres-crash")
def postgres_crash(scene, note):
    """PostgreSQL and all its processes are killed (SIGKILL); it comes back by crash recovery."""
    for _ in range(scene.form.of(1, 3)):
        scene.postgres.kill()
        scene.sleep(1, 5)
        scene.postgres.start()
        scene.sleep(0, 3)
    yield


def end_sessions(scene):
    """Of the replicas."""
    return scene.admin.value("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE "
                             "application_name LIKE 'provisioner%%' AND datname = current_database()")


@case("backends-killed")
def backends_killed(scene, note):
    """The replicas' sessions are ended (pg_terminate_backend) again and again."""
    n = 0
    end = time.monotonic() + scene.form.of(3, 20)
    while time.monotonic() < end:
        n += end_sessions(scene)
        time.sleep(0.5)
    note(f"{n} sessions ended")
    yield


@case("connections-exhausted")
def connections_exhausted(scene, note):
    """Others have taken all connections that the role may have; the replicas, cut off, find none for a while."""
    url = scene.stage.database_url
    others, limit = [], 30
    scene.admin.rows(f"ALTER ROLE provisioner CONNECTION LIMIT {limit}")
    try:
        end = time.monotonic() + scene.form.of(4, 20)
        while time.monotonic() < end:
            end_sessions(scene)
            try:
                while True:
                    others.append(psycopg2.connect(url))
            except psycopg2.OperationalError:
                pass
            time.sleep(0.2)
        ours = scene.admin.value("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'provisioner%%' "
                                 "AND datname = current_database()")
        note(f"{len(others)} of {limit} connections taken, {ours} left to the replicas")
    finally:
        for connection in others:
            connection.close()
        scene.admin.rows("ALTER ROLE provisioner CONNECTION LIMIT -1")
    yield


@case("disk-full", disk=True)
def disk_full(scene, note):
    """PostgreSQL's disk, data and WAL, is full for a while. Should it give up, its supervisor starts it again."""
    filler = os.path.join(scene.mount, "filler")
    with open(filler, "wb", buffering=0) as f:
        for size in (1 << 20, 1 << 12):
            try:
                for _ in range(DISK_MB << 20 // size):
                    f.write(b"\0" * size)
            except OSError:
                continue
    scene.sleep(2, 15)
    # The journal has room in the segments that it has; when they are used up, PostgreSQL has to give up.
    try:
        for _ in range(DISK_MB >> 4):
            scene.admin.rows("SELECT pg_logical_emit_message(false, 'chaos', 'x')")
            scene.admin.rows("SELECT pg_switch_wal()")
    except psycopg2.Error:
        pass
    scene.sleep(3, 15)
    # Its log is on that disk too, and lacks a line or two.
    errors, gave_up = (server_says(scene, words) for words in ("No space left on device", "system is shut down"))
    os.unlink(filler)
    assert errors and gave_up, f"the disk was not full enough: {errors} errors, given up {gave_up} times"
    note(f"PostgreSQL said so at least {errors} times, and gave up")
    scene.postgres.start()  # does nothing where it runs
    yield


def server_says(scene, words):
    with open(os.path.join(scene.mount, "server", "log"), errors="replace") as f:
        return sum(words in line for line in f)


@case("vacuum-pinned")
def vacuum_pinned(scene, note):
    """A transaction keeps its snapshot for the whole time, so that no dead row may be removed, while the load runs."""
    pin = psycopg2.connect(scene.stage.database_url)
    pin.set_session(isolation_level="REPEATABLE READ")
    with pin.cursor() as c:
        c.execute("SELECT count(*) FROM agent_marketplace.provisioning_job")
    scene.sleep(4, 120)
    bounded, whole = pages_of_a_look(scene)
    dead = scene.admin.value("SELECT sum(n_dead_tup) FROM pg_stat_user_tables")
    note(f"{dead} dead rows; pages read by one look " + ", ".join(
        f"for {what}: {bounded[what]}, from the beginning: {whole[what]}" for what in bounded))
    # In seconds not much dies; e2e.schema tells it for sure.
    assert scene.form.short or all(bounded[what] < whole[what] / 2 for what in bounded), "looks walk over all dead rows"
    yield
    pin.close()


QUEUES = ("ready", "later", "running", "outbox")


def pages_of_a_look(scene):
    """How much one search for work has to read: as sessions do that have searched for a while, and from the beginning."""
    connection = psycopg2.connect(scene.stage.database_url, options="-c search_path=agent_marketplace")
    try:
        with connection.cursor() as c:
            for pause in (2.1, 2.1, 2.1, 0):  # as old as a bound has to be, and one that was just renewed
                c.execute("SELECT queue_floor(q) FROM unnest(%s) q", (list(QUEUES),))
                connection.commit()
                time.sleep(pause)
            pages_of_looks(connection)  # what a session reads once
            bounded = pages_of_looks(connection)
            c.execute("SELECT set_config('provisioner.floor_of_' || q, '', false) FROM unnest(%s) q", (list(QUEUES),))
            connection.commit()
            return bounded, pages_of_looks(connection)
    finally:
        connection.close()


def pages_of_looks(connection):
    owner = "00000000-0000-4000-8000-000000000001"
    bounds = '{"organization_max": 100, "runtime_max": 1000}'
    looks = {"jobs": f"SELECT * FROM jobs_claim('{owner}', 1, '{owner}', 4, NULL, false, '{bounds}')",
             "outcomes": f"SELECT * FROM outbox_claim('{owner}', 1)"}
    pages = {}
    with connection.cursor() as c:
        for what, look in looks.items():
            # One claims at a time, and who comes meanwhile reads nothing.
            c.execute("SELECT pg_advisory_xact_lock(hashtext('agent_marketplace.' || x)) "
                      "FROM unnest('{jobs_claim,outbox_claim}'::text[]) x")
            c.execute(f"SELECT worker_register('{owner}', 'probe', 1, 'probe', 60000)")
            c.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {look}")
            plan = c.fetchone()[0][0]["Plan"]
            pages[what] = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
            connection.rollback()
    return pages


# ---- upstreams ----

@case("retry-storm")
def retry_storm(scene, note):
    """Langflow and RAGFlow answer everything with 503 or 429 and Retry-After for a while."""
    for i, standin in enumerate(scene.standins):
        standin.clear_faults()
        standin.fault("status", every=True, status=(503, 429)[i % 2], headers={"Retry-After": "1"}, path_prefix="/api/",
                      body={"detail": "busy"})
    scene.sleep(4, 20)
    for standin in scene.standins:
        note(f"{standin.dialect}: {standin.fired()} refused")
        standin.clear_faults()
        scene.slow_down(standin)
    yield


@case("hanging-upstream", second=True, unharmed=(SHARED,))
def hanging_upstream(scene, note):
    """One of two runtimes takes requests and never answers; the other's throughput must not suffer."""
    hanging = scene.standins[2:]
    for standin in hanging:
        standin.clear_faults()
        standin.fault("hang", every=True, path_prefix="/api/")
    scene.sleep(8, 40)
    for standin in hanging:
        standin.clear_faults()
        scene.slow_down(standin)
    yield


@case("slow-upstream", second=True, unharmed=(SHARED,))
def slow_upstream(scene, note):
    """One of two runtimes answers twenty times slower than usual; the other's throughput must not suffer."""
    slow = scene.standins[2:]
    for standin in slow:
        standin.clear_faults()
        standin.fault("delay_reply", every=True, ms=2000, path_prefix="/api/")
    scene.sleep(8, 40)
    for standin in slow:
        standin.clear_faults()
        scene.slow_down(standin)
    yield


# ---- clocks ----

@case("clock-steps", clock=True)
def clock_steps(scene, note):
    """One replica's wall clock is set hours ahead and hours back; its monotonic clock goes on."""
    worker = scene.workers[1]
    for hours in (5, -5, 0):
        scene.set_clock(hours)
        scene.sleep(2, 8)
        told = datetime.fromisoformat(worker.logs()[-1]["time"].replace("Z", "+00:00"))
        off = (told - datetime.now(timezone.utc)).total_seconds() / 3600
        assert abs(off - hours) < 0.1, f"its clock is {off:.2f} hours off, not {hours}"
    yield


# ---- the products themselves ----

@case("native-storm", dialect="native")
def native_storm(scene, note):
    """With Langflow's and RAGFlow's own interfaces: answers are lost, others ask for patience, sessions are ended."""
    for standin in scene.standins:
        standin.clear_faults()
        standin.fault("lose_reply", probability=0.02, seed=1, path_prefix="/api/")
        standin.fault("status", probability=0.05, seed=2, status=503, headers={"Retry-After": "1"}, path_prefix="/api/",
                      body={"detail": "busy"})
        scene.slow_down(standin)
    for _ in range(scene.form.of(3, 10)):
        end_sessions(scene)
        scene.sleep(1, 3)
    for standin in scene.standins:
        note(f"{standin.dialect}: {sum(r['fired'] for r in standin.faults()[:2])} answers spoilt")
        standin.clear_faults()
        scene.slow_down(standin)
    yield
