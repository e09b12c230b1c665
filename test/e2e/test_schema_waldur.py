#!/usr/bin/env python3
"""What the database promises about Waldur's orders, keys and sweeps: fences, row counts, races, one transaction each."""

import json
import uuid as uuids

import psycopg2.errors as pg

from harness import eventually, main
from test_schema import DAY_MS, LATER, LEASE_MS, NIL, NOON, SEALED, Base, new_uuid

ORGANIZATION = "0d5f0d0f-7f0c-4a8e-9a66-6a5d4c1b2e10"
PREFIX = "pk_live_bbbbbbbb"
SOON = NOON.replace("12:00", "12:05", 1)


class WaldurBase(Base):
    def setUp(self):
        super().setUp()
        self.owner = self.db.register()
        self.hand = set()

    # ---- the worker's statements ----

    def hint(self, order=None, kind="order", source="webhook", resource=None, key=None, db=None):
        return (db or self.db).call("waldur_hint", kind, source, order, resource, key)

    def claim(self, owner=None, held=(), limit=10, db=None):
        return (db or self.db).rows("SELECT * FROM waldur_claim(%s, %s, %s::uuid[])", owner or self.owner, limit, list(held))

    def row(self, order):
        return self.db.one("SELECT * FROM waldur_order WHERE order_uuid = %s", order)

    def facts(self, resource, type="Create", state="executing", organization=ORGANIZATION):
        return json.dumps({"type": type, "state": state, "resource": resource, "organization": organization, "slug": "acme"})

    def accept(self, held, resource, name="n", most=None, approved=False, db=None, organization=ORGANIZATION):
        row = (db or self.db).one("SELECT * FROM waldur_accept(%s, %s, %s, %s, %s, %s, %s)", *held,
                                  self.facts(resource, organization=organization), name, most, approved)
        return row["verdict"], row["detail"]

    def take(self, held, resource, name="n", type="created", db=None, at=None, plan="pro"):
        kind = {"created": "Create", "updated": "Update"}.get(type, "Terminate")
        return (db or self.db).call("waldur_take", *held, self.facts(resource, kind),
                                    None if type == "terminated" else name, "http://w", f"order-{held[0]}-{type}",
                                    f"subscription.{type}", resource, ORGANIZATION,
                                    at or (NOON if type == "created" else LATER),
                                    json.dumps({"organization": {"slug": "acme"}, "plan": {"tier": plan}}), DAY_MS, None)

    def leave(self, held, resource=None, phase="left", reason="quota"):
        return self.db.call("waldur_leave", *held, self.facts(resource) if resource else "{}", phase, reason, "why")

    def closed(self, held, state, resource=None):
        return self.db.call("waldur_closed", *held, self.facts(resource, state=state) if resource else "{}", state, "http://w",
                            f"order-{held[0]}-undone", "{}", DAY_MS)

    def told(self, held, state="done", delivered=None):
        return self.db.call("waldur_told", *held, state, None, delivered)

    def wait(self, held, delay_ms=0):
        return self.db.call("waldur_wait", *held, delay_ms, True, "unavailable", "away")

    def intend(self, held, operation="order.done"):
        row = self.db.one("SELECT * FROM waldur_intend(%s, %s, %s, %s, 'POST', '/', 'sha', 'id')", *held, operation)
        return row["verdict"], row["effect_id"]

    def effect(self, id):
        return self.db.value("SELECT state::text FROM waldur_effect WHERE id = %s", id)

    # ---- scenes ----

    def held(self, order=None):
        """An order in hand: (order, owner, fence)."""
        order = order or new_uuid()
        self.hint(order)
        row = next(r for r in self.claim(held=self.hand - {order}) if r["order_uuid"] == order)
        self.hand.add(order)
        return order, self.owner, row["fence"]

    def again(self, order):
        self.hint(order)
        return self.held(order) if not self.row(order)["claimed_by"] else None

    def taken(self, resource=None):
        """An order whose job waits: (order, subscription)."""
        resource = resource or new_uuid()
        held = self.held()
        self.assertEqual(self.take(held, resource, f"n-{resource}"), "applied")
        return held[0], resource

    def job_ends(self, resource, how="succeeded"):
        job = self.db.take_job(self.owner, resource)
        if how == "failed":
            self.assertEqual(self.db.settle(job, "failed", 1, 0, "refused", "its words"), "ok")
        else:
            self.assertEqual(self.db.step("step_pass", job, None), "ok")
        return job[0]

    def due(self, order):
        return self.db.value("SELECT due_at <= now() FROM waldur_order WHERE order_uuid = %s", order)


