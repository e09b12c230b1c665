#!/usr/bin/env python3
"""The database by itself: migrations, constraints, what every function promises, races, and who may see what."""

import collections
import hashlib
import itertools
import json
import os
import random
import subprocess
import threading
import time
import unittest
import urllib.parse
import uuid as uuids

import psycopg2
import psycopg2.errors as pg
import psycopg2.extras

from harness import (Database, Installation, PrivatePostgres, RevealKey, Standin, Subscription, Worker, backlog, main,
                     say)
from harness.process import WITH_US, at_end, environment, eventually, source_dir
from harness.stage import new_secrets
from harness.worker import SANITIZER

NOON = "2026-11-21T12:00:00Z"
LATER = "2026-11-21T13:00:00Z"
EARLIER = "2026-11-21T11:00:00Z"
NIL = "00000000-0000-0000-0000-000000000000"
DAY_MS = 86_400_000
LEASE_MS = 60_000
STATES = ["queued", "running", "retrying", "held", "failed", "superseded", "succeeded", "cancelled"]
LIVE = ["queued", "running", "retrying", "held"]
MIGRATIONS = [f for f in os.listdir(os.path.join(environment("SOURCE_DIR"), "migrations")) if f.endswith(".sql")]
TOPICS = {"events": "schema.events", "dead_letters": "schema.dlq", "outcomes": "schema.outcomes"}


def new_uuid():
    return str(uuids.uuid4())


def change(url, **parts):
    return urllib.parse.urlunsplit(urllib.parse.urlsplit(url)._replace(**parts))


def as_user(url, user, password):
    where = urllib.parse.urlsplit(url).netloc.rpartition("@")[2]
    return change(url, netloc=f"{user}:{password}@{where}")


SEALED = bytes(range(100, 180))


class Session:
    """One connection; autocommit unless said otherwise."""

    def __init__(self, url, autocommit=True):
        self.conn = psycopg2.connect(url, options="-c search_path=agent_marketplace,public -c statement_timeout=30s")
        self.conn.autocommit = autocommit

    def rows(self, sql, *args):
        with self.conn.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as c:
            c.execute(sql, args or None)
            return [dict(r) for r in c.fetchall()] if c.description else []

    def one(self, sql, *args):
        rows = self.rows(sql, *args)
        assert len(rows) == 1, f"{len(rows)} rows in place of one: {sql} {args}"
        return rows[0]

    def value(self, sql, *args):
        return next(iter(self.one(sql, *args).values()))

    def call(self, function, *args):
        return self.value(f"SELECT {function}({', '.join(['%s'] * len(args))})", *args)

    def close(self):
        self.conn.close()

    # ---- the statements of the worker ----

    def take(self, subscription, type="created", at=NOON, order=None, id=None, organization=NIL, data=None):
        return self.value(
            "SELECT inbox_take('/waldur', %s, %s, %s, %s, %s, %s, %s, NULL, 'topic', 0, 0, %s)",
            id or new_uuid(), f"subscription.{type}", subscription, organization if type == "created" else None,
            order or new_uuid(), at, json.dumps(data or {}), DAY_MS)

    def register(self, lease_ms=LEASE_MS, owner=None):
        owner = owner or new_uuid()
        self.call("worker_register", owner, "host", 1, "1.0", lease_ms)
        return owner

    def claim(self, owner, limit=128, after=NIL, share=4, only=None, policy=None, **bounds):
        return self.rows("SELECT * FROM jobs_claim(%s, %s, %s, %s, %s::bigint[], false, %s)", owner, limit, after, share,
                         only, json.dumps({**bounds, **(policy or {})}))

    def live(self, subscription):
        """The live job's id; None where there is none."""
        rows = self.rows("SELECT id FROM provisioning_job WHERE subscription_uuid = %s AND state = ANY (%s::job_state[])",
                         subscription, LIVE)
        return rows[0]["id"] if rows else None

    def job(self, id):
        return self.one("SELECT * FROM provisioning_job WHERE id = %s", id)

    def states(self, subscription):
        return [(r["kind"], r["state"]) for r in
                self.rows("SELECT kind, state FROM provisioning_job WHERE subscription_uuid = %s ORDER BY id", subscription)]

    def config(self, subscription):
        return self.one("SELECT * FROM agent_config WHERE subscription_uuid = %s", subscription)

    def runtime_keys(self, subscription):
        return {r["product"]: bytes(r["sealed"]) for r in
                self.rows("SELECT product, sealed FROM agent_runtime_key WHERE subscription_uuid = %s", subscription)}

    # ---- fenced ----

    def step(self, function, held, *args):
        """held: (job, owner, fence)"""
        marks = ", ".join(["%s"] * len(args))
        return self.value(f"SELECT {function}(%s, %s, %s, {DAY_MS}{', ' if marks else ''}{marks})", *held, *args)

    def settle(self, held, to, attempts=0, delay_ms=0, error_class=None, error=None):
        return self.step("job_settle", held, to, attempts, delay_ms, error_class, error)

    def intend(self, held, product="langflow", operation="create"):
        row = self.one(f"SELECT verdict, effect_id FROM effect_intend(%s, %s, %s, {DAY_MS}, %s, %s, 'POST', '/', 'n', "
                       "'m', 'sha', 'request')", *held, product, operation)
        return row["verdict"], row["effect_id"]

    def take_job(self, owner, subscription):
        """Claims the subscription's live job: (job, owner, fence)."""
        job = self.claim(owner, only=[self.live(subscription)])[0]
        return job["job_id"], owner, job["fence"]

    def running(self, owner, type="created", organization=NIL, at=NOON):
        """A new subscription, its job claimed: (subscription, held)."""
        subscription = new_uuid()
        assert self.take(subscription, type, organization=organization, at=at) == "applied"
        return subscription, self.take_job(owner, subscription)

    def name_step(self, held, name, organization=NIL, next="announce", capabilities=("rag",)):
        config = {"organization_uuid": organization, "organization_slug": "acme", "project_uuid": NIL,
                  "project_slug": "p", "offering_uuid": NIL, "offering_type": "csa", "plan_tier": "pro",
                  "capabilities": list(capabilities), "variables": {}}
        return self.step("step_name", held, next, name, "shared", "eu", json.dumps(config))

    def key_step(self, held, prefix=None, hash=None, terms=None, next="record"):
        mark = uuids.uuid4().hex
        return self.step("step_api_key", held, next, prefix or f"pk_live_{mark[:8]}",
                         hash or hashlib.sha256(mark.encode()).digest(), b"s" * 80,
                         json.dumps({"permissions": ["chat"], "allowed_domains": [], "rate_limit": "60/minute",
                                     "expires_at": None, **(terms or {})}))

    def provision(self, owner, subscription=None, organization=NIL, key=None, terms=None, at=NOON):
        """From the event to ready; returns the subscription."""
        subscription = subscription or new_uuid()
        assert self.take(subscription, organization=organization, at=at) == "applied"
        held = self.take_job(owner, subscription)
        hash = hashlib.sha256(key.encode()).digest() if key else None
        announced = self.job(held[0])["kind"] == "provision"
        for verdict in (self.name_step(held, f"n-{subscription}", organization, next="announce" if announced else "collection"),
                        self.step("step_pass", held, "collection") if announced else "ok",
                        self.intend(held, "ragflow")[0],
                        self.step("step_resource", held, "workspace", "ragflow", f"kb-{subscription}"),
                        self.intend(held, "langflow")[0],
                        self.step("step_resource", held, "api_key", "langflow", f"ws-{subscription}"),
                        self.key_step(held, hash=hash, terms=terms),
                        self.step("step_ready", held, "report"),
                        self.step("step_pass", held, None)):
            assert verdict == "ok", verdict
        return subscription

    def terminate(self, owner, subscription, at=LATER):
        assert self.take(subscription, "terminated", at=at) == "applied"
        held = self.take_job(owner, subscription)
        for verdict in (self.step("step_revoke", held, "close_workspace"),
                        self.step("step_pass", held, "collection"),
                        self.step("step_resource", held, "archive", "ragflow", None),
                        self.step("step_archive", held, "report"),
                        self.step("step_pass", held, None)):
            assert verdict == "ok", verdict


class Base(unittest.TestCase):
    """A cluster per class; a database per test, copied from one that `provisioner migrate` made."""

    @classmethod
    def setUpClass(cls):
        cls.postgres = PrivatePostgres(f"postgres-{cls.__name__}")
        cls.secrets = new_secrets()
        cls.template = cls.postgres.create_database()
        cls.migrate(cls.template)
        cls.n = 0

    @classmethod
    def tearDownClass(cls):
        cls.postgres.close()

    @classmethod
    def installation(cls, url, bootstrap="127.0.0.1:1", langflow="http://127.0.0.1:1", ragflow="http://127.0.0.1:1",
                     **overrides):
        return Installation(url, bootstrap, TOPICS, langflow, ragflow, cls.secrets, RevealKey(), overrides)

    @classmethod
    def migrate(cls, url, *more, check=0):
        return cls.installation(url).command("migrate", *more, check=check)

    def setUp(self):
        type(self).n += 1
        name = f"copy_{self.n}"
        with_admin = Session(self.postgres.url)
        with_admin.rows(f"CREATE DATABASE {name} TEMPLATE {urllib.parse.urlsplit(self.template).path[1:]}")
        with_admin.close()
        self.url = change(self.postgres.url, path="/" + name)
        self.db = self.session()

    def session(self, url=None, autocommit=True):
        session = Session(url or self.url, autocommit)
        self.addCleanup(session.close)
        return session

    def admin(self, path=None):
        return self.session(change(self.postgres.admin_url(), path=path or urllib.parse.urlsplit(self.url).path))

    def pin(self):
        """Somebody's transaction that keeps its snapshot, and with it every row that dies from now on."""
        pin = self.session(autocommit=False)
        pin.rows("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        pin.rows("SELECT count(*) FROM worker")
        return pin

    def pages(self, session, sql, rows=0):
        """That a query which finds so many rows reads."""
        plan = session.one(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}")["QUERY PLAN"][0]["Plan"]
        self.assertEqual(plan["Actual Rows"], rows)
        return plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]

    def let_bounds_age(self, session, look):
        """Until what it found out is old enough to be gone by."""
        for _ in range(3):
            session.rows(look)
            time.sleep(2.1)
        session.rows(look)

    def forget_floors(self, session):
        for queue in ("ready", "later", "running", "outbox"):
            session.rows("SELECT set_config(%s, '', false)", "provisioner.floor_of_" + queue)

    def refused(self, error, sql, *args, db=None):
        db = db or self.db
        with self.assertRaises(error, msg=sql):
            db.rows(sql, *args)
        if not db.conn.autocommit:
            db.conn.rollback()

    def snapshot(self):
        """Every row of every table."""
        tables = self.db.rows("SELECT tablename AS t FROM pg_tables WHERE schemaname = 'agent_marketplace'")
        return {r["t"]: self.db.value(f"SELECT coalesce(string_agg(x::text, '|' ORDER BY x::text), '') FROM {r['t']} x")
                for r in tables}

    def in_background(self, function, *args):
        """Runs it in a thread; .result() joins and returns or raises."""
        return Background(function, args)

    def blocked(self, session):
        """Until the session waits for a lock."""
        pid = session.conn.info.backend_pid
        eventually(lambda: self.db.value("SELECT count(*) FROM pg_stat_activity WHERE pid = %s "
                                         "AND wait_event_type = 'Lock'", pid), 10, "it waits", every=0.01)


class Background:
    def __init__(self, function, args):
        self.outcome = self.error = None
        self.thread = threading.Thread(target=self._run, args=(function, args), daemon=True)
        self.thread.start()

    def _run(self, function, args):
        try:
            self.outcome = function(*args)
        except BaseException as e:
            self.error = e

    def result(self, timeout=60):
        self.thread.join(timeout)
        assert not self.thread.is_alive(), "it hangs"
        if self.error:
            raise self.error
        return self.outcome


def together(*functions):
    return [b.result() for b in [Background(f, ()) for f in functions]]


class Migrations(Base):
    def fresh(self):
        url = self.postgres.create_database()
        return url, self.session(url)

    def test_twice_and_check(self):
        url, db = self.fresh()
        self.assertIn("pending", self.migrate(url, "--check", check=1))
        self.assertIsNone(db.value("SELECT to_regnamespace('agent_marketplace')"))
        self.migrate(url)
        before = db.rows("SELECT * FROM schema_migration ORDER BY version")
        self.assertGreaterEqual(len(before), 3)
        self.migrate(url, "--check")
        self.assertIn("nothing is pending", self.migrate(url))
        self.assertEqual(db.rows("SELECT * FROM schema_migration ORDER BY version"), before)

    def test_many_at_once(self):
        url, db = self.fresh()
        together(*[lambda: self.migrate(url)] * 4)
        self.assertEqual(db.value("SELECT count(*) FROM schema_migration"), len(MIGRATIONS))

    def test_two_databases_at_once(self):
        """They meet at the roles, which belong to the cluster."""
        admin = self.admin("/postgres")
        names = ["provisioner_worker", "agent_tenant", "agent_gateway"]
        urls = [self.fresh()[0] for _ in range(3)]
        for (database,) in [tuple(r.values()) for r in admin.rows("SELECT datname FROM pg_database WHERE datallowconn")]:
            there = self.admin("/" + database)
            there.rows(f"DROP OWNED BY {', '.join(names)}")
            there.close()
        admin.rows(f"DROP ROLE {', '.join(names)}")
        together(*[lambda url=url: self.migrate(url) for url in urls])
        self.assertEqual(admin.value("SELECT count(*) FROM pg_roles WHERE rolname = ANY (%s)", names), 3)
        # The template's grants went with the roles.
        type(self).template = urls[0]

    def test_changed_checksum(self):
        url, db = self.fresh()
        self.migrate(url)
        db.rows("UPDATE schema_migration SET checksum = repeat('0', 64) WHERE version = 2")
        for argv in ([], ["--check"]):
            done = subprocess.run([environment("PROVISIONER"), "migrate", *argv, "--config",
                                   (i := self.installation(url)).config_file("c", "127.0.0.1:0")],
                                  env={**os.environ, **i.env}, capture_output=True, text=True)
            self.assertEqual(done.returncode, 1)
            self.assertIn("0002_functions.sql was changed after it was applied", done.stderr)

    def test_ordinary_role(self):
        """No right but to create in the database; the roles were made by an administrator."""
        url, _ = self.fresh()
        database = urllib.parse.urlsplit(url).path[1:]
        admin = self.admin("/" + database)
        admin.rows("CREATE ROLE plain LOGIN PASSWORD 'plain'")
        admin.rows(f'GRANT CREATE ON DATABASE "{database}" TO plain')
        plain = as_user(url, "plain", "plain")
        self.migrate(plain)
        owner = self.session(plain)
        self.assertEqual(owner.take(new_uuid()), "applied")
        self.migrate(plain, "--check")
        # Migrated already, and by another role: there is nothing to do, so no right is asked for.
        admin.rows("CREATE ROLE looker LOGIN PASSWORD 'looker' IN ROLE provisioner_worker")
        self.assertIn("nothing is pending", self.migrate(as_user(url, "looker", "looker")))


