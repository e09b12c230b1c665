"""
Every named point between Waldur and the inbox at which a worker may die: reached, died at by SIGKILL, and nobody notices.

As test_crash_points does it, with orders: lives of resources in parts, a worker for each point that dies in one of them,
beside one that lives. In the end each order was reported once, and everything is there once.
"""

import re
import time

from harness import Expected, Market, MarketCase, dashed, eventually, fault_points, main, say
from test_crash_points import SETTINGS, Enumeration, Life, let_many_in

APIS = ("workspaces", "collections")
ORDER = r"^/api/marketplace-orders/[0-9a-f-]+/"
IDLE_S = 4
SWEPT = re.compile("store/waldur_(sweep_|paused|hint)")


class Subject:
    """A resource, another one whose order fails, and one that nobody can take in."""

    def __init__(self, name):
        self.name = name
        self.order = self.failing = self.left = None


class WaldurLife(Life):
    PARTS = ("created", "updated", "rotated", "paused", "no new key", "resumed", "failed", "replayed", "retried",
             "canceled", "terminated", "restored")

    def __init__(self, seed, stage):
        super().__init__(seed, stage)
        self.m, self.waldur, self.part = stage.market, stage.market.waldur, None
        self.everyone, self.orders = [], {}  # {Order: the state that it is to come to}
        self.resting, self.former, self.refused = set(), {}, set()

    def bear(self, n):
        subs = [Subject(f"{self.seed}-{self.born + i}") for i in range(n)]
        self.born += n
        self.everyone += subs
        return subs

    def begin(self, part, subs):
        self.part = part
        super().begin(part, subs)

    def in_time(self):
        super().in_time()
        self.waldur.clear_faults()

    def await_state(self, state, orders):
        self.orders.update({order: state for order in orders})
        return orders

    def resources(self, subs):
        return [s.order.resource for s in subs]

    # ---- the parts ----

    def place(self, subs, prefix, **more):
        return [self.waldur.order(self.m.catalogue, f"{prefix}-{s.name}", **more) for s in subs]

    def created(self, subs):
        for sub, order in zip(subs, self.await_state("done", self.place(subs, "agent"))):
            sub.order = order
        unknown = self.m.catalogue._replace(plan=self.m.unknown_plan)
        for sub in subs[::4]:
            sub.left = self.waldur.order(unknown, f"left-{sub.name}")
            self.await_state("pending-provider", [sub.left])

    def updated(self, subs):
        """Some of what is read of orders comes to nothing at first."""
        self.waldur.fault("status", method="GET", path_regex=ORDER, every=True, count=len(subs) // 2, status=503)
        self.await_state("done", [self.waldur.update(r, plan=self.m.plus) for r in self.resources(subs)])
        for sub in subs:
            if sub.left:
                self.waldur.act(sub.left.order, "cancel")
                self.await_state("canceled", [sub.left])

    def rotated(self, subs):
        """Some of the new keys are refused at first."""
        self.former = {r: self.stage.db.config(dashed(r))["api_key"] for r in self.resources(subs)}
        self.waldur.fault("status", method="POST", path_regex="/set_key/$", every=True, count=len(subs) // 2, status=400)
        for resource in self.former:
            self.waldur.rotate(resource)

    def paused(self, subs):
        for resource in self.resources(subs):
            self.waldur.pause(resource)
            self.resting.add(dashed(resource))

    def no_new_key(self, subs):
        """One that rests gets none."""
        self.refused = set(self.resources(subs))
        for resource in self.refused:
            self.waldur.rotate(resource)

    def resumed(self, subs):
        for resource in self.resources(subs):
            self.waldur.resume(resource)
            self.resting.discard(dashed(resource))

    def failed(self, subs):
        self.stage.ragflow.fault("status", every=True, status=422, path_prefix="/api/")
        for sub, order in zip(subs, self.await_state("erred", self.place(subs, "failing"))):
            sub.failing = order

    def replayed(self, subs):
        """By people here: the order has to execute again."""
        some = [s.failing for s in subs[::2]]
        for order in self.await_state("done", some):
            self.stage.installation.command("replay", dashed(order.resource))

    def retried(self, subs):
        """By people there: whatever still errs."""
        for order in self.await_state("done", [o for o, state in self.orders.items() if state == "erred"]):
            self.waldur.act(order.order, "retry")

    def canceled(self, subs):
        """After they were taken, while they are carried out: their requests take longer than anybody waits."""
        self.stage.ragflow.fault("delay", every=True, ms=3000, path_prefix="/api/")
        orders = self.place(subs, "canceled", state="executing")

        def taken():
            taken_in = self.stage.db.value("SELECT count(*) FROM waldur_order WHERE order_uuid = ANY (%s::uuid[]) AND "
                                           "taken_at IS NOT NULL", [dashed(o.order) for o in orders])
            return taken_in == len(orders)
        eventually(taken, 60, "they are taken", describe=self.m.describe)
        for order in orders:
            self.waldur.act(order.order, "cancel")
        self.in_time()
        self.await_state("canceled", orders)

    def terminated(self, subs):
        self.await_state("done", [self.waldur.terminate(r) for s in subs for r in (s.order.resource, s.failing.resource)])

    def restored(self, subs):
        self.await_state("done", [self.waldur.restore(r) for r in self.resources(subs)])

    # ---- what must be ----

    def settle(self, timeout=60):
        eventually(self.as_ordered, timeout, f"all orders are as they should be after {self.part}",
                   describe=self.m.describe)
        if "erred" in self.orders.values():
            return  # there are jobs that have failed, as they should
        self.stage.settled(timeout)
        self.expected = self.promised()
        super().settle(timeout)

    def as_ordered(self):
        db, there = self.stage.db, {o["order"]: o["state"] for o in self.waldur.short()}
        others = [(o.order, there[o.order], state) for o, state in self.orders.items() if there[o.order] != state]
        assert not others, others[:8]
        told = {"done": ("reported", "done"), "erred": ("reported", "erred"), "canceled": ("dropped", None),
                "pending-provider": ("left", None)}
        rows = {str(r["order_uuid"]): (r["phase"], r["told"]) for r in db.rows(
            "SELECT order_uuid, phase, told FROM waldur_order")}
        others = [(o.order, rows.get(dashed(o.order)), state) for o, state in self.orders.items()
                  if rows.get(dashed(o.order)) != told[state]]
        assert not others, others[:8]
        resting = {str(r["subscription_uuid"]) for r in db.rows(
            "SELECT subscription_uuid FROM agent_config WHERE status = 'suspended'")}
        assert resting == self.resting, f"{len(resting)} rest, {len(self.resting)} should"
        states = {k["state"] for k in self.waldur.keys()}
        assert states <= {"OK", "Erred"}, states
        if self.part == "rotated":
            same = [r for r, key in self.former.items() if db.config(dashed(r))["api_key"] == key]
            assert not same, f"{len(same)} keys are the former ones"
        if self.part == "no new key":
            keyed = {k["resource_uuid"] for k in self.waldur.keys() if k["state"] == "Erred"}
            assert keyed >= self.refused, f"{len(self.refused - keyed)} do not hear that there is none"
        assert db.value("SELECT count(*) FROM waldur_delivery") == 0, "a key waits to be delivered"
        return True

    def promised(self):
        expected = {}
        for resource in self.waldur.everything()["objects"]:
            uuid = dashed(resource["uuid"])
            config = self.stage.db.config(uuid)
            if resource["state"] == "OK":
                assert resource["backend_id"] == config["name"], resource
                expected[uuid] = Expected(True, True, config["name"], suspended=uuid in self.resting)
            elif resource["state"] == "Terminated" and config:
                expected[uuid] = Expected(False, kept=config["runtime_workspace_id"] is not None)
        return expected


class Orders(Enumeration):
    name, apis, life = "waldur", (*APIS, "waldur"), WaldurLife
    in_reference = {}
    idle_since = None

    def set_up(self):
        settings = {**SETTINGS, "waldur.keys": "waldur", "waldur.concurrency": 2}
        self.m = Market(self.case, workers=0, hooks=False, sweep="1s", overrides=settings)
        self.m.plus = self.m.waldur.plan(self.m.catalogue.offering, "plus")
        self.m.unknown_plan = self.m.waldur.plan(self.m.catalogue.offering, "Gold")
        self.m.stage.market = self.m
        return self.m.stage

    def wanted(self):
        return fault_points(self.apis) - fault_points(APIS)

    def reference(self):
        return {part: passed & self.wanted() for part, passed in super().reference().items()}

    def running(self):
        """Orders and keys in hand, too."""
        held = self.stage.db.rows(
            "SELECT x.id, x.fence, w.pid FROM (SELECT order_uuid AS id, fence, claimed_by FROM waldur_order UNION ALL "
            "SELECT key_uuid, fence, claimed_by FROM waldur_key) x JOIN worker w ON w.owner = x.claimed_by")
        return {**super().running(), **{(str(r["id"]), r["fence"]): r["pid"] for r in held}}

    # The replica that swept last sweeps next, being the first to find it due: they get different ideas of when that is.
    # First those that shall die in a sweep, then other victims; who survives does it when all are dead.

    def kill_everywhere(self, parts):
        self.stage.installation.set("waldur.sweep", "3s")
        super().kill_everywhere(parts)

    def prepare(self, point):
        self.stage.installation.set("waldur.sweep", "1s" if SWEPT.match(point) else "2s")

    def kill_in(self, life, at, subs, points):
        self.idle_since = None
        super().kill_in(life, at, subs, points)

    def idle(self):
        """Also for some sweeps: what they find is not due before."""
        due = self.stage.db.value("SELECT (SELECT count(*) FROM waldur_order WHERE due_at IS NOT NULL) + (SELECT count(*) "
                                  "FROM waldur_key WHERE due_at IS NOT NULL) + (SELECT count(*) FROM waldur_hint)")
        if due or self.m.waldur.states()["executing"] or not super().idle():
            self.idle_since = None
            return False
        self.idle_since = self.idle_since or time.monotonic()
        if time.monotonic() < self.idle_since + IDLE_S:
            return False
        self.idle_since = None
        return True

    def nothing_is_lost(self, life):
        """Each order was told once, nothing was told of what does not execute, and the journal knows of every change."""
        counters = self.m.waldur.counters()["orders"]
        erred = {s.failing for s in life.everyone}
        for order, state in life.orders.items():
            told = counters[order.order]
            wanted = (int(state == "done"), int(order in erred), 0, 0)
            self.case.assertEqual((told["done"], told["erred"], told["erred_late"], told["erred_refused"]), wanted,
                                  (order, state, told))
        there = self.m.waldur.everything()
        for resource in there["objects"]:
            keys = [k["client_id"] for k in there["keys"] if k["resource_uuid"] == resource["uuid"]]
            live = [self.stage.db.config(dashed(resource["uuid"]))["api_key"]] if resource["state"] == "OK" else []
            self.case.assertEqual(keys, live, resource)
        self.case.assertEqual(self.unrecorded(), [], "changes that left before their intent was kept")
        self.m.assert_no_secrets()

    def unrecorded(self):
        known = {r["request_id"] for r in self.stage.db.rows("SELECT request_id FROM waldur_effect")}
        sent = {e["headers"]["x-request-id"]: f"{e['method']} {e['path']}" for e in self.m.waldur.mutations()
                if "x-request-id" in e["headers"] and re.match("/api/", e["path"])}
        self.case.assertGreater(len(sent), len(self.points), "hardly a change bears a request id")
        return super().unrecorded() + sorted(f"{id}: {what}" for id, what in sent.items() if id not in known)


class CrashPoints(MarketCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        let_many_in(cls.postgres)

    def test_every_point(self):
        orders = Orders(self)
        orders.run()
        say(f"{orders.died} workers died at {len(orders.points)} points; worst takeover {orders.worst:.1f} s")


if __name__ == "__main__":
    main()