class Hints(WaldurBase):
    def test_many_are_one_row(self):
        order = new_uuid()
        for _ in range(5):
            self.hint(order)
        rows = self.claim()
        self.assertEqual([r["order_uuid"] for r in rows], [order])
        self.assertEqual((self.row(order)["hints"], self.db.value("SELECT count(*) FROM waldur_hint")), (5, 0))
        self.assertEqual(self.claim(held=[order]), [])

    def test_one_that_comes_meanwhile(self):
        """A hint that comes while the order is being looked at calls for another look."""
        held = self.held()
        self.hint(held[0])
        self.claim(held=[held[0]])
        self.assertEqual(self.leave(held, new_uuid()), "ok")
        self.assertEqual([r["order_uuid"] for r in self.claim()], [held[0]])

    def test_own_echo(self):
        """What Waldur tells about our own report is no reason to look; anything else is."""
        order, resource = self.taken()
        self.job_ends(resource)
        held = (order, self.owner, self.claim()[0]["fence"])
        self.assertEqual(self.told(held), "ok")
        self.hint(order, "closed")
        self.assertEqual(self.claim(), [])
        self.hint(order)
        self.assertEqual([r["order_uuid"] for r in self.claim()], [order])

    def test_never_waits(self):
        """Neither a hint nor a claim waits for a row that somebody keeps."""
        order, resource = self.taken()
        other = self.session(autocommit=False)
        other.rows("SELECT * FROM waldur_order WHERE order_uuid = %s FOR UPDATE", order)
        self.db.rows("SET lock_timeout = '1s'")
        self.hint(order)
        free = new_uuid()
        self.hint(free)
        self.assertEqual([r["order_uuid"] for r in self.claim()], [free])
        self.assertEqual(self.db.value("SELECT count(*) FROM waldur_hint"), 1)
        other.conn.rollback()
        self.assertEqual([r["order_uuid"] for r in self.claim(held=[free])], [order])

    def test_unlinked(self):
        """Nothing ends because of it, and a person finds it."""
        order, resource = self.taken()
        self.hint(None, "unlinked", resource=resource)
        self.claim()
        self.assertIsNotNone(self.row(order)["unlinked_at"])
        self.assertEqual(self.db.value("SELECT wanted::text FROM subscription WHERE uuid = %s", resource), "present")
        self.assertEqual(self.db.value("SELECT count(*) FROM audit_log WHERE action = 'waldur.unlinked' AND "
                                       "subscription_uuid = %s", resource), 1)

    def test_names_something(self):
        for args in (("order", "webhook", None, new_uuid(), None), ("unlinked", "webhook", None, None, None),
                     ("key", "sweep", None, None, new_uuid()), ("other", "webhook", new_uuid(), None, None),
                     ("order", "somebody", new_uuid(), None, None)):
            self.refused(pg.CheckViolation, "SELECT waldur_hint(%s, %s, %s, %s, %s)", *args)

    def test_about_a_resource(self):
        self.hint(None, "resource", resource=new_uuid())
        self.hint(None, "key", resource=new_uuid())
        self.claim()
        self.assertIsNotNone(self.db.value("SELECT asked_at FROM waldur_sweep"))