class Constraints(Base):
    def setUp(self):
        super().setUp()
        self.owner = self.db.register()

    def test_subscription(self):
        self.db.take(a := new_uuid(), "terminated")
        self.refused(pg.CheckViolation, "UPDATE subscription SET wanted = 'present' WHERE uuid = %s", a)
        self.refused(pg.CheckViolation, "UPDATE subscription SET generation = 0")
        self.refused(pg.CheckViolation, "UPDATE subscription_event SET type = 'subscription.paid'")
        self.refused(pg.CheckViolation, "UPDATE subscription_event SET verdict = 'duplicate'")
        event = "INSERT INTO subscription_event (source, event_id, type, subscription_uuid, order_uuid, event_time, " \
                "verdict, data) SELECT source, event_id, type, gen_random_uuid(), order_uuid, event_time, verdict, data " \
                "FROM subscription_event"
        self.refused(pg.UniqueViolation, event)

    def test_job(self):
        _, held = self.db.running(self.owner)
        job = "UPDATE provisioning_job SET "
        self.refused(pg.CheckViolation, job + "lease_owner = NULL")
        self.refused(pg.CheckViolation, job + "state = 'queued'")
        self.refused(pg.CheckViolation, job + "state = 'succeeded', lease_owner = NULL")
        self.refused(pg.CheckViolation, job + "finished_at = now()")
        self.refused(pg.CheckViolation, job + "attempts = -1")
        self.refused(pg.ForeignKeyViolation, job + "step = 'chat_history'")
        for why in ("NULL, NULL", "'refused', NULL", "NULL, 'no'", "'refused', ''"):
            self.refused(pg.CheckViolation, job + "(error_class, error) = (" + why + "), state = 'failed', "
                                                  "lease_owner = NULL, finished_at = now()")
        another = "INSERT INTO provisioning_job (subscription_uuid, organization_uuid, order_uuid, kind, generation, step, " \
                  "deadline_at, state) SELECT subscription_uuid, organization_uuid, order_uuid, kind, generation, step, " \
                  "deadline_at, %s FROM provisioning_job"
        self.refused(pg.UniqueViolation, another, "queued")
        for state in STATES[1:]:
            self.refused(pg.CheckViolation, another, state)
        self.assertEqual(self.db.settle(held, "failed", 1, 0, "refused", "no"), "ok")
        self.refused(pg.CheckViolation, job + "finished_at = NULL")
        self.db.rows(another, "queued")
        self.refused(pg.UniqueViolation, another + " LIMIT 1", "queued")

    def test_edges(self):
        """All 64 pairs. A state that stays is no edge, and is let pass."""
        edges = {(r["from_state"], r["to_state"]) for r in self.db.rows("SELECT * FROM job_edge")}
        self.assertEqual(len(edges), 21)
        self.db.take(s := new_uuid())
        shape = ("UPDATE provisioning_job SET state = %s::job_state, lease_owner = CASE WHEN %s::job_state = 'running' "
                 "THEN gen_random_uuid() END, finished_at = CASE WHEN %s::job_state = ANY (%s::job_state[]) THEN NULL "
                 "ELSE now() END, error_class = 'refused', error = 'no' WHERE subscription_uuid = %s")
        for old in STATES:
            for new in STATES:
                self.db.rows("ALTER TABLE provisioning_job DISABLE TRIGGER provisioning_job_edge")
                self.db.rows(shape, old, old, old, LIVE, s)
                self.db.rows("ALTER TABLE provisioning_job ENABLE TRIGGER provisioning_job_edge")
                if (old, new) in edges or old == new:
                    self.db.rows(shape, new, new, new, LIVE, s)
                    self.assertEqual(self.db.states(s), [("provision", new)])
                else:
                    self.refused(pg.CheckViolation, shape, new, new, new, LIVE, s)

    def test_config(self):
        s = self.db.provision(self.owner)
        config = "UPDATE agent_config SET "
        for missing in ("runtime_workspace_id = NULL", "api_key = NULL", "ready_at = NULL", "knowledge_base_id = NULL",
                        "runtime_workspace_id = ''", "plan_tier = 'gold'", "runtime = 'own'", "name = 'Upper'",
                        "name = '-a'", "name = repeat('a', 129)", "variables = '[]'", "knowledge_base_id = NULL, "
                        "capabilities = '{NULL}'", "status = 'archived'", "status = 'purged'",
                        "status = 'archived', api_key = NULL, knowledge_base_id = NULL",
                        "status = 'archived', archived_at = now(), knowledge_base_id = NULL",
                        "status = 'archived', archived_at = now(), api_key = NULL",
                        "status = 'purged', api_key = NULL, knowledge_base_id = NULL",
                        "status = 'purged', api_key = NULL, runtime_workspace_id = NULL",
                        "status = 'purged', knowledge_base_id = NULL, runtime_workspace_id = NULL"):
            self.refused(pg.CheckViolation, config + missing)
        self.db.rows(config + "knowledge_base_id = NULL, capabilities = '{}'")
        self.db.rows(config + "capabilities = '{rag}', knowledge_base_id = 'x'")
        t = self.db.provision(self.owner)
        for column in ("name", "runtime_workspace_id", "knowledge_base_id"):
            self.refused(pg.UniqueViolation, config + f"{column} = (SELECT {column} FROM agent_config WHERE "
                         "subscription_uuid = %s) WHERE subscription_uuid = %s", s, t)
        # An id is unique in its runtime only.
        self.db.rows(config + "runtime_name = 'us', runtime_workspace_id = (SELECT runtime_workspace_id FROM agent_config "
                     "WHERE subscription_uuid = %s) WHERE subscription_uuid = %s", s, t)

    def test_keys(self):
        s = self.db.provision(self.owner)
        key = "INSERT INTO agent_api_key (subscription_uuid, organization_uuid, prefix, key_hash, sealed_key, rate_limit) " \
              "VALUES (%s, %s, %s, %s, %s, %s)"
        good = [s, NIL, "pk_live_AAAAAAAA", b"h" * 32, b"s" * 80, "1/minute"]
        self.refused(pg.UniqueViolation, key, *good)
        self.db.rows("UPDATE agent_api_key SET revoked_at = now()")
        for i, bad in ((2, "pk_test_AAAAAAAA"), (2, "pk_live_AAAAAAAAA"), (3, b"h" * 31), (4, b"s" * 48), (5, "0/minute"),
                       (5, "1/week")):
            self.refused(pg.CheckViolation, key, *good[:i], bad, *good[i + 1:])
        self.db.rows(key, *good)
        self.refused(pg.UniqueViolation, "UPDATE agent_api_key SET revoked_at = NULL")
        self.refused(pg.ForeignKeyViolation, key, new_uuid(), NIL, "pk_live_BBBBBBBB", b"i" * 32, b"s" * 80, "1/day")

    def test_effects(self):
        s, held = self.db.running(self.owner)
        self.assertEqual(self.db.intend(held)[0], "ok")
        self.refused(pg.CheckViolation, "UPDATE provisioning_effect SET state = 'done'")
        self.refused(pg.CheckViolation, "UPDATE provisioning_effect SET settled_at = now()")
        self.refused(pg.CheckViolation, "UPDATE provisioning_effect SET product = 'other'")
        self.refused(pg.UniqueViolation, "INSERT INTO provisioning_effect (subscription_uuid, job_id, fence, step, runtime_name, "
                     "product, operation, method, target, name, marker, body_sha256, request_id) SELECT subscription_uuid, "
                     "job_id, fence, step, runtime_name, product, operation, method, target, name, marker, body_sha256, "
                     "request_id FROM provisioning_effect")

    def test_audit_log(self):
        self.db.take(new_uuid())
        admin = self.admin()
        admin.rows("SET search_path = agent_marketplace")
        for db in (self.db, admin):
            for sql in ("UPDATE audit_log SET actor = 'x'", "DELETE FROM audit_log", "TRUNCATE audit_log",
                        "UPDATE audit_log SET actor = 'x' WHERE false"):
                self.refused(pg.InsufficientPrivilege, sql, db=db)
        admin.rows("SET ROLE provisioner_worker")
        for sql in ("UPDATE audit_log SET actor = 'x'", "DELETE FROM audit_log", "TRUNCATE audit_log"):
            self.refused(pg.InsufficientPrivilege, sql, db=admin)
        self.assertGreater(self.db.value("SELECT count(*) FROM audit_log"), 0)


class Inbox(Base):
    def test_duplicates(self):
        s, other = new_uuid(), new_uuid()
        self.assertEqual(self.db.take(s, id="one"), "applied")
        before = self.snapshot()
        self.assertEqual(self.db.take(s, id="one"), "duplicate")
        self.assertEqual(self.db.take(s, "terminated", LATER, id="one"), "duplicate")
        # Used for another subscription: nothing of that one may stay.
        self.assertEqual(self.db.take(other, id="one"), "duplicate")
        self.assertEqual(self.snapshot(), before)
        # Another source may use the same id.
        self.assertEqual(self.db.value("SELECT inbox_take('/elsewhere', 'one', 'subscription.terminated', %s, NULL, %s, "
                                       "%s, '{}', NULL, NULL, NULL, NULL, 1000)", s, NIL, LATER), "applied")

    def test_repeated(self):
        s, order = new_uuid(), new_uuid()
        self.db.take(s, order=order, data={"a": 1})
        self.assertEqual(self.db.take(s, order=order, data={"a": 1}), "repeated")
        self.assertEqual(self.db.take(s, order=order, data={"a": 1}, at=LATER), "repeated")
        self.assertEqual(self.db.take(s, order=order, data={"a": 2}, at=LATER), "applied")
        self.assertEqual(self.db.take(s, order=new_uuid(), data={"a": 2}, at=LATER), "applied")
        self.assertEqual(self.db.states(s), [("provision", "superseded")] * 2 + [("provision", "queued")])
        self.assertEqual(self.db.value("SELECT generation FROM subscription"), 3)
        # Said again when no job does it any more: looked at again.
        owner = self.db.register()
        t = self.db.provision(owner)
        order = self.db.value("SELECT order_uuid FROM subscription WHERE uuid = %s", t)
        self.assertEqual(self.db.take(t, order=order), "applied")

    def test_order_of_time(self):
        s = new_uuid()
        self.assertEqual(self.db.take(s, "terminated", NOON), "applied")
        self.assertEqual(self.db.states(s), [("terminate", "queued")])
        before = self.db.rows("SELECT * FROM subscription")
        self.assertEqual(self.db.take(s, "created", EARLIER), "stale")
        self.assertEqual(self.db.states(s), [("terminate", "queued")])
        self.assertEqual(self.db.rows("SELECT * FROM subscription"), before)
        # At the same time: by arrival.
        self.assertEqual(self.db.take(s, "created", NOON), "applied")
        self.assertEqual(self.db.take(s, "terminated", NOON), "applied")
        # Restore.
        self.assertEqual(self.db.take(s, "created", LATER), "applied")
        self.assertEqual(self.db.states(s)[-1], ("provision", "queued"))
        self.assertEqual(self.db.value("SELECT generation FROM subscription"), 4)
        self.assertEqual([r["verdict"] for r in self.db.rows("SELECT verdict FROM subscription_event ORDER BY seq")],
                         ["applied", "stale", "applied", "applied", "applied"])

    def test_the_far_future_does_not_rule(self):
        """A producer whose clock is a year ahead: its event counts, and so do those that follow."""
        s = new_uuid()
        ahead = self.db.value("SELECT now() + interval '1 year'")
        self.assertEqual(self.db.take(s, "created", ahead), "applied")
        self.assertEqual(self.db.value("SELECT event_time FROM subscription_event"), ahead, "kept as it was said")
        self.assertLess(self.db.value("SELECT wanted_at - now() FROM subscription").total_seconds(), 301)
        soon = self.db.value("SELECT now() + interval '6 minutes'")
        self.assertEqual(self.db.take(s, "terminated", soon), "applied")
        # A clock that is a little ahead keeps its order.
        t = new_uuid()
        minute = "SELECT now() + interval '%s minutes'"
        self.assertEqual(self.db.take(t, "terminated", self.db.value(minute, 3)), "applied")
        self.assertEqual(self.db.take(t, "created", self.db.value(minute, 2)), "stale")

    def test_termination_is_the_organizations(self):
        s, organization = new_uuid(), new_uuid()
        self.db.take(s, organization=organization)
        self.db.take(s, "terminated", LATER)
        for table in ("subscription_event", "provisioning_job", "audit_log", "subscription"):
            self.assertEqual({r["o"] for r in self.db.rows(f"SELECT organization_uuid::text AS o FROM {table}")},
                             {organization}, table)

    def test_supersession_of_what_waits(self):
        owner = self.db.register()
        for to, more in (("queued", ()), ("retrying", (1, 1000, "unavailable", "x")), ("held", (0, 1000, "unavailable", "x")),
                         ("failed", (1, 0, "refused", "x"))):
            s, held = self.db.running(owner)
            self.assertEqual(self.db.settle(held, to, *more), "ok")
            self.assertEqual(self.db.take(s, "terminated", LATER), "applied")
            self.assertEqual(self.db.states(s), [("provision", "superseded"), ("terminate", "queued")], to)

    def test_supersession_of_a_running_one(self):
        owner = self.db.register()
        for write in (lambda h: self.db.step("step_pass", h, "announce"), lambda h: self.db.step("step_pass", h, None),
                      lambda h: self.db.settle(h, "failed", 1, 0, "refused", "x"),
                      lambda h: self.db.settle(h, "retrying", 1), lambda h: self.db.intend(h)[0],
                      lambda h: self.db.step("step_ready", h, None), lambda h: self.db.key_step(h),
                      lambda h: self.db.name_step(h, f"n-{h[0]}"), lambda h: self.db.step("step_revoke", h, None),
                      lambda h: self.db.step("step_archive", h, None)):
            s, held = self.db.running(owner)
            self.assertEqual(self.db.take(s, "terminated", LATER), "applied")
            self.assertEqual(self.db.states(s), [("provision", "running")])
            self.assertEqual(write(held), "superseded")
            self.assertEqual(self.db.states(s), [("provision", "superseded"), ("terminate", "queued")])
            self.assertEqual(write(held), "lost")
        self.assertEqual(self.db.value("SELECT count(*) FROM outbox"), 0)
        self.assertEqual(self.db.value("SELECT count(*) FROM provisioning_effect"), 0)

    def test_superseded_resource_is_remembered(self):
        owner = self.db.register()
        s, held = self.db.running(owner)
        self.db.name_step(held, "abc", next="collection")
        self.db.intend(held, "ragflow")
        self.db.take(s, "terminated", LATER)
        self.assertEqual(self.db.step("step_resource", held, "workspace", "ragflow", "kb"), "superseded")
        self.assertEqual(self.db.config(s)["knowledge_base_id"], "kb")
        self.assertEqual(self.db.value("SELECT state FROM provisioning_effect"), "done")

    def test_superseded_account_is_remembered(self):
        owner = self.db.register()
        s, held = self.db.running(owner)
        self.db.name_step(held, "abc", next="collection")
        self.db.take(s, "terminated", LATER)
        self.assertEqual(self.db.step("runtime_keep", held, "ragflow", "kb", "tenant", SEALED), "superseded")
        c = self.db.config(s)
        self.assertEqual((c["knowledge_base_id"], c["knowledge_base_tenant"]), ("kb", "tenant"))
        self.assertEqual(self.db.runtime_keys(s), {"ragflow": SEALED})
        self.assertEqual(self.db.states(s), [("provision", "superseded"), ("terminate", "queued")])

    def test_given_back_with_a_newer_wish(self):
        """The drained job meets the wish when somebody runs it on."""
        owner = self.db.register()
        s, held = self.db.running(owner)
        self.db.take(s, "terminated", LATER)
        self.db.call("worker_leave", owner)
        held = self.db.take_job(self.db.register(), s)
        self.assertEqual(self.db.step("step_pass", held, "announce"), "superseded")
        self.assertEqual(self.db.states(s), [("provision", "superseded"), ("terminate", "queued")])

    def test_two_sessions_one_subscription(self):
        for new in (True, False):
            for types in (("created", "terminated"), ("terminated", "created")):
                s = new_uuid()
                if not new:
                    self.db.take(s, at=EARLIER)
                first, second = self.session(autocommit=False), self.session()
                self.assertEqual(first.take(s, types[0], LATER), "applied")
                waiting = self.in_background(second.take, s, types[1], NOON)
                self.blocked(second)
                first.conn.commit()
                self.assertEqual(waiting.result(), "stale")
                s = new_uuid()
                self.assertEqual(first.take(s, types[0], NOON), "applied")
                waiting = self.in_background(second.take, s, types[1], LATER)
                self.blocked(second)
                first.conn.commit()
                self.assertEqual(waiting.result(), "applied")
                self.assertEqual([x[1] for x in self.db.states(s)], ["superseded", "queued"])

    def test_the_first_of_two_sessions_gives_up(self):
        s = new_uuid()
        first, second = self.session(autocommit=False), self.session()
        first.take(s, at=LATER)
        waiting = self.in_background(second.take, s, "created", NOON)
        self.blocked(second)
        first.conn.rollback()
        self.assertEqual(waiting.result(), "applied")
        # A duplicate that must take its row back, beside a good event of the same subscription.
        t = new_uuid()
        self.db.take(new_uuid(), id="used")
        self.assertEqual(first.take(t, id="used"), "duplicate")
        waiting = self.in_background(second.take, t)
        self.blocked(second)
        first.conn.commit()
        self.assertEqual(waiting.result(), "applied")

    def test_same_event_twice_at_once(self):
        first, second = self.session(autocommit=False), self.session()
        s = new_uuid()
        first.take(s, id="e")
        waiting = self.in_background(lambda: second.take(s, id="e"))
        self.blocked(second)
        first.conn.commit()
        self.assertEqual(waiting.result(), "duplicate")
        # ... for two subscriptions.
        first.take(a := new_uuid(), id="f")
        b = new_uuid()
        waiting = self.in_background(lambda: second.take(b, id="f"))
        self.blocked(second)
        first.conn.commit()
        self.assertEqual(waiting.result(), "duplicate")
        self.assertEqual(self.db.value("SELECT count(*) FROM subscription WHERE uuid IN (%s, %s)", a, b), 1)

    def test_event_beside_a_claim(self):
        """The job is claimed while its subscription's wish changes: it must not be queued twice, nor lost."""
        s = new_uuid()
        self.db.take(s)
        owner = self.db.register()
        claimer, taker = self.session(autocommit=False), self.session()
        job = claimer.claim(owner)[0]
        waiting = self.in_background(taker.take, s, "terminated", LATER)
        self.blocked(taker)
        claimer.conn.commit()
        self.assertEqual(waiting.result(), "applied")
        self.assertEqual(self.db.states(s), [("provision", "running")])
        self.assertEqual(self.db.step("step_pass", (job["job_id"], owner, job["fence"]), None), "superseded")

    def test_no_deadlock(self):
        """Events, steps, claims and releases of few subscriptions from 8 sessions."""
        seed = int.from_bytes(os.urandom(4), "big")
        say(f"seed {seed}")
        subscriptions = [new_uuid() for _ in range(6)]
        sessions = [self.session() for _ in range(8)]

        def play(session, rng):
            owner = session.register()
            for _ in range(60):
                s = rng.choice(subscriptions)
                session.take(s, rng.choice(["created", "terminated"]), f"2026-11-21T12:{rng.randrange(60):02d}:00Z")
                for job in session.claim(owner, 3, rng.choice([NIL, new_uuid()])):
                    held = (job["job_id"], owner, job["fence"])
                    if rng.random() < 0.2:
                        session.intend(held)
                    if rng.random() < 0.5:
                        session.settle(held, rng.choice(["queued", "held", "failed"]), 1, 0, "unavailable", "x")
                    else:
                        session.step("step_pass", held, None)
                if rng.random() < 0.2:
                    session.call("jobs_release", "eu")
                if rng.random() < 0.1:
                    session.rows("SELECT * FROM job_replay(%s, NULL, 1000, 'cli', false)", s)
                if rng.random() < 0.1:
                    session.call("worker_leave", owner)
                    owner = session.register()
            session.call("worker_leave", owner)

        together(*[lambda x=x, i=i: play(x, random.Random(seed + i)) for i, x in enumerate(sessions)])
        self.assertEqual(self.db.value("SELECT count(*) FROM provisioning_job WHERE state = 'running'"), 0)
        # Every wish has its newest generation worked on, or done.
        self.assertEqual(self.db.rows(
            "SELECT s.uuid FROM subscription s WHERE NOT EXISTS (SELECT FROM provisioning_job j WHERE j.subscription_uuid = "
            "s.uuid AND (j.generation = s.generation OR j.state IN ('queued', 'retrying', 'held')))"), [])


class Leases(Base):
    FENCED = {
        "step_pass": lambda db, h: db.step("step_pass", h, "announce"),
        "step_pass to the end": lambda db, h: db.step("step_pass", h, None),
        "step_name": lambda db, h: db.name_step(h, f"other-{h[0]}"),
        "step_resource": lambda db, h: db.step("step_resource", h, "workspace", "ragflow", "kb"),
        "step_api_key": lambda db, h: db.key_step(h),
        "step_api_key_for_waldur": lambda db, h: db.step("step_api_key_for_waldur", h, "record", "pk_live_aaaaaaaa",
                                                         bytes(32), SEALED, "{}", SEALED),
        "step_announce": lambda db, h: db.step("step_announce", h, "collection"),
        "step_report": lambda db, h: db.step("step_report", h, None),
        "step_ready": lambda db, h: db.step("step_ready", h, "report"),
        "step_revoke": lambda db, h: db.step("step_revoke", h, None),
        "step_refuse": lambda db, h: db.step("step_refuse", h, None),
        "step_suspended": lambda db, h: db.step("step_suspended", h, None),
        "step_archive": lambda db, h: db.step("step_archive", h, None),
        "job_settle": lambda db, h: db.settle(h, "failed", 1, 0, "refused", "x"),
        "job_settle retrying": lambda db, h: db.settle(h, "retrying", 1),
        "effect_intend": lambda db, h: db.intend(h)[0],
        "runtime_keep": lambda db, h: db.step("runtime_keep", h, "ragflow", "kb", "tenant", SEALED),
    }

    def check_lost(self, held):
        before = self.snapshot()
        for name, write in self.FENCED.items():
            self.assertEqual(write(self.db, held), "lost", name)
        self.assertEqual(self.snapshot(), before)

    def test_fences(self):
        functions = {r["f"] for r in self.db.rows(
            "SELECT proname AS f FROM pg_proc WHERE pronamespace = 'agent_marketplace'::regnamespace AND proargnames[1:4] = "
            "'{p_job,p_owner,p_fence,p_deadline_ms}'")} - {"job_guard"}
        self.assertEqual(functions, {n.split()[0] for n in self.FENCED})
        owner, other = self.db.register(), self.db.register()
        s, (job, _, fence) = self.db.running(owner)
        self.assertEqual(self.db.name_step((job, owner, fence), "abc"), "ok")
        self.db.intend((job, owner, fence))
        # A newer wish makes no difference to who may write.
        for newer in (False, True):
            if newer:
                self.db.take(s, "terminated", LATER)
            for held in ((job, owner, fence - 1), (job, owner, fence + 1), (job, owner, None), (job, other, fence),
                         (job, None, fence), (job, new_uuid(), fence), (job + 999, owner, fence), (None, owner, fence)):
                self.check_lost(held)
        self.db.call("worker_leave", owner)
        self.check_lost((job, owner, fence))
        again = self.db.take_job(other, s)
        self.assertEqual(again[2], fence + 1)
        self.check_lost((job, owner, fence))
        self.assertEqual(self.db.step("step_pass", again, None), "superseded")
        self.check_lost(again)

    def test_takeover(self):
        owner, other = self.db.register(), self.db.register()
        s, held = self.db.running(owner)
        self.assertEqual(self.db.intend(held)[0], "ok")
        self.assertEqual(self.db.claim(other), [])
        self.assertEqual(self.db.claim(other, only=[held[0]]), [])
        self.db.rows("UPDATE worker SET lease_until = now() - interval '1 ms' WHERE owner = %s", owner)
        # The dead one can neither renew nor claim, but may write until somebody has taken over.
        self.assertFalse(self.db.call("worker_renew", owner, LEASE_MS))
        self.db.take(new_uuid())
        self.assertEqual(self.db.claim(owner), [])
        self.assertEqual(self.db.step("step_pass", held, "announce"), "ok")
        self.assertEqual(self.db.claim(other, only=[held[0] + 1000]), [])
        job = self.db.claim(other, limit=1)[0]
        self.assertEqual((job["job_id"], job["fence"], job["takeover"], job["langflow_open"], job["ragflow_open"]),
                         (held[0], held[2] + 1, True, True, False))
        self.check_lost(held)
        self.assertEqual(self.db.step("step_pass", (held[0], other, job["fence"]), None), "ok")

    def test_takeover_by_two_at_once(self):
        dead = self.db.register()
        jobs = {self.db.running(dead)[1][0] for _ in range(6)}
        self.db.rows("UPDATE worker SET lease_until = now() - interval '1 s'")
        a, b = self.session(autocommit=False), self.session()
        first, second = self.db.register(), self.db.register()
        got = {j["job_id"] for j in a.claim(first, limit=4)}
        rest = {j["job_id"] for j in b.claim(second)}
        a.conn.commit()
        self.assertEqual((len(got), got | rest, got & rest), (4, jobs, set()))
        self.assertEqual(self.db.claim(self.db.register()), [])

    def test_unknown_worker(self):
        self.db.take(new_uuid())
        self.assertEqual(self.db.claim(new_uuid()), [])
        self.assertEqual(self.db.claim(None), [])
        self.assertFalse(self.db.call("worker_renew", new_uuid(), LEASE_MS))
        self.assertEqual(self.db.call("worker_leave", new_uuid()), 0)

    def test_leave(self):
        owner, other = self.db.register(), self.db.register()
        _, mine = self.db.running(owner)
        _, theirs = self.db.running(other)
        self.assertEqual(self.db.call("worker_leave", owner), 1)
        self.assertEqual((self.db.job(mine[0])["state"], self.db.job(theirs[0])["state"]), ("queued", "running"))
        self.assertEqual([str(r["owner"]) for r in self.db.rows("SELECT owner FROM worker")], [other])
        self.assertEqual([j["job_id"] for j in self.db.claim(other)], [mine[0]])

    def test_leave_beside_a_claim(self):
        """A connection is lost, its claim commits late: no job may stay with an owner that has left."""
        owner = self.db.register()
        self.db.take(new_uuid())
        claimer, leaver = self.session(autocommit=False), self.session()
        self.assertEqual(len(claimer.claim(owner)), 1)
        leaving = self.in_background(leaver.call, "worker_leave", owner)
        self.blocked(leaver)
        claimer.conn.commit()
        self.assertEqual(leaving.result(), 1)
        self.assertEqual(self.db.value("SELECT state FROM provisioning_job"), "queued")
        # The other way about.
        owner = self.db.register()
        leaver.conn.autocommit = False
        leaver.call("worker_leave", owner)
        claiming = self.in_background(claimer.claim, owner)
        self.blocked(claimer)
        leaver.conn.commit()
        self.assertEqual(claiming.result(), [])
        claimer.conn.commit()
        self.assertEqual(self.db.value("SELECT count(*) FROM provisioning_job j LEFT JOIN worker w ON w.owner = "
                                       "j.lease_owner WHERE j.state = 'running' AND w.owner IS NULL"), 0)

    def test_leave_passes_over_a_locked_job(self):
        """A write of the former connection is under way: its job is left to a takeover, not lost."""
        owner, other = self.db.register(), self.db.register()
        s, held = self.db.running(owner)
        writer = self.session(autocommit=False)
        self.assertEqual(writer.step("step_pass", held, "announce"), "ok")
        self.assertEqual(self.db.call("worker_leave", owner), 0)
        writer.conn.commit()
        self.assertEqual([j["job_id"] for j in self.db.claim(other)], [held[0]])

    def test_back(self):
        """Jobs given back one by one: only with owner and fence, and never waiting for a lock."""
        owner, other = self.db.register(), self.db.register()
        (_, (a, _, fence)), (_, (b, *_)), (_, (c, *_)) = (self.db.running(owner) for _ in range(3))
        _, (theirs, *_) = self.db.running(other)

        def back(jobs, fences):
            return [r["id"] for r in self.db.rows("SELECT jobs_back(%s, %s::bigint[], %s::bigint[]) AS id", owner, jobs, fences)]

        before = self.snapshot()
        self.assertEqual(back([a, theirs, 999999], [fence + 1, fence, fence]), [])
        self.assertEqual(self.snapshot(), before)
        locked = self.session(autocommit=False)
        locked.rows("SELECT FROM provisioning_job WHERE id = %s FOR UPDATE", b)
        self.assertEqual(back([a, b], [fence, fence]), [b])
        locked.conn.rollback()
        self.assertEqual([self.db.job(x)["state"] for x in (a, b, c, theirs)], ["queued"] + ["running"] * 3)
        self.assertEqual(back([b], [fence]), [])
        self.check_lost((a, owner, fence))

    def test_old_workers_are_forgotten(self):
        busy, idle = self.db.register(), self.db.register()
        self.db.running(busy)
        self.db.rows("UPDATE worker SET lease_until = now() - interval '2 hours'")
        new = self.db.register()
        left = {str(r["owner"]) for r in self.db.rows("SELECT owner FROM worker")}
        self.assertEqual(left, {busy, new})