class Fences(WaldurBase):
    FENCED = {
        "waldur_accept": lambda t, h: t.accept(h, t.resource)[0],
        "waldur_take": lambda t, h: t.take(h, t.resource),
        "waldur_leave": lambda t, h: t.leave(h, t.resource),
        "waldur_closed": lambda t, h: t.closed(h, "done", t.resource),
        "waldur_told": lambda t, h: t.told(h),
        "waldur_wait": lambda t, h: t.wait(h),
        "waldur_intend": lambda t, h: t.intend(h)[0],
    }
    KEYS = {
        "waldur_key_keep": lambda t, h: t.db.call("waldur_key_keep", *h, PREFIX, bytes(32), SEALED, SEALED),
        "waldur_key_live": lambda t, h: t.db.call("waldur_key_live", *h),
        "waldur_key_end": lambda t, h: t.db.call("waldur_key_end", *h, "erred", "inactive"),
        "waldur_key_wait": lambda t, h: t.db.call("waldur_key_wait", *h, 0, True, "unavailable", "away"),
    }

    def test_all_are_tried(self):
        for table, first in ((self.FENCED, "p_order"), (self.KEYS, "p_key")):
            functions = {r["f"] for r in self.db.rows(
                "SELECT proname AS f FROM pg_proc WHERE pronamespace = 'agent_marketplace'::regnamespace AND "
                "proargnames[1:3] = ARRAY[%s, 'p_owner', 'p_fence']", first)}
            self.assertEqual(functions - {"waldur_guard", "waldur_key_guard"}, set(table) - {"waldur_intend"})

    def lost(self, table, held):
        before = self.snapshot()
        for name, write in table.items():
            self.assertEqual(write(self, held), "lost", name)
        self.assertEqual(self.snapshot(), before)

    def test_orders(self):
        self.resource = new_uuid()
        order, owner, fence = self.held()
        other = self.db.register()
        for wrong in ((order, other, fence), (order, owner, fence + 1), (order, owner, fence - 1), (new_uuid(), owner, fence)):
            self.lost(self.FENCED, wrong)
        self.assertEqual(self.wait((order, owner, fence)), "ok")
        self.lost(self.FENCED, (order, owner, fence))  # given back

    def test_keys(self):
        resource, key = new_uuid(), new_uuid()
        self.hint(None, "key", resource=resource, key=key)
        self.claim()
        fence = self.db.one("SELECT * FROM waldur_key_claim(%s, 10, '{}')", self.owner)["fence"]
        for wrong in ((key, self.db.register(), fence), (key, self.owner, fence + 1), (new_uuid(), self.owner, fence)):
            self.lost(self.KEYS, wrong)

    def test_takeover(self):
        """A worker that is gone keeps nothing; while it lives nobody else gets its orders."""
        order, owner, fence = self.held()
        other = self.db.register()
        self.assertEqual(self.claim(other), [])
        self.db.rows("UPDATE worker SET lease_until = now() - interval '1 s' WHERE owner = %s", owner)
        self.assertEqual([(r["order_uuid"], r["fence"]) for r in self.claim(other)], [(order, fence + 1)])
        self.resource = new_uuid()
        self.lost(self.FENCED, (order, owner, fence))
        self.assertEqual(self.claim(owner), [])  # without a lease there is nothing to claim

    def test_left(self):
        order, owner, _ = self.held()
        self.db.call("worker_leave", owner)
        self.assertEqual([r["order_uuid"] for r in self.claim(self.db.register())], [order])

    def test_lost_on_the_way(self):
        """The answer to a claim never came: what the owner does not have in hand it gets again."""
        order, owner, fence = self.held()
        self.assertEqual([(r["order_uuid"], r["fence"]) for r in self.claim()], [(order, fence + 1)])

    def test_two_claim(self):
        """No order goes to two."""
        for _ in range(40):
            self.hint(new_uuid())
        self.claim(limit=0)
        sessions = [(self.session(autocommit=False), self.db.register()) for _ in range(4)]
        got = [[r["order_uuid"] for r in self.claim(owner, limit=10, db=db)] for db, owner in sessions]
        for db, _ in sessions:
            db.conn.commit()
        self.assertEqual(sorted(map(len, got)), [10, 10, 10, 10])
        self.assertEqual(len({o for one in got for o in one}), 40)