class Claims(Base):
    def backlog(self, n, organization=None, organizations=None, delay="0 s", db=None):
        """n waiting jobs, of one organization or spread over many."""
        who = "%s::uuid" if organization else "md5('o' || i %% %s)::uuid"
        (db or self.db).rows(
            f"WITH s AS (INSERT INTO subscription (uuid, wanted, wanted_at, event_seq, order_uuid, organization_uuid) "
            f"SELECT gen_random_uuid(), 'absent', now(), 0, gen_random_uuid(), {who} FROM generate_series(1, %s) i "
            "RETURNING uuid, organization_uuid) INSERT INTO provisioning_job (subscription_uuid, organization_uuid, "
            "order_uuid, kind, generation, step, deadline_at, next_attempt_at) SELECT uuid, organization_uuid, "
            "gen_random_uuid(), 'terminate', 1, 'revoke', now() + interval '1 day', now() + %s::interval FROM s",
            organization or organizations, n, delay)

    def test_fair(self):
        loud, quiet = "11111111-0000-4000-8000-000000000000", "99999999-0000-4000-8000-000000000000"
        self.backlog(5000, loud)
        self.backlog(3, quiet)
        self.backlog(3, NIL)
        for after in (NIL, loud, quiet, "ffffffff-ffff-ffff-ffff-ffffffffffff", None):
            owner = self.db.register()
            claimed = self.db.claim(owner, 128, after)
            of = [j["organization_uuid"] for j in claimed]
            self.assertEqual((len(of), of.count(quiet), of.count(NIL)), (128, 3, 3), after)
            self.assertEqual(len({j["job_id"] for j in claimed}), 128)
            self.db.call("worker_leave", owner)
        # Of one round each: share's worth.
        self.assertEqual([j["organization_uuid"] for j in self.db.claim(self.db.register(), 7, NIL)],
                         [loud] * 4 + [quiet] * 3)
        self.assertEqual(self.db.claim(self.db.register(), 0), [])

    def test_not_before_its_time(self):
        owner = self.db.register()
        self.backlog(3, new_uuid(), delay="1 hour")
        self.assertEqual(self.db.claim(owner), [])
        id = self.db.value("SELECT min(id) FROM provisioning_job")
        self.assertEqual(self.db.claim(owner, only=[id]), [])
        self.db.rows("UPDATE provisioning_job SET next_attempt_at = now() WHERE id = %s", id)
        self.assertEqual([j["job_id"] for j in self.db.claim(owner)], [id])

    def test_only(self):
        owner = self.db.register()
        self.backlog(5, new_uuid())
        ids = [r["id"] for r in self.db.rows("SELECT id FROM provisioning_job ORDER BY id")]
        self.assertEqual({j["job_id"] for j in self.db.claim(owner, only=ids[1:3])}, set(ids[1:3]))
        self.assertEqual(self.db.claim(owner, only=ids[1:3]), [])
        self.assertEqual(self.db.claim(owner, only=[]), [])
        self.assertEqual(len(self.db.claim(owner)), 3)

    def test_dead_rows_are_not_walked_again(self):
        """Somebody's snapshot keeps each job that was ready or ran: a session that has claimed before looks from there."""
        pin, used, late = self.pin(), self.session(), self.session(autocommit=False)
        owner, bounds = used.register(), json.dumps({"organization_max": 100, "runtime_max": 1000})
        look = f"SELECT * FROM jobs_claim('{owner}', 1, '{NIL}', 1, NULL, false, '{bounds}')"
        organizations = sorted(new_uuid() for _ in range(2))
        for organization in organizations:
            self.backlog(1500, organization)
        while got := used.claim(owner, 500):
            used.rows("UPDATE provisioning_job SET state = 'succeeded', lease_owner = NULL, finished_at = now() "
                      "WHERE id = ANY (%s)", [j["job_id"] for j in got])
        self.let_bounds_age(used, look)
        late.rows("SELECT now()")
        self.backlog(2, organizations[1])
        bounded = self.pages(used, look, rows=1)
        self.forget_floors(used)
        self.assertGreater(self.pages(used, look, rows=1), 5 * bounded, "nothing dead was there to walk over")
        # What began before the bound and was committed behind it is found with the next one.
        self.backlog(1, organizations[0], db=late)
        for _ in range(3):
            time.sleep(2.1)
            used.rows(look)
        late.conn.commit()
        eventually(lambda: len(used.claim(owner)) == 1, 10, "the late one is found")
        pin.conn.rollback()

    def test_dead_rows_that_waited_are_not_walked_again(self):
        """The same of what waited for a time and has not been waiting since."""
        pin, used, late = self.pin(), self.session(), self.session(autocommit=False)
        owner = used.register()
        look = f"SELECT * FROM jobs_claim('{owner}', 1, '{NIL}', 1, NULL, false)"
        self.backlog(3000, organizations=2)

        def wait(db):
            for state in ("running", "retrying"):
                db.rows("UPDATE provisioning_job SET state = %s, lease_owner = %s, next_attempt_at = now() "
                        "WHERE state IN ('queued', 'running')", state, owner if state == "running" else None)

        wait(used)
        used.rows("UPDATE provisioning_job SET state = 'superseded', finished_at = now()")
        self.let_bounds_age(used, look)
        bounded = self.pages(used, look)
        self.forget_floors(used)
        self.assertGreater(self.pages(used, look), 5 * bounded, "nothing dead was there to walk over")
        # As above.
        self.backlog(1, new_uuid(), db=late)
        wait(late)
        for _ in range(3):
            time.sleep(2.1)
            used.rows(look)
        late.conn.commit()
        eventually(lambda: len(used.claim(owner)) == 1, 10, "the late one is found")
        pin.conn.rollback()

    def test_two_claimers(self):
        self.backlog(400, organizations=30)
        a, b = self.session(autocommit=False), self.session()
        first, second = self.db.register(), self.db.register()
        mine = {j["job_id"] for j in a.claim(first, 100)}
        theirs = {j["job_id"] for j in b.claim(second, 100)}
        a.conn.commit()
        self.assertEqual((len(mine), len(theirs), mine & theirs), (100, 100, set()))
        # Truly at once, until nothing is left.
        seen, lock = [], threading.Lock()

        def drain():
            session = self.session()
            owner = session.register()
            while got := session.claim(owner, 7):
                with lock:
                    seen.extend(j["job_id"] for j in got)

        together(*[drain] * 4)
        self.assertEqual((len(seen), len(set(seen))), (200, 200))

    def of_lane(self, n, lane, organization=None, tier="free"):
        """n queued jobs of an organization in a lane; returns the organization."""
        organization = organization or new_uuid()
        self.backlog(n, organization)
        self.db.rows("UPDATE provisioning_job SET lane = %s, runtime_name = %s, plan_tier = %s "
                     "WHERE organization_uuid = %s AND lane = ''", lane, lane, tier, organization)
        return organization

    def count(self, claimed, what="organization_uuid"):
        return collections.Counter(j[what] for j in claimed)

    def test_organization_max(self):
        """Over all workers, whatever lanes its jobs are in."""
        a, b = self.of_lane(50, "eu"), self.of_lane(50, "eu")
        self.of_lane(50, "us", a)
        first, second = self.db.register(), self.db.register()
        self.assertEqual(self.count(self.db.claim(first, 10, organization_max=6)), {a: 6, b: 4})
        self.assertEqual(self.count(self.db.claim(second, organization_max=6)), {b: 2})
        self.assertEqual(self.db.claim(second, organization_max=6), [])
        self.assertEqual(self.count(self.db.claim(second, organization_max=7)), {a: 1, b: 1})
        self.db.call("worker_leave", first)
        got = self.count(self.db.claim(second, organization_max=7))
        self.assertEqual((got[a], got[b]), (6, 4))

    def test_runtime_max(self):
        self.of_lane(50, "eu"), self.of_lane(50, "eu"), self.of_lane(50, "us")
        owner = self.db.register()
        self.assertEqual(self.count(self.db.claim(owner, runtime_max=8), "lane"), {"eu": 8, "us": 8})
        self.assertEqual(self.db.claim(owner, runtime_max=8), [])
        self.assertEqual(self.count(self.db.claim(owner, 5, runtime_max=20, room={"us": 0}), "lane"), {"eu": 5})
        self.assertEqual(self.count(self.db.claim(owner, room={"us": 3}, room_else=1), "lane"), {"us": 3, "eu": 1})

    def test_bounds_hold_between_claims_at_once(self):
        self.of_lane(400, "eu"), self.of_lane(400, "us")
        a, b = self.session(autocommit=False), self.session()
        first, second = self.db.register(), self.db.register()
        self.assertEqual(len(a.claim(first, 100, runtime_max=10, organization_max=10)), 20)
        self.assertEqual(b.claim(second, 100, runtime_max=10, organization_max=10), [])
        a.conn.commit()
        self.assertEqual(b.claim(second, 100, runtime_max=10, organization_max=10), [])
        most, lock = [0], threading.Lock()

        def churn():
            session = self.session()
            owner = session.register()
            for _ in range(25):
                got = session.claim(owner, 16, runtime_max=40, organization_max=30)
                n = session.value("SELECT count(*) FROM provisioning_job WHERE state = 'running' AND lane = 'us'")
                with lock:
                    most[0] = max(most[0], n)
                session.rows("SELECT jobs_back(%s, %s::bigint[], %s::bigint[])", owner, [j["job_id"] for j in got[::2]],
                             [j["fence"] for j in got[::2]])

        self.db.call("worker_leave", first)
        together(*[churn] * 4)
        self.assertLessEqual(most[0], 30)
        self.assertGreater(most[0], 0)

    def test_weights(self):
        """By the plan of the job whose turn it is; also where one job at a time is claimed."""
        weights = {"free": 1, "enterprise": 8}
        small, large = self.of_lane(40, "eu"), self.of_lane(40, "eu", tier="enterprise")
        owner = self.db.register()
        self.assertEqual(self.count(self.db.claim(owner, 27, share=1, weights=weights)), {small: 3, large: 24})
        self.db.call("worker_leave", owner)
        owner, served, at, credit = self.db.register(), collections.Counter(), NIL, 0
        for _ in range(27):
            job = self.db.claim(owner, 1, share=1, weights=weights, policy={"after": {"eu": at}, "credit": {"eu": credit}})[0]
            at, credit = job["organization_uuid"], job["credit"]
            served[at] += 1
        self.assertEqual(served, {small: 3, large: 24})

    def test_rounds_go_on(self):
        """One at a time, each lane where it stood: everybody gets the same."""
        for lane in ("eu", "us"):
            for _ in range(5):
                self.of_lane(20, lane)
        owner, after, served = self.db.register(), {}, collections.Counter()
        for _ in range(40):
            for job in self.db.claim(owner, 2, share=1, policy={"after": after}):
                after[job["lane"]] = job["organization_uuid"]
                served[job["organization_uuid"]] += 1
        self.assertEqual(set(served.values()), {8})

    def test_due_jobs_keep_what_went_wrong(self):
        owner = self.db.register()
        s, held = self.db.running(owner)
        self.assertEqual(self.db.settle(held, "retrying", 3, 3600000, "unknown", "reset"), "ok")
        self.assertEqual(self.db.claim(owner), [])
        self.db.rows("UPDATE provisioning_job SET next_attempt_at = now() WHERE id = %s", held[0])
        got = self.db.claim(owner)
        self.assertEqual([(j["job_id"], j["attempts"]) for j in got], [(held[0], 3)])
        job = self.db.job(held[0])
        self.assertEqual((job["error_class"], job["error"]), ("unknown", "reset"))

    def test_what_is_due_in_a_closed_lane_stays(self):
        """Held while its runtime is down or paused, and nothing is written."""
        owner, ids = self.db.register(), []
        for state in ("held", "held", "retrying"):
            s, held = self.db.running(owner)
            self.assertEqual(self.db.settle(held, state, 1, 0, "unavailable", "away"), "ok")
            self.db.rows("UPDATE provisioning_job SET lane = 'eu' WHERE id = %s", held[0])
            ids.append(held[0])
        for bounds in ({"room": {"eu": 0}}, {"room_else": 0}):
            self.assertEqual(self.db.claim(owner, **bounds), [])
        for scope, target in (("runtime", "eu"), ("all", "")):
            self.db.call("pause_set", scope, target, "x", None, "test")
            self.assertEqual(self.db.claim(owner), [])
            self.db.call("pause_lift", scope, target, "test")
        self.assertEqual([self.db.job(id)["state"] for id in ids], ["held", "held", "retrying"])
        self.assertEqual([j["job_id"] for j in self.db.claim(owner, room={"eu": 1})], ids[:1])
        self.assertEqual([j["job_id"] for j in self.db.claim(owner, policy={"held": {"eu": 0}})], ids[2:])
        self.assertEqual(self.db.job(ids[1])["state"], "held")
        self.assertEqual([j["job_id"] for j in self.db.claim(owner)], ids[1:2])

    def test_a_full_runtime_is_entered_in_turn(self):
        """A termination begins without its runtime; then it waits for it like all others."""
        owner = self.db.register()
        s = self.db.provision(owner)
        self.of_lane(3, "eu")
        self.assertEqual(len(self.db.claim(owner, room={"eu": 3})), 3)
        self.db.take(s, "terminated", at=LATER)
        held = self.db.take_job(owner, s)
        self.assertEqual(self.db.job(held[0])["lane"], "")
        self.assertEqual(self.db.step("step_revoke", held, "close_workspace", 3), "queued")
        job = self.db.job(held[0])
        self.assertEqual((job["state"], job["step"], job["lane"], job["lease_owner"]),
                         ("queued", "close_workspace", "eu", None))
        self.assertEqual(self.db.config(s)["api_key"], None)
        held = self.db.take_job(owner, s)
        self.assertEqual(self.db.step("step_pass", held, "collection"), "ok")

    def test_many_organizations_that_wait(self):
        """More than one claim may visit wait for a later time: what is due is found behind them."""
        self.backlog(9000, organizations=9000, delay="1 hour")
        self.backlog(3, "ffffffff-ffff-4fff-8fff-ffffffffffff")
        owner = self.db.register()
        self.assertEqual(len(self.db.claim(owner, 128, NIL)), 3)

    def forget(self, session):
        """What was read until now counts no more: ends the transaction, and has the counters flushed."""
        session.rows("SELECT pg_stat_force_next_flush()")
        session.conn.commit()

    def read(self, session):
        """(rows read by sequential scans, by index) of this session's transaction, by table"""
        return {r["relname"]: (r["seq_tup_read"], r["idx_tup_fetch"] or 0) for r in session.rows(
            "SELECT relname, seq_tup_read, idx_tup_fetch FROM pg_stat_xact_user_tables WHERE "
            "schemaname = 'agent_marketplace' AND relname NOT IN ('job_plan', 'job_edge', 'worker', 'schema_migration')")}

    def test_cost_does_not_grow(self):
        """Also for a session whose plans were made when the tables were empty, and without new statistics."""
        self.admin().rows("ALTER SYSTEM SET autovacuum = off")
        self.admin().rows("SELECT pg_reload_conf()")
        session = self.session()
        owner = session.register()
        for _ in range(8):
            session.terminate(owner, session.provision(owner))
            session.claim(owner)
            self.drain_outbox(session, owner)
        costs = []
        for n in (1000, 99000):
            self.backlog(n, organizations=50)
            session.conn.autocommit = False
            self.forget(session)
            self.assertEqual(len(session.claim(owner, 128)), 128)
            read = self.read(session)
            costs.append(sum(seq + idx for seq, idx in read.values()))
            session.conn.commit()
            session.conn.autocommit = True
        say(f"rows read for a claim of 128: {costs[0]} with 1,000 waiting, {costs[1]} with 100,000")
        self.assertLess(costs[1], costs[0] * 1.2 + 50)
        # Everything else that a job writes, among those tables.
        self.fill()
        session.conn.autocommit = False
        self.forget(session)
        session.terminate(owner, session.provision(owner))
        session.rows("SELECT * FROM job_replay(%s, NULL, 1000, 'cli', false)", new_uuid())
        session.call("jobs_release", "eu")
        session.rows("SELECT jobs_back(%s, '{1,2}', '{1,1}')", owner)
        session.call("retention_purge", new_uuid(), LATER, 1000)
        session.rows("SELECT * FROM authenticate_api_key('x', NULL)")
        self.drain_outbox(session, owner)
        read = self.read(session)
        self.assertEqual({t: r for t, r in read.items() if r[0] > 100}, {})
        self.assertLess(sum(i for _, i in read.values()), 2000, read)
        session.conn.rollback()

    def test_a_claim_costs_the_same(self):
        """From a hundred times as many, with whatever lies in the way: pages touched, and test/bench/claim the time."""
        self.admin().rows("ALTER SYSTEM SET autovacuum = off")
        self.admin().rows("SELECT pg_reload_conf()")
        self.admin().rows("ALTER SYSTEM RESET autovacuum")
        databases = []
        for n in (1000, 100000):
            url = self.postgres.create_database()
            self.migrate(url)
            admin, session = self.admin(urllib.parse.urlsplit(url).path), self.session(url)
            backlog.fill(admin, n)
            databases.append((admin, session, session.register(owner=new_uuid(), lease_ms=3600000)))
        for how in ("plain", "churned", "paused", "capped"):
            costs = []
            for admin, session, owner in databases:
                if how == "churned":
                    backlog.churn(session, owner, 40)
                backlog.obstruct(admin, how)
                found = [backlog.claim_cost(session.conn, owner, backlog.capped_policy(how))[0] for _ in range(5)]
                costs.append(sorted(found)[2])
            say(f"{how}: {costs[0]} buffers for a claim of 128 from 1,000, {costs[1]} from 100,000")
            self.assertLess(costs[1], costs[0] * 1.2)

    def test_counting_is_bounded(self):
        """A hundred thousand that are held cost no more than ten thousand, counted or claimed beside."""
        self.admin().rows("ALTER SYSTEM SET autovacuum = off")
        self.admin().rows("SELECT pg_reload_conf()")
        self.admin().rows("ALTER SYSTEM RESET autovacuum")
        self.of_lane(100000, "eu")
        self.db.rows("ALTER TABLE provisioning_job DISABLE TRIGGER USER")
        self.db.rows("UPDATE provisioning_job SET state = 'held', next_attempt_at = now() + interval '1 hour'")
        self.db.rows("ALTER TABLE provisioning_job ENABLE TRIGGER USER")
        self.of_lane(5, "us")
        self.db.rows("ANALYZE provisioning_job")
        session = self.session(autocommit=False)
        owner = session.register()
        self.forget(session)
        counts = {r["what"]: r["n"] for r in session.rows("SELECT * FROM job_counts(10000)")}
        read = self.read(session)
        self.assertLess(sum(seq + idx for seq, idx in read.values()), 45000, read)
        self.assertEqual((counts["queued"], counts["running"], counts["outbox"]), (5, 0, 0))
        self.assertLess(abs(counts["held"] - 100000), 10000)
        self.forget(session)
        self.assertEqual(len(session.claim(owner)), 5)
        self.assertLess(sum(seq + idx for seq, idx in self.read(session).values()), 500)
        self.forget(session)
        self.assertEqual(session.claim(owner), [])
        self.assertLess(sum(seq + idx for seq, idx in self.read(session).values()), 50)
        session.conn.rollback()

    def drain_outbox(self, session, owner):
        rows = session.rows("SELECT * FROM outbox_claim(%s, 256)", owner)
        session.call("outbox_done", [r["id"] for r in rows])

    def fill(self):
        """Old rows in the other tables."""
        self.db.rows("INSERT INTO agent_config (subscription_uuid, organization_uuid, organization_slug, project_uuid, "
                     "project_slug, offering_uuid, offering_type, plan_tier, runtime, runtime_name, name) SELECT uuid, "
                     "organization_uuid, 'o', uuid, 'p', uuid, 'csa', 'pro', 'shared', 'eu', uuid::text FROM subscription "
                     "WHERE uuid NOT IN (SELECT subscription_uuid FROM agent_config) LIMIT 20000")
        self.db.rows("INSERT INTO provisioning_effect (subscription_uuid, job_id, fence, step, runtime_name, product, operation, "
                     "method, target, name, marker, body_sha256, request_id) SELECT subscription_uuid, id, 1, 'revoke', 'eu', "
                     "'langflow', 'create', 'POST', '/', 'n', 'm', 's', 'r' FROM provisioning_job WHERE state = 'queued' LIMIT 20000")
        self.db.rows("INSERT INTO agent_api_key (subscription_uuid, organization_uuid, prefix, key_hash, sealed_key, rate_limit, "
                     "revoked_at) SELECT subscription_uuid, organization_uuid, 'pk_live_' || left(md5(name), 8), "
                     "sha256(name::bytea), sha256('a') || sha256('b'), '1/day', now() FROM agent_config LIMIT 20000 "
                     "ON CONFLICT DO NOTHING")
        self.db.rows("INSERT INTO subscription_event (source, event_id, type, subscription_uuid, order_uuid, event_time, verdict, "
                     "data) SELECT 's', uuid::text, 'subscription.terminated', uuid, uuid, now(), 'applied', '{}' "
                     "FROM subscription LIMIT 20000")