class Taking(WaldurBase):
    def test_event_and_row_are_one(self):
        """Rolled back together, committed together, and never twice."""
        held, resource = self.held(), new_uuid()
        other = self.session(autocommit=False)
        self.assertEqual(self.take(held, resource, db=other), "applied")
        other.conn.rollback()
        self.assertEqual((self.row(held[0])["phase"], self.db.value("SELECT count(*) FROM subscription_event")), ("hinted", 0))
        self.assertEqual(self.take(held, resource), "applied")
        row = self.row(held[0])
        self.assertEqual((row["phase"], row["inbox"], str(row["resource_uuid"]), row["backend_id"]),
                         ("taken", "applied", resource, "n"))
        again = self.again(held[0])
        self.assertEqual(self.take(again, resource), "known")
        self.assertEqual(self.db.value("SELECT count(*) FROM subscription_event"), 1)
        self.assertEqual(self.row(held[0])["inbox"], "applied")

    def test_event_came_before(self):
        """By Kafka: nothing is taken twice, and the job that waits is woken."""
        order, resource = new_uuid(), new_uuid()
        self.db.take(resource, order=order)
        job = self.db.take_job(self.owner, resource)
        self.assertEqual(self.db.name_step(job, "n"), "ok")
        self.assertEqual(self.db.step("step_announce", job, "collection"), "wait")
        self.assertEqual(self.db.job(job[0])["state"], "held")
        held = (order, self.owner, self.claim()[0]["fence"])
        self.assertEqual(self.take(held, resource), "known")
        self.assertEqual(self.db.states(resource), [("provision", "queued")])
        job = self.db.take_job(self.owner, resource)
        self.assertEqual(self.db.step("step_announce", job, "collection"), "ok")

    def test_announced_otherwise(self):
        """Another name than the frozen one was told: the job waits until that is put right."""
        order, resource = self.taken()
        job = self.db.take_job(self.owner, resource)
        self.assertEqual(self.db.name_step(job, "frozen"), "ok")
        self.assertEqual(self.db.step("step_announce", job, "collection"), "wait")
        self.assertTrue(self.due(order))

    def test_unknown_there(self):
        """An order that Waldur does not know keeps no job waiting."""
        resource = new_uuid()
        self.db.take(resource)
        job = self.db.take_job(self.owner, resource)
        self.assertEqual(self.db.name_step(job, "n"), "ok")
        self.assertEqual(self.db.step("step_announce", job, "collection"), "wait")
        self.assertEqual(self.db.job(job[0])["state"], "held")
        row = self.claim()[0]
        self.assertEqual(self.leave((row["order_uuid"], self.owner, row["fence"]), phase="dropped", reason="gone"), "ok")
        job = self.db.take_job(self.owner, resource)
        self.assertEqual(self.db.step("step_announce", job, "collection"), "ok")

    def test_stale(self):
        """A later order is known: this one will not be carried out, and Waldur hears so."""
        resource = new_uuid()
        self.db.take(resource, "terminated", at=LATER)
        held = self.held()
        self.assertEqual(self.take(held, resource), "stale")
        row = self.row(held[0])
        self.assertEqual((row["verdict"], row["job_error_class"], self.due(held[0])), ("erred", "superseded", True))

    def test_undone(self):
        order, resource = self.taken()
        held = self.again(order)
        self.assertEqual(self.closed(held, "canceled", resource), "undone")
        self.assertEqual(self.db.value("SELECT wanted::text FROM subscription WHERE uuid = %s", resource), "absent")
        self.assertEqual((self.row(order)["phase"], self.row(order)["reason"]), ("dropped", "undone"))
        self.job_ends(resource)
        self.assertIsNone(self.row(order)["verdict"])
        # Seen again it is what it is, and nothing is begun anew.
        self.assertEqual(self.closed(self.again(order), "canceled", resource), "dropped")
        self.assertEqual([k for k, _ in self.db.states(resource)], ["provision", "terminate"])

    def test_undone_and_ordered_again(self):
        """The next order was placed before the first one was seen to be canceled: it is the newer one."""
        order, resource = self.taken()
        self.job_ends(resource)
        self.assertEqual(self.closed(self.again(order), "canceled", resource), "undone")
        held = self.held()
        self.assertEqual(self.take(held, resource, f"n-{resource}", at=SOON), "applied")
        self.assertEqual(self.db.value("SELECT wanted::text FROM subscription WHERE uuid = %s", resource), "present")
        self.job_ends(resource)
        self.assertEqual(self.row(held[0])["verdict"], "done")

    def test_updated_before_a_pause_that_was_seen_first(self):
        """The order is older than what is known last, and is carried out and reported all the same."""
        for paused in ("suspended", "resumed"):
            order, resource = self.taken()
            self.job_ends(resource)
            for i, type in enumerate(("suspended", "resumed")[:1 + (paused == "resumed")]):
                self.db.rows("SELECT waldur_paused(%s, 'http://w', %s, %s, %s, '{}', %s)", resource,
                             f"{resource}-{i}", f"subscription.{type}", LATER, DAY_MS)
                self.job_ends(resource)
            held = self.held()
            self.assertEqual(self.take(held, resource, f"n-{resource}", "updated", at=SOON, plan="plus"), "applied")
            self.assertEqual(self.db.value("SELECT order_uuid::text FROM subscription WHERE uuid = %s", resource), held[0])
            self.job_ends(resource)
            self.assertEqual((self.row(held[0])["verdict"], self.due(held[0])), ("done", True))
            self.assertEqual(self.db.value("SELECT wanted::text FROM subscription WHERE uuid = %s", resource),
                             {"suspended": "suspended", "resumed": "present"}[paused])

    def test_canceled_before_it_was_taken(self):
        self.assertEqual(self.closed(self.held(), "canceled", new_uuid()), "dropped")
        self.assertEqual(self.db.value("SELECT count(*) FROM subscription"), 0)

    def test_termination_that_was_canceled(self):
        """There is nothing to bring back."""
        order, resource = self.taken()
        self.job_ends(resource)
        held = self.held()
        self.assertEqual(self.take(held, resource, type="terminated"), "applied")
        self.assertEqual(self.closed(self.again(held[0]), "canceled"), "dropped")
        self.assertEqual(self.db.value("SELECT wanted::text FROM subscription WHERE uuid = %s", resource), "absent")


class Quota(WaldurBase):
    def test_counts(self):
        first = self.held()
        self.assertEqual(self.accept(first, new_uuid(), "a", 1), ("ok", "a"))
        second, resource = self.held(), new_uuid()
        self.assertEqual(self.accept(second, resource, "b", 1), ("quota", "1"))
        self.assertEqual(self.accept(second, resource, "b", 2), ("ok", "b"))
        self.assertEqual(self.accept(self.held(), new_uuid(), "c", 1, organization=NIL), ("ok", "c"))
        # What is approved already is not asked; and what was left counts no more.
        third = self.held()
        self.assertEqual(self.accept(third, new_uuid(), "d", 2, approved=True)[0], "ok")
        self.assertEqual(self.leave(first), "ok")
        self.assertEqual(self.leave(third), "ok")
        self.assertEqual(self.accept(self.held(), new_uuid(), "e", 2)[0], "ok")

    def test_subscriptions_count_once(self):
        order, resource = self.taken()
        held = self.held()
        self.assertEqual(self.accept(held, resource, "a", 1)[0], "ok")  # the subscription itself
        self.assertEqual(self.accept(held, new_uuid(), "a", 1), ("quota", "1"))
        self.db.take(resource, "terminated", at=LATER)
        self.assertEqual(self.accept(held, new_uuid(), "a", 1)[0], "ok")

    def test_two_for_the_last_place(self):
        one, two = self.held(), self.held()
        sessions = [self.session(autocommit=False) for _ in range(2)]
        self.assertEqual(self.accept(one, new_uuid(), "a", 1, db=sessions[0])[0], "ok")
        waits = self.in_background(lambda: self.accept(two, new_uuid(), "b", 1, db=sessions[1]))
        self.blocked(sessions[1])
        sessions[0].conn.commit()
        self.assertEqual(waits.result()[0], "quota")

    def test_name(self):
        order, resource = self.taken()
        job = self.db.take_job(self.owner, resource)
        self.db.name_step(job, "theirs")
        held = self.held()
        self.assertEqual(self.accept(held, new_uuid(), "theirs"), ("name", "theirs"))
        self.assertEqual(self.accept(held, new_uuid(), "theirs", approved=True), ("ok", "theirs"))
        # A frozen name stands, whatever would be made of it today.
        self.assertEqual(self.accept(held, resource, "another"), ("ok", "theirs"))