class Effects(Base):
    def setUp(self):
        super().setUp()
        self.owner = self.db.register()

    def settle(self, effect, fence, state, id=None, status=None, error_class=None, error=None):
        return self.db.call("effect_settle", effect, fence, state, id, status, error_class, error)

    def test_effects(self):
        s, held = self.db.running(self.owner)
        _, first = self.db.intend(held)
        row = self.db.one("SELECT * FROM provisioning_effect")
        self.assertEqual((row["state"], row["step"], row["fence"], row["settled_at"]), ("intended", "name", held[2], None))
        self.assertFalse(self.settle(first, held[2] + 1, "done"))
        self.assertTrue(self.settle(first, held[2], "unknown", None, None, "unknown", "reset"))
        self.assertTrue(self.settle(first, held[2], "unknown", "id-1"))
        _, second = self.db.intend(held)
        self.assertEqual(self.db.value("SELECT state FROM provisioning_effect WHERE id = %s", first), "replaced")
        self.assertFalse(self.settle(first, held[2], "done"))
        _, other = self.db.intend(held, operation="key")
        _, kb = self.db.intend(held, "ragflow")
        self.assertTrue(self.settle(second, held[2], "refused", None, 422, "refused", "no"))
        self.assertFalse(self.settle(second, held[2], "done"))
        # A product's step settles what is open of that product alone.
        self.db.name_step(held, "abc")
        self.assertEqual(self.db.step("step_resource", held, "api_key", "langflow", "ws"), "ok")
        states = {r["id"]: (r["state"], r["external_id"]) for r in self.db.rows("SELECT * FROM provisioning_effect")}
        self.assertEqual(states, {first: ("done", "id-1"), second: ("refused", None), other: ("done", "ws"),
                                  kb: ("intended", None)})

    def test_what_a_refused_request_replaced_is_open_again(self):
        s, held = self.db.running(self.owner)
        _, first = self.db.intend(held)
        _, refused = self.db.intend(held)
        self.assertTrue(self.settle(refused, held[2], "refused", None, 429, "throttled", "slow down"))
        self.assertEqual([(r["id"], r["state"]) for r in self.db.rows("SELECT id, state FROM provisioning_effect ORDER BY id")],
                         [(first, "unknown"), (refused, "refused")])
        self.assertEqual(self.db.value("SELECT n FROM open_effects(%s, 'langflow')", s), 1)

    def test_what_an_unsent_request_replaced_is_open_again(self):
        s, held = self.db.running(self.owner)

        def state(effect):
            return self.db.value("SELECT state FROM provisioning_effect WHERE id = %s", effect)

        _, older = self.db.intend(held)
        self.assertTrue(self.settle(older, held[2], "unknown"))
        _, first = self.db.intend(held)
        self.assertTrue(self.settle(first, held[2], "unknown"))
        _, unsent = self.db.intend(held)
        self.assertEqual((state(older), state(first)), ("replaced", "replaced"))
        self.assertTrue(self.settle(unsent, held[2], "not_sent"))
        # The one that it stood for, which in its turn stands for the oldest.
        self.assertEqual((state(older), state(first), state(unsent)), ("replaced", "unknown", "not_sent"))
        self.assertEqual(self.db.value("SELECT n FROM open_effects(%s, 'langflow')", s), 1)
        _, sent = self.db.intend(held)
        self.assertTrue(self.settle(sent, held[2], "done"))
        self.assertEqual((state(first), state(sent)), ("replaced", "done"))

    def test_what_answers_told_is_kept(self):
        s, held = self.db.running(self.owner)
        # Nothing to hang it on yet: not an error, nothing is written.
        self.assertEqual(self.db.step("runtime_keep", held, "ragflow", "kb", "tenant", None), "ok")
        self.db.name_step(held, "abc")
        self.assertEqual(self.db.step("runtime_keep", held, "langflow", "user", None, None), "ok")
        self.assertEqual(self.db.step("runtime_keep", held, "langflow", None, None, SEALED), "ok")
        self.assertEqual(self.db.step("runtime_keep", held, "ragflow", None, "tenant", None), "ok")
        c = self.db.config(s)
        self.assertEqual((c["runtime_workspace_id"], c["knowledge_base_id"], c["knowledge_base_tenant"]),
                         ("user", None, "tenant"))
        self.assertEqual(self.db.runtime_keys(s), {"langflow": SEALED})
        self.assertEqual(self.db.job(held[0])["state"], "running")
        self.assertEqual(self.db.one("SELECT * FROM runtime_recorded(%s)", s),
                         {"tenant_id": "tenant", "langflow_key": SEALED.hex(), "ragflow_key": None, "variables": "{}",
                          "variables_due": "[]", "collection_asked": False})

    def test_a_collection_that_was_asked_for_is_known_for_good(self):
        s, held = self.db.running(self.owner)
        asked = lambda: self.db.one("SELECT collection_asked FROM runtime_recorded(%s)", s)["collection_asked"]
        self.db.intend(held)
        self.assertFalse(asked())
        _, effect = self.db.intend(held, product="ragflow")
        self.assertTrue(asked())
        self.assertTrue(self.settle(effect, held[2], "refused"))
        self.assertTrue(asked())

    def test_a_step_records_all_that_is_there(self):
        s, held = self.db.running(self.owner)
        flow = new_uuid()
        self.db.name_step(held, "abc", next="workspace")
        detail = json.dumps({"flow_id": flow, "run_url": "http://l/api/v1/run/" + flow})
        self.assertEqual(self.db.step("step_resource", held, "collection", "langflow", "user", detail, SEALED), "ok")
        detail = json.dumps({"tenant_id": "tenant"})
        self.assertEqual(self.db.step("step_resource", held, "workspace", "ragflow", "kb", detail, SEALED), "ok")
        c = self.db.config(s)
        self.assertEqual((c["runtime_workspace_id"], str(c["runtime_flow_id"]), c["runtime_run_url"]),
                         ("user", flow, "http://l/api/v1/run/" + flow))
        self.assertEqual((c["knowledge_base_id"], c["knowledge_base_tenant"], c["residue"]), ("kb", "tenant", None))
        self.assertEqual(self.db.runtime_keys(s), {"langflow": SEALED, "ragflow": SEALED})
        # Gone: nothing of it stays but what the server could not take away.
        detail = json.dumps({"residue": "2 chunks"})
        self.assertEqual(self.db.step("step_resource", held, "workspace", "ragflow", None, detail, None), "ok")
        self.assertEqual(self.db.step("step_resource", held, "workspace", "langflow", None), "ok")
        c = self.db.config(s)
        self.assertEqual([c[n] for n in ("runtime_workspace_id", "runtime_flow_id", "runtime_run_url",
                                         "knowledge_base_id", "knowledge_base_tenant", "residue")],
                         [None] * 5 + ["2 chunks"])
        self.assertEqual(self.db.runtime_keys(s), {})
        told = self.db.one("SELECT detail FROM audit_log WHERE action = 'residue'")["detail"]
        self.assertEqual(told, {"product": "ragflow", "residue": "2 chunks"})

    def test_open_deletes_name_their_object(self):
        s, held = self.db.running(self.owner)
        self.db.name_step(held, "abc")

        def intend(operation, method, object=None):
            return self.db.one("SELECT * FROM effect_intend(%s, %s, %s, %s, 'ragflow', %s, %s, '/datasets', 'n', 'm', 's', "
                               "'r', %s)", *held, DAY_MS, operation, method, object)

        def open_effects():
            return self.db.one("SELECT * FROM open_effects(%s, 'ragflow')", s)

        never = open_effects()["age_ms"]
        intend("collection.delete", "DELETE", "d1")
        self.assertEqual(open_effects(), {"n": 1, "age_ms": never, "updating": False, "deleting": "d1"})
        # A delete of a part may land late like any other change, and is no reason to delete the whole.
        intend("document.delete", "DELETE")
        after = open_effects()
        self.assertEqual((after["n"], after["updating"], after["deleting"]), (2, False, "d1"))
        self.assertLess(after["age_ms"], 60_000)

    def test_one_name(self):
        a, first = self.db.running(self.owner)
        b, second = self.db.running(self.owner)
        self.assertEqual(self.db.name_step(first, "taken"), "ok")
        self.assertEqual(self.db.name_step(second, "taken"), f"conflict:{a}")
        self.assertEqual(self.db.job(second[0])["step"], "name")
        self.assertEqual(self.db.name_step(first, "else"), "ok")
        self.assertEqual((self.db.config(a)["name"], self.db.job(first[0])["runtime_name"]), ("taken", "eu"))
        # Two at once: the second waits for the first, then sees it.
        c, third = self.db.running(self.owner)
        writer, waiter = self.session(autocommit=False), self.session()
        writer.name_step(second, "other")
        waiting = self.in_background(waiter.name_step, third, "other")
        self.blocked(waiter)
        writer.conn.commit()
        self.assertEqual(waiting.result(), f"conflict:{b}")

    def test_keys(self):
        s, held = self.db.running(self.owner)
        self.db.name_step(held, "abc")
        self.assertEqual(self.db.key_step(held, "pk_live_AAAAAAAA", next="api_key"), "ok")
        self.assertEqual(self.db.key_step(held, "pk_live_BBBBBBBB", terms={"rate_limit": "5/day"}), "ok")
        key = self.db.one("SELECT * FROM agent_api_key")
        self.assertEqual((key["prefix"], key["rate_limit"], self.db.config(s)["api_key"]),
                         ("pk_live_AAAAAAAA", "5/day", "pk_live_AAAAAAAA"))

    def test_whole_life(self):
        s = self.db.provision(self.owner)
        ready_at = self.db.config(s)["ready_at"]
        self.db.provision(self.owner, s)  # said again: stays ready all the while
        self.assertEqual((self.db.config(s)["status"], self.db.config(s)["ready_at"]), ("ready", ready_at))
        self.db.terminate(self.owner, s)
        config = self.db.config(s)
        self.assertEqual((config["status"], config["api_key"], config["knowledge_base_id"]), ("archived", None, None))
        self.assertIsNotNone(config["runtime_workspace_id"])
        archived = config["archived_at"]
        self.db.terminate(self.owner, s)
        self.assertEqual(self.db.config(s)["archived_at"], archived)
        self.db.provision(self.owner, s, at="2026-11-22T00:00:00Z")  # restored
        self.assertEqual((self.db.config(s)["status"], self.db.config(s)["archived_at"]), ("ready", None))
        self.assertEqual(self.db.value("SELECT count(*) FROM agent_api_key WHERE revoked_at IS NULL"), 1)
        self.assertEqual(self.db.value("SELECT count(*) FROM agent_api_key"), 2)
        self.assertEqual([r["type"].partition(".")[2] for r in self.db.rows("SELECT type FROM outbox ORDER BY id")],
                         ["ready", "ready", "archived", "archived", "ready"])
        self.assertEqual(self.db.value("SELECT count(DISTINCT payload->>'id') FROM outbox"), 5)

    def test_termination_of_what_never_was(self):
        s, held = self.db.running(self.owner, "terminated")
        for step in ("step_revoke", "step_archive"):
            self.assertEqual(self.db.step(step, held, "report"), "ok")
        self.assertEqual(self.db.step("step_pass", held, None), "ok")
        payload = self.db.one("SELECT payload FROM outbox")["payload"]
        self.assertEqual((payload["type"], payload["data"]["status"]), ("subscription.purged", "purged"))

    def test_failure(self):
        s, held = self.db.running(self.owner)
        self.db.name_step(held, "abc")
        self.assertEqual(self.db.settle(held, "failed", 3, 0, "refused", "the words"), "ok")
        self.assertEqual((self.db.config(s)["status"], self.db.config(s)["status_reason"]), ("failed", "announce: the words"))
        data = self.db.one("SELECT payload FROM outbox")["payload"]["data"]
        self.assertEqual((data["step"], data["error_class"], data["error"], data["status"]),
                         ("announce", "refused", "the words", "failed"))
        # What works goes on working.
        t = self.db.provision(self.owner)
        self.db.take(t, at=LATER)
        self.db.settle(self.db.take_job(self.owner, t), "failed", 1, 0, "refused", "x")
        self.assertEqual(self.db.config(t)["status"], "ready")

    def replay(self, s, step=None, dry=False):
        row = self.db.one("SELECT * FROM job_replay(%s, %s, 1000, 'cli', %s)", s, step, dry)
        return row["verdict"], row["step"]

    def test_replay(self):
        self.assertEqual(self.replay(new_uuid()), ("none", None))
        s, held = self.db.running(self.owner)
        self.assertEqual(self.replay(s), ("none", None))
        self.db.name_step(held, "abc", next="collection")
        self.db.settle(held, "failed", 9, 0, "refused", "x")
        before = self.snapshot()
        self.assertEqual(self.replay(s, dry=True), ("queued", "collection"))
        self.assertEqual(self.replay(s, "workspace"), ("bad step", "workspace"))
        self.assertEqual(self.replay(s, "revoke"), ("bad step", "revoke"))
        self.assertEqual(self.replay(s, "name", dry=True), ("queued", "name"))
        self.assertEqual(self.snapshot(), before)
        self.assertEqual(self.replay(s), ("queued", "collection"))
        job = self.db.job(held[0])
        self.assertEqual((job["state"], job["attempts"], job["step"], job["error"], job["finished_at"]),
                         ("queued", 0, "collection", None, None))
        self.assertEqual(self.db.config(s)["status"], "provisioning")
        self.assertEqual(self.replay(s), ("none", None))
        self.assertEqual(self.db.take_job(self.owner, s)[2], held[2] + 1)
        self.check_two_replays_at_once()

    def check_two_replays_at_once(self):
        s, held = self.db.running(self.owner)
        self.db.settle(held, "failed", 1, 0, "refused", "x")
        first, second = self.session(autocommit=False), self.session()
        call = "SELECT verdict FROM job_replay(%s, NULL, 1000, 'cli', false)"
        self.assertEqual(first.value(call, s), "queued")
        waiting = self.in_background(second.value, call, s)
        self.blocked(second)
        first.conn.commit()
        self.assertEqual(waiting.result(), "none")

    def test_release(self):
        held = []
        for runtime in ("eu", "eu", "us"):
            _, h = self.db.running(self.owner)
            self.db.rows("UPDATE provisioning_job SET runtime_name = %s WHERE id = %s", runtime, h[0])
            self.db.settle(h, "held", 0, 3_600_000, "unavailable", "down")
            held.append(h[0])
        _, waiting = self.db.running(self.owner)
        self.db.settle(waiting, "retrying", 1, 3_600_000, "unavailable", "x")
        self.assertEqual(self.db.claim(self.owner), [])
        locked = self.session(autocommit=False)
        locked.rows("SELECT FROM provisioning_job WHERE id = %s FOR UPDATE", held[1])
        self.assertFalse(self.db.call("jobs_release", "eu"))
        locked.conn.rollback()
        self.assertEqual([self.db.job(h)["state"] for h in held], ["queued", "held", "held"])
        self.assertFalse(self.db.call("jobs_release", "eu"))
        self.assertEqual([j["job_id"] for j in self.db.claim(self.owner)], held[:2])
        self.assertFalse(self.db.call("jobs_release", None))
        self.assertEqual([j["job_id"] for j in self.db.claim(self.owner)], held[2:])

    def test_one_is_released_to_try(self):
        """Each time another one: the one that would come back first."""
        held = []
        for minutes in (3, 1, 2):
            _, h = self.db.running(self.owner)
            self.db.rows("UPDATE provisioning_job SET runtime_name = 'eu' WHERE id = %s", h[0])
            self.db.settle(h, "held", 0, minutes * 60_000, "unavailable", "down")
            held.append(h[0])
        for expected in (held[1], held[2], held[0]):
            self.assertFalse(self.db.call("jobs_release", "eu", 1))
            self.assertEqual([j["job_id"] for j in self.db.claim(self.owner)], [expected])
        self.assertFalse(self.db.call("jobs_release", "eu", 1))

    def purge(self, s, before="2100-01-01T00:00:00Z"):
        return self.db.call("retention_purge", s, before, DAY_MS)

    def test_retention(self):
        s = self.db.provision(self.owner)
        self.assertIsNone(self.purge(s))
        self.assertIsNone(self.purge(new_uuid()))
        self.db.terminate(self.owner, s)
        self.assertIsNone(self.purge(s, "2020-01-01T00:00:00Z"))
        job = self.purge(s)
        self.assertEqual((self.db.job(job)["kind"], self.db.job(job)["step"]), ("purge", "chat_history"))
        self.assertIsNone(self.purge(s))
        held = self.db.take_job(self.owner, s)
        self.db.settle(held, "failed", 1, 0, "refused", "x")
        self.assertEqual(self.db.config(s)["status"], "archived")
        again = self.purge(s)
        self.assertNotIn(again, (None, job))
        self.assertEqual(self.db.job(job)["state"], "superseded")
        held = self.db.take_job(self.owner, s)
        self.db.step("step_pass", held, "workspace")
        self.db.step("step_resource", held, "record", "langflow", None)
        self.assertEqual(self.db.step("step_archive", held, None), "ok")
        self.assertEqual(self.db.config(s)["status"], "purged")
        self.assertIsNone(self.purge(s))
        # A later restore is not held up by the purge.
        self.db.provision(self.owner, s, at="2026-11-23T00:00:00Z")

    def test_retention_twice_at_once(self):
        s = self.db.provision(self.owner)
        self.db.terminate(self.owner, s)
        first = self.session(autocommit=False)
        self.assertIsNotNone(first.call("retention_purge", s, "2100-01-01", 1000))
        self.assertIsNone(self.purge(s))
        first.conn.commit()
        self.assertIsNone(self.purge(s))
        # A restore that comes while the purge is wished for wins.
        self.assertEqual(self.db.take(s, at="2026-11-23T00:00:00Z"), "applied")
        self.assertEqual(self.db.states(s)[-2:], [("purge", "superseded"), ("provision", "queued")])