class Verdicts(WaldurBase):
    def verdict(self, order):
        row = self.row(order)
        return row["verdict"], row["told"], row["job_error_class"], self.due(order)

    def test_done(self):
        order, resource = self.taken()
        self.assertEqual(self.verdict(order), (None, None, None, None))
        self.job_ends(resource)
        self.assertEqual(self.verdict(order), ("done", None, None, True))

    def test_in_the_job_s_transaction(self):
        order, resource = self.taken()
        job = self.db.take_job(self.owner, resource)
        other = self.session(autocommit=False)
        other.step("step_pass", job, None)
        self.assertIsNone(self.row(order)["verdict"])
        other.conn.rollback()
        self.assertIsNone(self.row(order)["verdict"])
        other.step("step_pass", job, None)
        other.conn.commit()
        self.assertEqual(self.row(order)["verdict"], "done")

    def test_replayed_before_it_was_told(self):
        """Waldur was away while the job failed and was run again: it hears of the end alone."""
        order, resource = self.taken()
        self.job_ends(resource, "failed")
        self.assertEqual(self.verdict(order), ("erred", None, "refused", True))
        self.db.rows("SELECT * FROM job_replay(%s, NULL, %s, 'cli', false)", resource, DAY_MS)
        self.assertEqual(self.verdict(order)[:3], (None, None, None))
        self.job_ends(resource)
        self.assertEqual(self.verdict(order), ("done", None, None, True))

    def test_replayed_after_it_was_told(self):
        order, resource = self.taken()
        self.job_ends(resource, "failed")
        held = (order, self.owner, self.claim()[0]["fence"])
        self.assertEqual(self.told(held, "erred"), "ok")
        self.assertIsNone(self.due(order))
        self.db.rows("SELECT * FROM job_replay(%s, NULL, %s, 'cli', false)", resource, DAY_MS)
        self.job_ends(resource, "failed")
        self.assertEqual(self.verdict(order)[:2], ("erred", "erred"))
        self.db.rows("SELECT * FROM job_replay(%s, NULL, %s, 'cli', false)", resource, DAY_MS)
        self.job_ends(resource)
        self.assertEqual(self.verdict(order), ("done", "erred", None, True))

    def test_retried_at_waldur(self):
        """Erred, told, and executing again: the failed job runs once more, and only once."""
        order, resource = self.taken()
        job = self.job_ends(resource, "failed")
        held = (order, self.owner, self.claim()[0]["fence"])
        self.assertEqual(self.told(held, "erred"), "ok")
        self.assertEqual(self.take(self.again(order), resource), "replayed")
        self.assertEqual(self.db.job(job)["state"], "queued")
        self.assertEqual((self.row(order)["phase"], self.row(order)["told"]), ("taken", None))
        self.assertEqual(self.take(self.again(order), resource), "known")

    def test_superseded(self):
        """By another order: it is never carried out. By a later word of its own: it is."""
        order, resource = self.taken()
        self.db.take(resource, order=order, at=NOON, data={"other": 1})
        self.assertEqual(self.verdict(order)[0], None)
        self.db.take(resource, "terminated", at=LATER)
        self.assertEqual(self.verdict(order)[:3], ("erred", None, "superseded"))

    def test_told_is_for_good(self):
        """Of what is done nothing that comes later makes an error: neither a purge nor a failing job."""
        order, resource = self.taken()
        self.job_ends(resource)
        held = (order, self.owner, self.claim()[0]["fence"])
        self.assertEqual(self.told(held), "ok")
        self.db.take(resource, order=order, at=LATER, data={"other": 1})
        self.job_ends(resource, "failed")
        self.assertEqual(self.verdict(order)[:2], ("done", "done"))

    def test_done_by_people_is_for_good(self):
        """An order that erred here, and that people then set done: it is reported no more, but for a key that comes of it."""
        order, resource = self.taken()
        self.job_ends(resource, "failed")
        held = (order, self.owner, self.claim()[0]["fence"])
        self.assertEqual(self.closed(held, "done", resource), "told")
        for end, verdict in (("failed", ("erred", "done")), ("succeeded", ("erred", "done"))):
            self.db.rows("SELECT * FROM job_replay(%s, NULL, %s, 'cli', false)", resource, DAY_MS)
            self.job_ends(resource, end)
            self.assertEqual((*self.verdict(order)[:2], self.due(order)), (*verdict, None), end)

    def test_carried_out_is_for_good(self):
        """Also before Waldur was told."""
        order, resource = self.taken()
        job = self.job_ends(resource)
        self.db.take(resource, order=order, at=LATER, data={"other": 1})
        self.job_ends(resource, "failed")
        self.assertEqual(self.verdict(order), ("done", None, None, True))
        self.assertEqual(self.row(order)["job_id"], job)

    def test_cancelled(self):
        order, resource = self.taken()
        self.db.rows("SELECT * FROM job_cancel(%s, 'twice', %s, 'cli')", self.db.live(resource), DAY_MS)
        self.assertEqual(self.verdict(order)[:3], ("erred", None, "cancelled"))

    def test_without_a_row(self):
        """A job whose event came by Kafka alone: its report makes the row."""
        order, resource = new_uuid(), new_uuid()
        self.db.take(resource, order=order)
        job = self.db.take_job(self.owner, resource)
        self.assertEqual(self.db.step("step_report", job, None), "ok")
        self.assertEqual(self.verdict(order), ("done", None, None, True))

    def test_put_off(self):
        """Hints do not cut a wait short that an error has asked for."""
        held = self.held()
        self.assertEqual(self.wait(held, 60000), "ok")
        self.assertEqual(self.claim(), [])
        self.assertEqual((self.row(held[0])["attempts"], self.row(held[0])["error"]), (1, "away"))
        self.db.rows("UPDATE waldur_order SET due_at = due_at - interval '60 seconds'")
        self.assertEqual([row["order_uuid"] for row in self.claim()], [held[0]])

    def test_effects(self):
        order, resource = self.taken()
        held = self.again(order)
        verdict, first = self.intend(held)
        _, second = self.intend(held)
        self.assertEqual((verdict, self.effect(first), self.effect(second)), ("ok", "replaced", "intended"))
        self.assertFalse(self.db.call("waldur_settle", second, held[2] + 1, "done", 200, None, None))
        self.assertTrue(self.db.call("waldur_settle", second, held[2], "unknown", None, "unknown", "reset"))
        self.assertEqual(self.told(held), "ok")  # a look has shown it
        self.assertEqual(self.effect(second), "done")
        self.assertFalse(self.db.call("waldur_settle", second, held[2], "refused", 400, None, None))