class Wishes(Base):
    """Created, updated, suspended, resumed, terminated, restored: in every order of arrival the same end."""

    KEY = "pk_live_" + "k" * 36
    TIMES = [f"2026-11-21T{h:02}:00:00Z" for h in range(24)]

    def setUp(self):
        super().setUp()
        self.owner = self.db.register()

    # ---- a worker, as far as the database sees it ----

    def perform(self, held, job, next):
        """One step of the job as it stands."""
        db, s, step = self.db, job["subscription_uuid"], job["step"]
        spec = db.value("SELECT spec FROM subscription WHERE uuid = %s", s) or {}
        rag = "rag" in spec.get("capabilities", [])
        makes = job["kind"] in ("provision", "update", "resume")
        if step == "name":
            return db.name_step(held, f"n-{s}", next=next, capabilities=spec.get("capabilities", []))
        if step == "collection":
            recorded = db.rows("SELECT knowledge_base_id FROM agent_config WHERE subscription_uuid = %s", s)
            kb = recorded[0]["knowledge_base_id"] if recorded else None
            return db.step("step_resource", held, next, "ragflow", (kb or f"kb-{s}") if makes and rag else None)
        if step in ("workspace", "open_workspace", "close_workspace"):
            if not db.rows("SELECT 1 FROM agent_config WHERE subscription_uuid = %s", s):
                return db.step("step_pass", held, next)
            there = job["kind"] != "purge" and (makes or db.config(s)["runtime_workspace_id"] is not None)
            return db.step("step_resource", held, next, "langflow", f"ws-{s}" if there else None,
                           json.dumps({"variables": True} if makes else {}))
        if step == "api_key":
            mark = hashlib.sha256(self.KEY.encode() + s.encode()).digest()
            again = db.value("SELECT count(*) FROM agent_api_key WHERE subscription_uuid = %s", s)
            return db.key_step(held, hash=mark if not again else None, next=next,
                               terms={"rate_limit": spec.get("limit", "60/minute")})
        if step in ("record", "archive"):
            ends = {"suspend": "step_suspended", "terminate": "step_archive", "purge": "step_archive"}
            return db.step(ends.get(job["kind"], "step_ready"), held, next)
        if step == "revoke":
            return db.step("step_refuse" if job["kind"] == "suspend" else "step_revoke", held, next)
        return db.step("step_pass", held, next)

    def work(self, s, steps=100):
        """So many steps of the subscription's jobs, one after the other; their kinds."""
        kinds, held = [], None
        for _ in range(steps):
            id = self.db.live(s)
            if id is None:
                break
            job = self.db.job(id)
            if job["state"] == "queued" or not held or held[0] != id:
                if job["state"] == "running":
                    self.db.rows("UPDATE worker SET lease_until = now() - interval '1 s' WHERE owner = %s", self.owner)
                    self.owner = self.db.register()
                held = self.db.take_job(self.owner, s)
                kinds.append(job["kind"])
            plan = [r["step"] for r in self.db.rows("SELECT step FROM job_plan WHERE kind = %s ORDER BY position", job["kind"])]
            next = (plan + [None])[plan.index(job["step"]) + 1]
            self.assertIn(self.perform(held, job, next), ("ok", "superseded"))
        return kinds

    def tell(self, s, type, hour, **data):
        return self.db.take(s, type, self.TIMES[hour], data=data)

    def state(self, s):
        c = self.db.rows("SELECT * FROM agent_config WHERE subscription_uuid = %s", s)
        return c[0]["status"] if c else None

    def wish(self, s):
        return self.db.one("SELECT wanted, spec, alive, suspended FROM subscription WHERE uuid = %s", s)

    def admitted(self, s):
        got = self.db.one("SELECT allowed, reason FROM authenticate_api_key(%s, NULL)", self.KEY + s)
        return got["reason"] or got["allowed"]

    def told(self, s):
        return [r["type"].partition(".")[2] for r in
                self.db.rows("SELECT type FROM outbox WHERE subscription_uuid = %s ORDER BY id", s)]

    # ---- what follows from what ----

    @staticmethod
    def model(events):
        """What is wanted in the end, by the events in the order of their times: (wanted, spec)."""
        alive, spec, suspended = None, None, False
        for hour, type, data in sorted(events, key=lambda e: e[0]):
            alive = {"created": True, "terminated": False}.get(type, alive)
            spec = data if type in ("created", "updated") else spec
            suspended = {"created": False, "resumed": False, "suspended": True}.get(type, suspended)
        wanted = ("absent" if alive is False else "suspended" if suspended else "present" if spec else "absent")
        return wanted, spec if wanted in ("present", "suspended") else None

    def check(self, s, events):
        wanted, spec = self.model(events)
        wish = self.wish(s)
        self.assertEqual((wish["wanted"], wish["spec"] if wanted in ("present", "suspended") else None), (wanted, spec), events)
        self.work(s)
        status = self.state(s)
        known = {"present": ("ready",), "suspended": (None, "suspended"), "absent": (None, "archived", "purged")}
        self.assertIn(status, known[wanted], events)
        if status is None:
            self.assertEqual(self.db.value("SELECT count(*) FROM agent_api_key WHERE subscription_uuid = %s", s), 0)
            return
        c = self.db.config(s)
        if wanted == "present":
            self.assertEqual((c["capabilities"], c["updating"], c["knowledge_base_id"] is not None),
                             (spec.get("capabilities", []), False, "rag" in spec.get("capabilities", [])), events)
            self.assertEqual(self.db.value("SELECT rate_limit FROM agent_api_key WHERE subscription_uuid = %s AND "
                                           "revoked_at IS NULL", s), spec["limit"], events)
        if wanted == "absent":
            self.assertEqual((c["api_key"], c["knowledge_base_id"]), (None, None), events)

    def test_every_order_of_arrival(self):
        """Each life of up to four events, as it may come in: all orders, each event twice."""
        lives = [("created", "updated", "suspended", "resumed"), ("created", "suspended", "updated", "terminated"),
                 ("created", "suspended", "terminated", "created"), ("created", "terminated", "updated", "resumed"),
                 ("created", "terminated", "created", "suspended"), ("updated", "suspended", "resumed", "suspended"),
                 ("suspended", "resumed", "created", "updated"), ("created", "suspended", "created", "terminated"),
                 ("terminated", "suspended", "updated", "created"), ("resumed", "suspended", "updated", "resumed")]
        n = 0
        for life in lives:
            events = [(hour, type, {"limit": f"{hour + 1}/minute", "capabilities": ["rag"][:hour % 2]}
                       if type in ("created", "updated") else {}) for hour, type in enumerate(life)]
            for order in itertools.permutations(events):
                s, ids = new_uuid(), {}
                for event in order:
                    ids[event[0]] = new_uuid()
                    self.assertIn(self.db.take(s, event[1], self.TIMES[event[0]], id=ids[event[0]], data=event[2]),
                                  ("applied", "stale", "noted"))
                    self.assertEqual(self.db.take(s, event[1], self.TIMES[event[0]], id=ids[event[0]], data=event[2]),
                                     "duplicate")
                self.check(s, events)
                n += 1
        say(f"{n} orders of {len(lives)} lives end as their times say")

    def test_random_lives(self):
        """Random events, in random order, beside a worker that does some steps in between, and dies at times."""
        seed = int(os.environ.get("SEED", random.randrange(1 << 32)))
        say(f"seed {seed}")
        rng = random.Random(seed)
        for _ in range(60):
            s, events = new_uuid(), []
            hours = rng.sample(range(24), rng.randint(1, 8))
            for hour in hours:
                type = rng.choice(["created", "created", "updated", "suspended", "resumed", "terminated"])
                data = ({"limit": f"{hour + 1}/hour", "capabilities": rng.choice([[], ["rag"]])}
                        if type in ("created", "updated") else {})
                events.append((hour, type, data))
                self.tell(s, type, hour, **data)
                if rng.random() < 0.6:
                    self.work(s, rng.randint(1, 12))
            with self.subTest(seed=seed, events=events):
                self.check(s, events)

    def test_suspended_and_resumed(self):
        """Refused first, then shut; the same workspace, collection and key afterwards."""
        s = new_uuid()
        self.tell(s, "created", 12, limit="1/minute", capabilities=["rag"])
        self.work(s)
        before = self.db.config(s)
        self.assertEqual(self.admitted(s), True)
        self.assertEqual(self.tell(s, "suspended", 13), "applied")
        held = self.db.take_job(self.owner, s)
        job = self.db.job(held[0])
        self.assertEqual((job["kind"], job["step"], job["lane"]), ("suspend", "revoke", ""))  # whatever becomes of the runtime
        self.assertEqual(self.perform(held, job, "close_workspace"), "ok")
        self.assertEqual(self.admitted(s), "subscription not active")
        self.assertEqual(self.work(s), ["suspend"])
        c = self.db.config(s)
        kept = ("name", "runtime_workspace_id", "knowledge_base_id", "api_key", "runtime_name")
        self.assertEqual(([c[k] for k in kept], c["status"]), ([before[k] for k in kept], "suspended"))
        self.assertEqual(self.tell(s, "resumed", 14), "applied")
        self.assertEqual(self.work(s), ["resume"])
        c = self.db.config(s)
        self.assertEqual(([c[k] for k in kept], c["status"]), ([before[k] for k in kept], "ready"))
        self.assertEqual(self.admitted(s), True)
        self.assertEqual(self.told(s), ["ready", "paused", "ready"])
        payload = self.db.one("SELECT payload FROM outbox WHERE type = 'subscription.paused'")["payload"]
        self.assertEqual((payload["data"]["status"], payload["data"]["api_key_prefix"]), ("suspended", before["api_key"]))
        # Resumed though it is not suspended: the job finds all as it should be, and says so.
        self.assertEqual(self.tell(s, "resumed", 15), "applied")
        self.assertEqual(self.work(s), ["update"])
        self.assertEqual(self.state(s), "ready")

    def test_updates_keep_what_works_at_work(self):
        """Retrieval comes and goes beside a key that is good all the while."""
        s = new_uuid()
        self.tell(s, "created", 1, limit="1/minute")
        self.assertEqual(self.work(s), ["provision"])
        key = self.db.one("SELECT * FROM agent_api_key WHERE subscription_uuid = %s", s)
        for hour, capabilities in ((2, ["rag"]), (3, [])):
            self.tell(s, "updated", hour, limit=f"{hour}/minute", capabilities=capabilities)
            for _ in range(5):
                self.work(s, 1)
                self.assertEqual(self.state(s), "ready")
            self.work(s)
            c = self.db.config(s)
            self.assertEqual((c["knowledge_base_id"] is not None, c["updating"], c["status"]), (hour == 2, False, "ready"))
            now = self.db.one("SELECT * FROM agent_api_key WHERE subscription_uuid = %s", s)
            self.assertEqual((now["id"], now["rate_limit"]), (key["id"], f"{hour}/minute"))
        self.assertEqual([k for k, _ in self.db.states(s)], ["provision", "update", "update"])
        # Ready without its collection is refused but while it is updated.
        self.refused(pg.CheckViolation, "UPDATE agent_config SET capabilities = '{rag}' WHERE subscription_uuid = %s", s)

    def test_what_was_not_whole_is_provisioned(self):
        """A newer order at each step of a provision: the next job does all of it, whatever the order is called."""
        for type in ("updated", "resumed", "suspended"):
            for steps in range(1, 6):
                s = new_uuid()
                self.tell(s, "created", 1, limit="1/minute", capabilities=["rag"])
                self.work(s, steps)
                self.assertEqual(self.tell(s, type, 2, **({"limit": "2/minute"} if type == "updated" else {})), "applied")
                kinds = self.work(s)
                if type == "suspended":
                    self.assertEqual((kinds[-1], self.state(s)), ("suspend", "suspended"))
                    self.tell(s, "resumed", 3)
                    whole = self.db.config(s)["api_key"] is not None
                    kinds = self.work(s)
                    self.assertEqual(kinds, ["resume" if whole else "provision"])
                else:
                    self.assertEqual(kinds[-1], "provision")
                self.assertEqual(self.state(s), "ready")

    def test_updated_while_suspended(self):
        s = new_uuid()
        self.tell(s, "created", 1, limit="1/minute")
        self.work(s)
        self.tell(s, "suspended", 2)
        self.work(s)
        self.assertEqual(self.tell(s, "updated", 3, limit="3/minute", capabilities=["rag"]), "applied")
        self.assertEqual((self.work(s), self.state(s)), (["suspend"], "suspended"))
        self.assertIsNone(self.db.config(s)["knowledge_base_id"])
        self.tell(s, "resumed", 4)
        self.assertEqual((self.work(s), self.state(s)), (["resume"], "ready"))
        self.assertEqual(self.db.config(s)["capabilities"], ["rag"])
        # A created event of a newer order says: present.
        self.tell(s, "suspended", 5)
        self.work(s)
        self.tell(s, "created", 6, limit="6/minute")
        self.assertEqual((self.work(s), self.state(s)), (["resume"], "ready"))

    def test_suspended_before_it_is_created(self):
        """Nothing is made until it is resumed: what is not there needs no shutting."""
        s = new_uuid()
        self.assertEqual(self.tell(s, "suspended", 2), "applied")
        self.assertEqual((self.work(s), self.state(s), self.told(s)), (["suspend"], None, ["paused"]))
        payload = self.db.one("SELECT payload FROM outbox")["payload"]
        self.assertEqual(payload["data"]["status"], "suspended")
        self.assertEqual(self.tell(s, "created", 1, limit="1/minute"), "applied")
        self.assertEqual((self.work(s), self.state(s)), (["suspend"], None))
        self.assertEqual(self.tell(s, "resumed", 3), "applied")
        self.assertEqual((self.work(s), self.state(s)), (["provision"], "ready"))

    def test_what_is_over_stays_over(self):
        s = new_uuid()
        self.tell(s, "created", 1, limit="1/minute")
        self.work(s)
        self.tell(s, "terminated", 3)
        self.work(s)
        jobs = len(self.db.states(s))
        for type, hour, verdict in (("updated", 2, "stale"), ("suspended", 2, "stale"), ("resumed", 2, "stale"),
                                    ("updated", 5, "noted"), ("suspended", 6, "noted"), ("resumed", 7, "noted")):
            self.assertEqual(self.tell(s, type, hour, **({"limit": f"{hour}/minute"} if type == "updated" else {})), verdict)
        self.assertEqual((len(self.db.states(s)), self.state(s), self.wish(s)["wanted"]), (jobs, "archived", "absent"))
        # They were meant for the life that this brings, whose creation comes late.
        self.assertEqual(self.tell(s, "created", 4, limit="4/minute"), "applied")
        self.assertEqual(self.work(s), ["provision"])
        self.assertEqual(self.db.value("SELECT rate_limit FROM agent_api_key WHERE subscription_uuid = %s AND revoked_at "
                                       "IS NULL", s), "5/minute")
        # Suspended, then ended: retention counts from the new end.
        self.db.rows("UPDATE agent_config SET archived_at = '2020-01-01' WHERE subscription_uuid = %s", s)
        self.tell(s, "suspended", 8)
        self.work(s)
        self.tell(s, "terminated", 9)
        self.assertEqual((self.work(s), self.state(s)), (["terminate"], "archived"))
        self.assertTrue(self.db.value("SELECT archived_at > now() - interval '1 hour' FROM agent_config WHERE "
                                      "subscription_uuid = %s", s))

    def test_only_resumed_is_known(self):
        s = new_uuid()
        self.assertEqual(self.tell(s, "resumed", 2), "noted")
        self.assertEqual((self.db.states(s), self.wish(s)["wanted"]), ([], "absent"))
        self.assertEqual(self.tell(s, "suspended", 1), "stale")
        self.assertEqual(self.tell(s, "updated", 0, limit="1/minute"), "applied")  # it says that there is one, and what
        self.assertEqual((self.work(s), self.state(s)), (["provision"], "ready"))

    def test_failed_changes(self):
        """What works goes on working, what is shut stays shut; both are run again where they failed."""
        for type, step, status in (("updated", "workspace", "ready"), ("suspended", "close_workspace", "suspended")):
            s = new_uuid()
            self.tell(s, "created", 1, limit="1/minute")
            self.work(s)
            self.tell(s, type, 2, **({"limit": "2/minute"} if type == "updated" else {}))
            held = self.db.take_job(self.owner, s)
            while self.db.job(held[0])["step"] != step:
                job = self.db.job(held[0])
                plan = [r["step"] for r in self.db.rows("SELECT step FROM job_plan WHERE kind = %s ORDER BY position", job["kind"])]
                self.assertEqual(self.perform(held, job, plan[plan.index(job["step"]) + 1]), "ok")
            self.assertEqual(self.db.settle(held, "failed", 1, 0, "refused", "no"), "ok")
            self.assertEqual((self.state(s), self.told(s)[-1]), (status, "failed"))
            got = self.db.one(f"SELECT verdict, step FROM job_replay(%s, NULL, {DAY_MS}, 'test', false)", s)
            self.assertEqual(got, {"verdict": "queued", "step": step})
            self.work(s)
            self.assertEqual(self.state(s), status)
        s = new_uuid()
        for hour, type in enumerate(("created", "suspended", "resumed")):
            self.tell(s, type, hour, **({"limit": "1/minute"} if type == "created" else {}))
            if type != "resumed":
                self.work(s)
        held = self.db.take_job(self.owner, s)
        self.perform(held, self.db.job(held[0]), "collection")
        self.db.settle(held, "failed", 1, 0, "refused", "no")
        self.assertEqual(self.state(s), "failed")
        self.db.one(f"SELECT verdict FROM job_replay(%s, NULL, {DAY_MS}, 'test', false)", s)
        self.assertEqual(self.state(s), "provisioning")
        self.work(s)
        self.assertEqual(self.state(s), "ready")

    def test_variables_stay_due_until_they_are_there(self):
        s = self.db.provision(self.owner)
        due = lambda: self.db.config(s)["variables_due"]
        self.tell(s, "updated", 13, limit="1/minute")
        held = self.db.take_job(self.owner, s)
        config = {"plan_tier": "pro", "capabilities": ["rag"], "variables": {"a": 1}, "variables_due": ["a", "gone"],
                  "organization_uuid": NIL, "organization_slug": "acme", "project_uuid": NIL, "project_slug": "p",
                  "offering_uuid": NIL, "offering_type": "csa"}
        self.assertEqual(self.db.step("step_name", held, "collection", "x", "shared", "eu", json.dumps(config)), "ok")
        self.assertEqual(due(), ["a", "gone"])
        self.db.step("step_resource", held, "workspace", "ragflow", f"kb-{s}", "{}")
        self.assertEqual(due(), ["a", "gone"])
        self.assertEqual(self.db.one("SELECT variables_due FROM runtime_recorded(%s)", s)["variables_due"], '["a","gone"]')
        # A newer wish stops the job, and what it did is known all the same.
        self.tell(s, "updated", 14, limit="2/minute")
        self.assertEqual(self.db.step("step_resource", held, "api_key", "langflow", f"ws-{s}", '{"variables": true}'),
                         "superseded")
        self.assertEqual(due(), [])

    def test_old_wishes_are_carried_over(self):
        """What 0006 knew in one, 0007 knows in parts: as if the same events had come now."""
        folder = os.path.join(source_dir(), "migrations")
        files = sorted(f for f in os.listdir(folder) if f < "0008")
        db = self.session(self.postgres.create_database())
        db.rows("CREATE SCHEMA agent_marketplace")
        db.rows("CREATE TABLE schema_migration (version integer)")
        known, over, ahead = new_uuid(), new_uuid(), new_uuid()
        for file in files:
            if file.startswith("0007"):
                db.take(known, at=EARLIER, data={"limit": "1/minute"})
                db.take(over, at=EARLIER)
                db.take(over, "terminated", NOON)
                db.take(ahead, "terminated", LATER)
            with open(os.path.join(folder, file)) as f:
                db.rows(f.read())
        parts = {str(r["uuid"]): r for r in db.rows("SELECT * FROM subscription")}
        for s, alive, wanted in ((known, True, "present"), (over, False, "absent"), (ahead, False, "absent")):
            w = parts[s]
            self.assertEqual((w["alive"], w["alive_at"], w["suspended"], w["wanted"], w["spec_at"] is None),
                             (alive, w["wanted_at"], False, wanted, w["spec"] is None))
        self.assertEqual(db.take(known, "updated", NOON, data={"limit": "2/minute"}), "applied")
        self.assertEqual(db.take(known, "suspended", "2026-11-21T10:00:00Z"), "stale")
        self.assertEqual([db.take(s, "updated", LATER) for s in (over, ahead)], ["noted", "noted"])
        self.assertEqual(db.take(over, at=LATER), "applied")

    def test_what_must_not_be(self):
        a, b = new_uuid(), new_uuid()
        self.db.take(a)
        self.db.take(b, "terminated")
        self.refused(pg.CheckViolation, "UPDATE subscription SET alive = NULL WHERE uuid = %s", a)
        self.refused(pg.CheckViolation, "UPDATE subscription SET wanted = 'suspended' WHERE uuid = %s", b)
        self.refused(pg.CheckViolation, "UPDATE agent_config SET variables_due = '{NULL}' WHERE subscription_uuid = %s",
                     self.db.provision(self.owner))