class Keys(WaldurBase):
    def ready(self):
        """A subscription with a key: (subscription, its prefix)."""
        s = self.db.provision(self.owner)
        return s, self.db.config(s)["api_key"]

    def wanted(self, resource, key=None):
        key = key or new_uuid()
        self.hint(None, "key", resource=resource, key=key)
        self.claim()
        row = self.db.one("SELECT * FROM waldur_key_claim(%s, 10, '{}')", self.owner)
        return (key, self.owner, row["fence"]), row

    def keep(self, held, prefix=PREFIX, hash=b"h" * 32):
        return self.db.call("waldur_key_keep", *held, prefix, hash, SEALED, SEALED)

    def live_keys(self, s):
        return [r["prefix"] for r in
                self.db.rows("SELECT prefix FROM agent_api_key WHERE subscription_uuid = %s AND revoked_at IS NULL", s)]

    def test_rotation(self):
        """Kept, not valid; then, in one transaction, valid and the former one revoked, and nothing clear is left."""
        s, former = self.ready()
        held, _ = self.wanted(s)
        self.assertEqual(self.keep(held), "ok")
        self.assertEqual((self.live_keys(s), self.db.value("SELECT count(*) FROM waldur_delivery")), ([former], 1))
        other = self.session(autocommit=False)
        self.assertEqual(other.call("waldur_key_live", *held), "ok")
        self.assertEqual(self.live_keys(s), [former])
        other.conn.commit()
        self.assertEqual((self.live_keys(s), self.db.config(s)["api_key"]), ([PREFIX], PREFIX))
        self.assertEqual(self.db.value("SELECT count(*) FROM waldur_delivery"), 0)
        old, new = (self.db.one("SELECT permissions, rate_limit, expires_at FROM agent_api_key WHERE prefix = %s", p)
                    for p in (former, PREFIX))
        self.assertEqual(old, new)

    def test_taken_over(self):
        """Whoever goes on gets the key that was kept, and no other."""
        s, _ = self.ready()
        held, _ = self.wanted(s)
        self.keep(held)
        self.db.rows("UPDATE worker SET lease_until = now() - interval '1 s' WHERE owner = %s", self.owner)
        self.owner = self.db.register()
        row = self.db.one("SELECT * FROM waldur_key_claim(%s, 10, '{}')", self.owner)
        self.assertEqual((row["phase"], row["prefix"], bytes.fromhex(row["delivery"])), ("kept", PREFIX, SEALED))
        self.assertEqual(self.db.call("waldur_key_live", *held), "lost")
        self.assertEqual(self.db.call("waldur_key_live", held[0], self.owner, row["fence"]), "ok")

    def test_closed_meanwhile(self):
        """A subscription that was terminated gets no key through the back door."""
        s, _ = self.ready()
        held, _ = self.wanted(s)
        self.keep(held)
        self.db.terminate(self.owner, s)
        self.assertEqual(self.db.call("waldur_key_live", *held), "revoked")
        self.assertEqual((self.live_keys(s), self.db.value("SELECT count(*) FROM waldur_delivery")), ([], 0))
        again, _ = self.wanted(s, held[0])
        self.assertEqual(self.keep(again), "inactive")

    def test_set_done_by_people(self):
        """Before its job has ended: the order waits for that, since the key has to reach Waldur yet."""
        order, resource = self.taken()
        for _ in range(2):
            self.hint(order)
            self.assertEqual(self.closed((order, self.owner, self.claim()[0]["fence"]), "done", resource), "told")
            row = self.row(order)
            self.assertEqual((row["phase"], row["told"], row["claimed_by"], row["due_at"]), ("taken", None, None, None))
        self.job_ends(resource)
        row = self.claim()[0]
        self.assertEqual((row["phase"], row["verdict"], row["told"]), ("taken", "done", None))
        self.assertEqual(self.closed((order, self.owner, row["fence"]), "done", resource), "told")
        self.assertEqual(self.row(order)["phase"], "reported")

    def test_delivery(self):
        """A key that Waldur is to hand out is kept until it was seen there, or until it is valid no more."""
        for how in ("told", "set done by people", "revoked", "not told"):
            resource = new_uuid()
            order, _ = self.taken(resource)
            job = self.db.take_job(self.owner, resource)
            self.db.name_step(job, f"n-{resource}")
            prefix = "pk_live_" + uuids.uuid4().hex[:8]
            terms = json.dumps({"permissions": [], "allowed_domains": [], "rate_limit": "1/minute", "expires_at": None})
            self.assertEqual(self.db.step("step_api_key_for_waldur", job, "record", prefix, uuids.uuid4().bytes * 2, b"s" * 80,
                                          terms, SEALED), "ok")
            self.assertEqual(self.db.step("step_pass", job, None), "ok")
            row = self.claim()[0]
            self.assertEqual((row["delivery_prefix"], bytes.fromhex(row["delivery"])), (prefix, SEALED))
            held = (order, self.owner, row["fence"])
            if how == "revoked":
                self.db.rows("UPDATE agent_api_key SET revoked_at = now() WHERE prefix = %s", prefix)
            if how == "set done by people":
                self.assertEqual(self.closed(held, "done", resource), "told")
                self.db.rows("SELECT waldur_judge(%s)", order)
                row = self.claim()[0]
                self.assertEqual((row["phase"], row["verdict"], row["told"], row["delivery_prefix"]),
                                 ("taken", "done", None, prefix))
                held = (order, self.owner, row["fence"])
            self.assertEqual(self.told(held, "done", prefix if how in ("told", "set done by people") else None), "ok")
            self.assertEqual(self.db.value("SELECT count(*) FROM waldur_delivery"), 1 if how == "not told" else 0, how)