class Pauses(Base):
    """Pauses and cancelling, in both directions."""

    def setUp(self):
        super().setUp()
        self.owner = self.db.register()

    def pause(self, scope, target=""):
        return self.db.call("pause_set", scope, target, target or "everything", "why", "operator:test")

    def resume(self, scope, target=""):
        return self.db.call("pause_lift", scope, target, "operator:test")

    def new(self, organization=None, runtime="eu"):
        """A subscription whose job waits in the runtime's lane."""
        subscription = new_uuid()
        verdict = self.db.value(
            "SELECT inbox_take('/waldur', %s, 'subscription.created', %s, %s, %s, %s, '{}', NULL, 'topic', 0, 0, %s, %s)",
            new_uuid(), subscription, organization or NIL, new_uuid(), NOON, DAY_MS, runtime)
        self.assertEqual(verdict, "applied")
        return subscription

    def claimed(self):
        """Subscriptions of what can be claimed now; taken back."""
        owner = self.db.register()
        found = {j["subscription_uuid"] for j in self.db.claim(owner, organization_max=100, runtime_max=100)}
        self.db.call("worker_leave", owner)
        return found

    def test_each_scope(self):
        organization = new_uuid()
        a, b, c = self.new(organization), self.new(), self.new(runtime="us")
        self.assertEqual(self.claimed(), {a, b, c})
        for scope, target, rest in (("all", "", set()), ("runtime", "eu", {c}), ("organization", organization, {b, c}),
                                    ("subscription", b, {a, c})):
            self.assertTrue(self.pause(scope, target))
            self.assertFalse(self.pause(scope, target))
            self.assertEqual(self.claimed(), rest, scope)
            self.assertEqual(self.db.claim(self.owner, only=[self.db.live(s) for s in {a, b, c} - rest]), [], scope)
            self.assertTrue(self.resume(scope, target))
            self.assertFalse(self.resume(scope, target))
            self.assertEqual(self.claimed(), {a, b, c}, scope)
        told = [(r["action"], r["detail"]["scope"]) for r in self.db.rows(
            "SELECT action, detail FROM audit_log WHERE actor = 'operator:test' ORDER BY id")]
        self.assertEqual(told, [(w, s) for s in ("all", "runtime", "organization", "subscription")
                                for w in ("pause", "resume")])

    def test_pauses_add_up(self):
        a = self.new()
        self.pause("subscription", a)
        self.pause("all")
        self.resume("all")
        self.assertEqual(self.claimed(), set())
        self.resume("subscription", a)
        self.assertEqual(self.claimed(), {a})

    def test_a_running_job_stops(self):
        """With the step undone, but what an answer told is kept."""
        for scope in ("all", "runtime", "organization", "subscription"):
            organization = new_uuid()
            s, held = self.db.running(self.owner, organization=organization)
            self.assertEqual(self.db.name_step(held, f"n-{s}", organization, "collection"), "ok")
            target = {"all": "", "runtime": "eu", "organization": organization, "subscription": s}[scope]
            self.pause(scope, target)
            self.assertEqual(self.db.step("step_resource", held, "workspace", "ragflow", f"kb-{s}"), "paused", scope)
            job = self.db.job(held[0])
            self.assertEqual((job["state"], job["step"], job["lease_owner"]), ("queued", "collection", None), scope)
            self.assertEqual(self.db.config(s)["knowledge_base_id"], f"kb-{s}")
            self.assertEqual(self.db.intend(held, "ragflow")[0], "lost")
            self.assertEqual(self.claimed(), set(), scope)
            self.resume(scope, target)
            held = self.db.take_job(self.owner, s)
            self.assertEqual(self.db.step("step_resource", held, "workspace", "ragflow", f"kb-{s}"), "ok")
            self.assertEqual(self.db.settle(held, "failed", 1, 0, "refused", "no"), "ok")

    def test_no_change_begins(self):
        s, held = self.db.running(self.owner)
        self.pause("all")
        self.assertEqual(self.db.intend(held)[0], "paused")
        self.assertEqual(self.db.rows("SELECT * FROM provisioning_effect"), [])

    def test_what_ends_ends(self):
        """A job that fails beside the pause has failed, and is not run again."""
        s, held = self.db.running(self.owner)
        self.pause("all")
        self.assertEqual(self.db.settle(held, "failed", 1, 0, "refused", "no"), "ok")
        self.assertEqual(self.db.states(s), [("provision", "failed")])

    def test_later_jobs_of_a_paused_subscription(self):
        """Its termination, a duplicate, a replay: all wait."""
        s = self.db.provision(self.owner)
        self.pause("subscription", s)
        self.assertEqual(self.db.take(s, "terminated", at=LATER, id="t"), "applied")
        self.assertEqual(self.db.take(s, "terminated", at=LATER, id="t"), "duplicate")
        self.assertEqual(self.claimed(), set())
        self.assertEqual(self.db.config(s)["status"], "ready")
        self.resume("subscription", s)
        held = self.db.take_job(self.owner, s)
        self.assertEqual(self.db.settle(held, "failed", 1, 0, "refused", "no"), "ok")
        self.pause("subscription", s)
        self.assertEqual(self.db.one("SELECT verdict FROM job_replay(%s, NULL, 1000, 'replay', false)", s)["verdict"],
                         "queued")
        self.assertEqual(self.claimed(), set())
        self.resume("subscription", s)
        self.assertEqual(self.claimed(), {s})

    def test_a_paused_runtime_keeps_no_key_alive(self):
        s = self.db.provision(self.owner)
        self.pause("runtime", "eu")
        self.db.take(s, "terminated", at=LATER)
        held = self.db.take_job(self.owner, s)
        self.assertEqual(self.db.step("step_revoke", held, "close_workspace"), "ok")
        self.assertEqual(self.db.step("step_pass", held, "collection"), "paused")
        self.assertEqual((self.db.config(s)["api_key"], self.claimed()), (None, set()))

    def test_a_dead_workers_job(self):
        s, held = self.db.running(self.owner)
        self.pause("all")
        self.db.rows("UPDATE worker SET lease_until = now()")
        owner = self.db.register()
        took = self.db.claim(owner)
        self.assertEqual([j["job_id"] for j in took], [held[0]])
        self.assertEqual(self.db.step("step_pass", (held[0], owner, took[0]["fence"]), "announce"), "paused")

    def cancel(self, job):
        return self.db.one("SELECT * FROM job_cancel(%s, 'ordered twice', 1000, 'operator:test')", job)

    def test_cancel_whatever_is_live(self):
        for state in ("queued", "running", "retrying", "held"):
            s = new_uuid()
            self.db.take(s)
            id = self.db.live(s)
            if state != "queued":
                held = self.db.take_job(self.owner, s)
            if state in ("retrying", "held"):
                self.db.settle(held, state, 1, 1000, "unavailable", "away")
            row = self.cancel(id)
            verdict = "cancelling" if state == "running" else "cancelled"
            self.assertEqual((row["verdict"], row["state"], row["kind"]), (verdict, state, "provision"))
            if state == "running":
                # A request of it may be about to leave: until its next write it is whose it was.
                self.assertEqual(self.db.job(id)["state"], "running")
                self.assertEqual(self.db.name_step(held, f"n-{s}"), "cancelled")
                self.assertEqual(self.db.name_step(held, f"n-{s}"), "lost")
            job = self.db.job(id)
            self.assertEqual((job["state"], job["error_class"], job["error"], job["lease_owner"]),
                             ("cancelled", "cancelled", "cancelled: ordered twice", None))
            self.assertEqual(self.db.value("SELECT payload #>> '{data,error_class}' FROM outbox WHERE subscription_uuid = %s",
                                           s), "cancelled")
            self.assertEqual(self.cancel(id)["verdict"], "finished")
        self.assertEqual(self.claimed(), set())
        self.assertEqual(self.cancel(999999)["verdict"], "none")

    def test_cancel_leaves_what_works(self):
        s = self.db.provision(self.owner)
        self.db.take(s, "terminated", at=LATER)
        self.cancel(self.db.live(s))
        config = self.db.config(s)
        self.assertEqual((config["status"], config["status_reason"]), ("ready", "revoke: cancelled: ordered twice"))
        again = self.db.one("SELECT * FROM job_replay(%s, NULL, 1000, 'replay', false)", s)
        self.assertEqual((again["verdict"], again["kind"]), ("queued", "terminate"))
        held = self.db.take_job(self.owner, s)
        self.assertEqual(self.db.step("step_revoke", held, "close_workspace"), "ok")
        self.cancel(held[0])
        self.assertEqual(self.db.config(s)["status"], "terminating")
        self.assertEqual(self.db.settle(held, "held", 1, 1000, "unavailable", "away"), "cancelled")
        self.assertEqual(self.db.config(s)["status"], "failed")

    def test_cancel_with_a_newer_wish(self):
        """The order that waited for the running job is not lost with it."""
        s, held = self.db.running(self.owner)
        self.db.take(s, "terminated", at=LATER)
        self.cancel(held[0])
        self.assertEqual(self.db.states(s), [("provision", "running")])
        self.assertEqual(self.db.name_step(held, f"n-{s}"), "cancelled")
        self.assertEqual(self.db.states(s), [("provision", "cancelled"), ("terminate", "queued")])
        self.assertEqual(self.db.one("SELECT verdict FROM job_replay(%s, NULL, 1000, 'replay', false)", s)["verdict"],
                         "superseded")


    def test_cancel_outcomes_are_told_apart(self):
        """Cancelled, replayed and cancelled again before anybody ran it: two outcomes, two ids."""
        s = new_uuid()
        self.db.take(s)
        for _ in range(2):
            self.assertEqual(self.cancel(self.db.live(s))["verdict"], "cancelled")
            self.db.one("SELECT * FROM job_replay(%s, NULL, 1000, 'replay', false)", s)
        self.assertEqual(self.db.value("SELECT count(DISTINCT payload ->> 'id') FROM outbox WHERE subscription_uuid = %s",
                                       s), 2)


class Outbox(Base):
    def fill(self, *subscriptions):
        for s in subscriptions:
            self.db.rows("INSERT INTO outbox (subscription_uuid, type, payload) VALUES (%s, 'subscription.ready', '{}')", s)

    def claim(self, owner, limit=100, session=None):
        return [r["id"] for r in (session or self.db).rows("SELECT * FROM outbox_claim(%s, %s)", owner, limit)]

    def test_order(self):
        a, b = new_uuid(), new_uuid()
        self.fill(a, a, b, a)
        one, two = new_uuid(), new_uuid()
        self.assertEqual(self.claim(one, 1), [1])
        # What comes after an older one of its subscription waits for it; another's does not.
        self.assertEqual(self.claim(two), [3])
        self.assertEqual(self.claim(one), [2, 4])
        self.assertEqual(self.claim(one), [])
        self.assertEqual(self.db.call("outbox_back", [1, 2, 4]), 3)
        self.assertEqual(self.claim(two), [1, 2, 4])
        self.assertEqual(self.db.call("outbox_done", [1, 3]), 2)
        self.assertEqual(self.db.call("outbox_done", [1, 3]), 0)
        self.assertEqual(self.claim(one), [])
        self.db.rows("UPDATE outbox SET claimed_until = now() - interval '1 ms'")
        self.assertEqual(self.claim(one), [2, 4])

    def test_dead_rows_are_not_walked_again(self):
        """Somebody's snapshot keeps what is done with: a session that has looked before looks from there on."""
        pin = self.pin()
        owner, used = new_uuid(), self.session()
        look = f"SELECT * FROM outbox_claim('{owner}', 1)"
        self.db.rows("INSERT INTO outbox (subscription_uuid, type, payload) "
                     "SELECT gen_random_uuid(), 'subscription.ready', '{}' FROM generate_series(1, 5000)")
        self.db.rows("DELETE FROM outbox")
        self.let_bounds_age(used, look)
        bounded = self.pages(used, look)
        self.forget_floors(used)
        self.assertGreater(self.pages(used, look), 10 * bounded, "nothing dead was there to walk over")
        pin.conn.rollback()
        self.fill(new_uuid())
        self.assertEqual(len(self.claim(owner, session=used)), 1)

    def test_a_claim_whose_answer_was_lost(self):
        self.fill(new_uuid(), new_uuid(), new_uuid())
        one, two = new_uuid(), new_uuid()
        self.assertEqual(self.claim(one, 2), [1, 2])
        self.assertEqual(self.claim(two), [3])
        self.assertEqual(self.db.call("outbox_forget", one, [1]), 1)
        self.assertEqual(self.claim(one), [2])
        self.assertEqual(self.db.call("outbox_forget", one, []), 2)
        self.assertEqual(self.claim(two), [1, 2])

    def test_a_dead_claimers_rows_are_free_when_its_lease_is_over(self):
        a = new_uuid()
        self.fill(a, a)
        dead, other = self.db.register(), new_uuid()
        self.assertEqual(self.claim(dead, 1), [1])
        self.assertEqual(self.claim(other), [])
        self.db.rows("UPDATE worker SET lease_until = now() WHERE owner = %s", dead)
        self.assertEqual(self.claim(other), [1, 2])

    def test_two_claimers(self):
        """One has locked the older row and not committed: the other must not take the younger."""
        a = new_uuid()
        self.fill(a, a, new_uuid())
        first = self.session(autocommit=False)
        one, two = new_uuid(), new_uuid()
        self.assertEqual(self.claim(one, 1, first), [1])
        self.assertNotIn(2, self.claim(two))
        first.conn.commit()
        self.assertEqual(self.claim(two), [3])

    def test_many_claimers(self):
        subscriptions = [new_uuid() for _ in range(10)]
        self.fill(*(s for _ in range(30) for s in subscriptions))
        done, lock = [], threading.Lock()

        def work(seed):
            session, owner, rng = self.session(), new_uuid(), random.Random(seed)
            end = time.monotonic() + 20
            while time.monotonic() < end and session.value("SELECT count(*) FROM outbox"):
                rows = session.rows("SELECT * FROM outbox_claim(%s, %s)", owner, rng.randrange(1, 12))
                with lock:
                    done.extend((r["subscription_uuid"], r["id"]) for r in rows)
                session.call("outbox_done", [r["id"] for r in rows])

        together(*[lambda i=i: work(i) for i in range(4)])
        self.assertEqual(len(done), 300)
        for s in subscriptions:
            ids = [i for x, i in done if x == s]
            self.assertEqual(ids, sorted(ids))

    def test_dead_letters(self):
        def add(offset=7, reason="bad", at=NOON):
            row = self.db.one("SELECT * FROM dead_letter_add('t', 0, %s, %s, NULL, %s, 3, '[]', '/id', %s, 0)", offset, at,
                              b"\xff\x00x", reason)
            return row["id"], row["published"]

        id, published = add()
        self.assertFalse(published)
        self.assertEqual(add(reason="again"), (id, False))
        self.db.call("dead_letter_published", id)
        at = self.db.value("SELECT published_at FROM dead_letter")
        self.db.call("dead_letter_published", id)
        self.assertEqual(self.db.value("SELECT published_at FROM dead_letter"), at)
        self.assertEqual(add(), (id, True))
        self.assertNotEqual(add(8)[0], id)
        # A topic made anew has the same offsets, at other times; a message without a time has one row too.
        self.assertNotEqual(add(at=LATER)[0], id)
        self.assertEqual(add(at=None)[0], add(at=None)[0])
        self.refused(pg.CheckViolation, "UPDATE dead_letter SET state = 'discarded'")
        self.refused(pg.CheckViolation, "UPDATE dead_letter SET reason = ''")
        first, second = self.session(autocommit=False), self.session()
        sql = "SELECT id FROM dead_letter_add('t', 1, 1, NULL, NULL, NULL, 0, '[]', '', 'x', 0)"
        one = first.value(sql)
        waiting = self.in_background(second.value, sql)
        self.blocked(second)
        first.conn.commit()
        self.assertEqual(waiting.result(), one)