class Sweeps(WaldurBase):
    def begin(self, owner=None, every_ms=0, db=None):
        rows = (db or self.db).rows("SELECT * FROM waldur_sweep_begin(%s, %s, %s)", owner or self.owner, every_ms, every_ms)
        return rows[0]["fence"] if rows else None

    def listed(self, fence, *orders):
        return self.db.value("SELECT waldur_sweep_orders(%s, %s, %s::uuid[])", self.owner, fence, list(orders))

    def end(self, fence, error=None):
        return self.db.call("waldur_sweep_end", self.owner, fence, None, error)

    def test_one_at_a_time(self):
        fence, other = self.begin(), self.db.register()
        self.assertIsNotNone(fence)
        self.assertIsNone(self.begin(other))
        self.db.rows("UPDATE worker SET lease_until = now() - interval '1 s' WHERE owner = %s", self.owner)
        self.assertIsNotNone(self.begin(other))
        self.assertIsNone(self.listed(fence))
        self.assertFalse(self.end(fence))

    def test_every(self):
        self.assertTrue(self.end(self.begin()))
        self.assertIsNone(self.begin(every_ms=60000))
        # Asked for: before its time, but not at once.
        self.hint(None, "resource", resource=new_uuid())
        self.claim()
        self.assertIsNone(self.begin(every_ms=60000))
        self.assertIsNotNone(self.begin(every_ms=0))
        self.assertIsNone(self.db.value("SELECT asked_at FROM waldur_sweep"))

    def test_what_calls_for_a_look(self):
        """What is new, what waits, what was told and is open again; and what was taken and is open no more."""
        running, _ = self.taken()
        vanished, _ = self.taken()
        held = self.held()
        self.leave(held, new_uuid())
        dropped = self.held()
        self.leave(dropped, phase="dropped", reason="done")
        quiet = self.held()
        self.leave(quiet, phase="dropped", reason="foreign")
        new = new_uuid()
        fence = self.begin()
        self.assertEqual(self.listed(fence, running, held[0], dropped[0], new), 4)
        self.assertEqual({r["order_uuid"] for r in self.claim()}, {vanished, held[0], dropped[0], new})
        self.assertTrue(self.end(fence))

    def test_what_was_taken_after_the_list(self):
        """The list cannot have known it."""
        fence = self.begin()
        order, _ = self.taken()
        self.assertEqual(self.listed(fence), 0)


if __name__ == "__main__":
    main()