class Access(Base):
    TENANT = {"agent_config", "agent_api_key", "provisioning_job", "subscription_event", "audit_log"}
    KEY = "pk_live_" + "k" * 32

    def setUp(self):
        super().setUp()
        self.owner = self.db.register()
        self.acme, self.globex = new_uuid(), new_uuid()
        self.ours = self.db.provision(self.owner, organization=self.acme, key=self.KEY)
        self.theirs = self.db.provision(self.owner, organization=self.globex)

    def as_role(self, role):
        """A login that has only this role."""
        login = f"login_{role}"
        admin = self.admin()
        if not admin.rows("SELECT 1 FROM pg_roles WHERE rolname = %s", login):
            admin.rows(f"CREATE ROLE {login} LOGIN PASSWORD 'x' IN ROLE {role}")
        return self.session(as_user(self.url, login, "x"))

    def tables(self):
        return {r["t"] for r in self.db.rows("SELECT tablename AS t FROM pg_tables WHERE schemaname = 'agent_marketplace'")}

    def columns(self, table):
        return {r["c"] for r in self.db.rows("SELECT column_name AS c FROM information_schema.columns WHERE "
                                             "table_schema = 'agent_marketplace' AND table_name = %s", table)}

    # ---- tenants ----

    def test_tenant_reads_its_own(self):
        db = self.as_role("agent_tenant")
        for table in self.tables() - self.TENANT:
            self.refused(pg.InsufficientPrivilege, f"SELECT FROM {table}", db=db)
        for table in self.TENANT:
            ask = f"SELECT organization_uuid AS o FROM {table}"
            self.assertEqual(db.rows(ask), [], table)
            for tenant, n in ((self.acme, 1), (self.globex, 1), (new_uuid(), 0), ("", 0)):
                db.rows("SELECT set_config('app.current_tenant_id', %s, false)", tenant)
                self.assertEqual({r["o"] for r in db.rows(ask)}, {tenant} if n else set(), table)
            for garbage in ("x", "' OR true", "*", "%", "null"):
                db.rows("SELECT set_config('app.current_tenant_id', %s, false)", garbage)
                self.refused(pg.InvalidTextRepresentation, ask, db=db)
            db.rows("RESET app.current_tenant_id")
            self.assertEqual(db.rows(ask), [], table)

    def test_tenant_cannot_trick_the_policy(self):
        """A function that is looked up in the caller's search_path would run in place of PostgreSQL's own."""
        db = self.as_role("agent_tenant")
        db.rows("SELECT set_config('app.current_tenant_id', %s, false)", self.acme)
        db.rows("CREATE FUNCTION pg_temp.current_setting(text, boolean) RETURNS text LANGUAGE sql AS "
                f"$$SELECT '{self.globex}'$$")
        db.rows("SET search_path = pg_temp, pg_catalog, agent_marketplace")
        self.assertEqual({r["o"] for r in db.rows("SELECT organization_uuid AS o FROM agent_config")}, {self.acme})
        # A leaky function is not shown other rows.
        db.rows("CREATE FUNCTION pg_temp.leak(text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS "
                "$$BEGIN RAISE EXCEPTION 'seen %', $1; END$$")
        with self.assertRaises(psycopg2.Error) as seen:
            db.rows("SELECT FROM agent_config WHERE pg_temp.leak(organization_uuid::text)")
        self.assertNotIn(self.globex, str(seen.exception))

    def test_tenant_cannot_write(self):
        db = self.as_role("agent_tenant")
        db.rows("SELECT set_config('app.current_tenant_id', %s, false)", self.acme)
        for table in self.tables():
            column = sorted(self.columns(table))[0]
            for sql in (f"UPDATE {table} SET {column} = DEFAULT", f"DELETE FROM {table}", f"TRUNCATE {table}",
                        f"INSERT INTO {table} DEFAULT VALUES"):
                self.refused(pg.InsufficientPrivilege, sql, db=db)
        for ask in ("key_hash", "*", "count(key_hash)"):
            self.refused(pg.InsufficientPrivilege, f"SELECT {ask} FROM agent_api_key", db=db)
        self.refused(pg.InsufficientPrivilege, "SELECT FROM agent_api_key WHERE key_hash = ''", db=db)
        self.assertEqual(len(db.rows("SELECT sealed_key, prefix FROM agent_api_key")), 1)
        self.refused(pg.InsufficientPrivilege, "SELECT FROM agent_runtime_key", db=db)

    def test_who_may_call_what(self):
        functions = {r["f"]: r for r in self.db.rows(
            "SELECT proname AS f, has_function_privilege('agent_gateway', oid, 'EXECUTE') AS gateway, "
            "has_function_privilege('agent_tenant', oid, 'EXECUTE') AS tenant, prosecdef AS definer, "
            "has_function_privilege('provisioner_worker', oid, 'EXECUTE') AS worker, proconfig AS config, prorettype::regtype "
            "AS returns FROM pg_proc WHERE pronamespace = 'agent_marketplace'::regnamespace")}
        self.assertEqual({f for f, r in functions.items() if r["tenant"]}, {"current_tenant"})
        self.assertEqual({f for f, r in functions.items() if r["gateway"]}, {"current_tenant", "authenticate_api_key"})
        self.assertEqual({f for f, r in functions.items() if r["definer"]}, {"authenticate_api_key"})
        self.assertIn("search_path=agent_marketplace, pg_temp", functions["authenticate_api_key"]["config"])
        inner = {"origin_host", "domain_allowed"}  # of authenticate_api_key's alone
        self.assertEqual({f for f, r in functions.items() if not r["worker"] and r["returns"] != "trigger"}, inner)

    # ---- the gateway ----

    def ask(self, key=KEY, origin=None, db=None):
        row = (db or self.db).one("SELECT * FROM authenticate_api_key(%s, %s)", key, origin)
        if not row["allowed"]:
            self.assertEqual({v for k, v in row.items() if k not in ("allowed", "reason")}, {None})
        return row["reason"] if not row["allowed"] else True

    def test_gateway(self):
        db = self.as_role("agent_gateway")
        for table in self.tables():
            self.refused(pg.InsufficientPrivilege, f"SELECT FROM {table}", db=db)
            self.refused(pg.InsufficientPrivilege, f"DELETE FROM {table}", db=db)
        self.refused(pg.InsufficientPrivilege, "SELECT worker_leave(gen_random_uuid())", db=db)
        row = db.one("SELECT * FROM authenticate_api_key(%s, NULL)", self.KEY)
        self.assertEqual((row["allowed"], row["reason"], row["subscription_uuid"], row["organization_uuid"],
                          row["project_uuid"], row["permissions"], row["rate_limit"]),
                         (True, None, self.ours, self.acme, NIL, ["chat"], "60/minute"))
        db.rows("CREATE TEMP TABLE agent_api_key AS SELECT 1 AS key_hash")
        db.rows("SET search_path = pg_temp, public")
        self.assertEqual(db.one("SELECT allowed FROM agent_marketplace.authenticate_api_key(%s, '')", self.KEY)["allowed"], True)

    def test_refusals(self):
        for key in ("", None, "pk_live_", self.KEY + "x", self.KEY[:-1], self.KEY.upper(), "'", "\u0416" * 3000, " " + self.KEY):
            self.assertEqual(self.ask(key), "unknown")
        self.assertEqual(self.ask(), True)
        self.db.rows("UPDATE agent_api_key SET expires_at = now() + interval '1 hour'")
        self.assertEqual(self.ask(), True)
        self.db.rows("UPDATE agent_api_key SET expires_at = now() - interval '1 s'")
        self.assertEqual(self.ask(), "expired")
        self.db.rows("UPDATE agent_api_key SET expires_at = NULL")
        for status in ("provisioning", "failed", "suspended", "terminating"):
            self.db.rows("UPDATE agent_config SET status = %s", status)
            self.assertEqual(self.ask(), "subscription not active")
        self.db.rows("UPDATE agent_config SET status = 'ready'")
        self.db.terminate(self.owner, self.ours)
        self.assertEqual(self.ask(), "revoked")

    def test_domains(self):
        def allow(*domains):
            self.db.rows("UPDATE agent_api_key SET allowed_domains = %s", list(domains))

        allow()
        for origin in (None, "", "https://anything.example", "\\"):
            self.assertEqual(self.ask(origin=origin), True)
        allow("example.com", "*.example.org", "Shop.Example.NET", "localhost", "192.0.2.1")
        for good in ("https://example.com", "http://example.com", "example.com", "https://example.com:8443",
                     "https://EXAMPLE.com", "https://example.com.", "https://example.com/path?q#f", " https://example.com ",
                     "https://user:secret@example.com", "https://example.com?x", "https://a.example.org",
                     "https://a.b.example.org:1/", "https://A.EXAMPLE.ORG.", "https://shop.example.net", "HTTPS://example.com",
                     "http://localhost:3000", "http://192.0.2.1"):
            self.assertEqual(self.ask(origin=good), True, good)
        for bad in (None, "", " ", "null", "https://", "https://evil.com", "https://www.example.com", "https://example.org",
                    "https://.example.org", "https://evilexample.org", "https://example.com.evil.com",
                    "https://example.com@evil.com", "https://example.com:80@evil.com", "https://x@example.com@evil.com",
                    "https://example.com\\@evil.com", "https://evil.com\\@example.com", "https://evil.com/@example.com",
                    "https://evil.com?@example.com", "https://evil.com#@example.com", "https://evil.com/example.com",
                    "https://example.com evil.com", "https://evil.com\nexample.com", "https://example.com\n.evil.com",
                    "https://example.com..", "https://exam\u212ale.com", "https://ex\u0430mple.com", "https://*.example.org",
                    "https://example.com:x", "https:///example.com", "https:example.com", "file:///example.com",
                    "https://%65xample.com", "example.com@evil.com", "https://[::1]", "https://[example.com]",
                    "https://evil.com/" + "a" * 100000, "a" * 100000, "\u0416" * 50000):
            self.assertEqual(self.ask(origin=bad), "domain not allowed", bad and bad[:60])
        allow("[::1]")
        for origin, expected in (("http://[::1]:8080", True), ("http://[::1]", True), ("http://[::2]", "domain not allowed"),
                                 ("http://::1", "domain not allowed")):
            self.assertEqual(self.ask(origin=origin), expected, origin)
        allow("*.com")
        self.assertEqual(self.ask(origin="https://com"), "domain not allowed")

    def test_last_used(self):
        used = "SELECT last_used_at FROM agent_api_key WHERE subscription_uuid = %s"
        self.assertEqual(self.ask("wrong"), "unknown")
        self.assertIsNone(self.db.value(used, self.ours))
        self.ask()
        first = self.db.value(used, self.ours)
        self.assertIsNotNone(first)
        self.ask()
        self.assertEqual(self.db.value(used, self.ours), first)
        self.db.rows("UPDATE agent_api_key SET last_used_at = now() - interval '61 s'")
        # Somebody else is just writing it down: nobody waits for that.
        other = self.session(autocommit=False)
        self.ask(db=other)
        self.db.rows("SET lock_timeout = '1s'")
        self.assertEqual(self.ask(), True)
        other.conn.commit()
        self.assertGreater(self.db.value(used, self.ours), first)
        # On a stand-by nothing can be written.
        self.db.rows("UPDATE agent_api_key SET last_used_at = NULL")
        reader = self.session()
        reader.rows("SET default_transaction_read_only = on")
        self.assertEqual(self.ask(db=reader), True)

    # ---- the worker ----

    def test_worker_rights(self):
        for table in self.tables():
            rights = self.db.one("SELECT has_table_privilege('provisioner_worker', %s, 'SELECT') AS r, "
                                 "has_table_privilege('provisioner_worker', %s, 'INSERT') AS w, "
                                 "has_table_privilege('provisioner_worker', %s, 'TRUNCATE') AS t", table, table, table)
            fixed = table in ("schema_migration", "job_plan", "job_edge")
            self.assertEqual(rights, {"r": True, "w": not fixed, "t": False}, table)
        db = self.as_role("provisioner_worker")
        self.refused(pg.InsufficientPrivilege, "DELETE FROM job_edge", db=db)
        self.refused(pg.InsufficientPrivilege, "CREATE TABLE agent_marketplace.t ()", db=db)
        self.assertEqual(db.value("SELECT count(*) FROM agent_config"), 2)

    def command(self, installation, *argv, stdin=None):
        config = installation.config_file("command", "127.0.0.1:0")
        done = subprocess.run([environment("PROVISIONER"), *argv], input=stdin, capture_output=True, text=True, timeout=60,
                              env={**os.environ, **installation.env, "PROVISIONER_CONFIG": config})
        self.assertFalse(SANITIZER.search(done.stderr), done.stderr)
        self.assertEqual(done.returncode, 0, f"{argv}\n{done.stdout}{done.stderr}")
        return done.stdout

    def test_program_with_the_workers_role(self):
        """Everything that the program does but migrating, with a login that owns nothing."""
        self.as_role("provisioner_worker")
        url = self.postgres.create_database()
        self.migrate(url)
        langflow, ragflow = Standin("workspaces", self.secrets["langflow"]), Standin("collections", self.secrets["ragflow"])
        self.addCleanup(langflow.close)
        self.addCleanup(ragflow.close)
        broker = subprocess.Popen([*WITH_US, os.path.join(os.path.dirname(environment("PROVISIONER")), "mockbroker"), "1",
                                   *(f"{t}:1" for t in TOPICS.values())], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                  text=True)
        at_end(broker.kill)
        self.addCleanup(broker.stdout.close)
        installation = self.installation(as_user(url, "login_provisioner_worker", "x"), broker.stdout.readline().strip(),
                                         langflow.url, ragflow.url, **{"retention.chat_history": "30d"})
        db = Database(url)
        self.addCleanup(db.close)
        worker = Worker(installation)
        worker.start()
        s = Subscription("rights", 1)
        self.command(installation, "submit", "--direct", "-", stdin=s.created().body().decode())
        done = "SELECT (SELECT status::text FROM agent_config) AS s, (SELECT count(*) FROM outbox) AS outbox"
        eventually(lambda: db.one(done) == {"s": "ready", "outbox": 0}, 20, "it is ready", describe=worker.tail)
        self.command(installation, "submit", "-", stdin=s.terminated().body().decode())
        eventually(lambda: db.one(done) == {"s": "archived", "outbox": 0}, 20, "it is archived", describe=worker.tail)
        self.command(installation, "submit", "--direct", "-", stdin=Subscription("rights", 1).created().body().decode())
        self.command(installation, "migrate", "--check")
        for argv in (["jobs"], ["show", s.uuid], ["replay", "--state", "failed", "--yes"], ["dead-letters", "list"],
                     ["retention", "--dry-run"], ["retention", "--now", "2100-01-01T00:00:00Z"]):
            self.command(installation, *argv)
        self.assertEqual(db.config(s.uuid)["status"], "purged")
        worker.stop()
        self.assertEqual([x for x in worker.logs() if x.get("level") == "error"], [])
        broker.kill()
        broker.wait()


if __name__ == "__main__":
    main()
