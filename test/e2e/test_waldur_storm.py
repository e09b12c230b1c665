"""
Hundreds of orders of every type at once, half of the webhooks lost, the others repeated and shuffled; requests fail and
replicas are killed. In the end what is here is what Waldur's own records call for, and each order was reported once.

WALDUR_STORM: orders (default 500; two fifths of them create). WALDUR_STORM_SEED: another storm.
"""

import collections
import os
import random
import time

from harness import Expected, MarketCase, dashed, eventually, main, say
from harness.waldur import OPEN

ORDERS = int(os.environ.get("WALDUR_STORM", "500"))
SEED = int(os.environ.get("WALDUR_STORM_SEED", "20261126"))
KILLS, CANCELED, PAUSED = 4, 0.08, 0.1
STANDSTILL_S = 60  # a put-off order comes again sooner
ORGANIZATIONS = ("Borealis Shipping", "Cumulus Farms", "Dolomite Press")


class Consumers:
    """They order whatever may be ordered, cancel some of it, pause some resources, and forget nothing that they did."""

    def __init__(self, market, seed):
        self.waldur, self.rng = market.waldur, random.Random(seed)
        self.plans = [market.catalogue.plan, self.waldur.plan(market.catalogue.offering, "plus")]
        self.organization, self.orders, self.cancels, self.pauses = {}, 0, 0, 0
        self.spoken_for = set()  # orders that nobody cancels
        self.by_type = collections.Counter()
        self.catalogues = []
        for name in ORGANIZATIONS:
            customer = self.waldur.customer(name)
            self.catalogues.append(market.catalogue._replace(
                customer=customer, project=self.waldur.project(customer, "Support of " + name.split()[1])))

    def create(self, n):
        for i, catalogue in enumerate(self.catalogues):
            share = len(range(i, n, len(self.catalogues)))
            for order in self.waldur.orders_in_bulk(catalogue, share, prefix=f"agent{i}"):
                self.organization[order.resource] = ORGANIZATIONS[i]
        self.by_type["Create"] += n
        self.orders += n

    def turn(self, most):
        """One round over all resources: an order for each that has none open, until there are so many."""
        latest = {}
        for order in self.waldur.short():
            latest[order["resource"]] = order
        for resource, order in latest.items():
            if order["state"] in OPEN:
                self.perhaps_cancel(order)
            elif self.orders < most:
                self.order(resource, order["resource_state"])
                self.perhaps_pause(resource)

    def order(self, resource, state):
        if state == "Terminated":
            made = "Restore", self.waldur.restore(resource)
        elif self.rng.random() < 0.5:
            made = "Update", self.waldur.update(resource, plan=self.rng.choice(self.plans))
        else:
            made = "Terminate", self.waldur.terminate(resource)
        self.by_type[made[0]] += 1
        self.orders += 1

    def perhaps_cancel(self, order):
        """At most once asked of each; what was ended meanwhile is not canceled."""
        if order["type"] not in ("Create", "Restore") or order["order"] in self.spoken_for:
            return
        self.spoken_for.add(order["order"])
        if self.rng.random() < CANCELED:
            try:
                self.waldur.act(order["order"], "cancel")
                self.cancels += 1
            except AssertionError as e:
                assert "not in this state" in str(e), e
                return
            # Before anybody is told: the one that is to be made is ordered after the one that was undone.
            if self.rng.random() < 0.7:
                self.order(order["resource"], "Terminated")

    def perhaps_pause(self, resource):
        if self.rng.random() < PAUSED:
            (self.waldur.pause if self.rng.random() < 0.6 else self.waldur.resume)(resource)
            self.pauses += 1


class Storm(MarketCase):
    maxDiff = None

    def setUp(self):
        self.m = self.market(workers=2, sweep="3s", overrides={
            "waldur.keys": "waldur", "worker.lease": "3s", "worker.probe_settle": "300ms", "retry.max": "1s"})
        self.waldur, self.stage, self.db = self.m.waldur, self.m.stage, self.m.db
        self.consumers = Consumers(self.m, SEED)

    def disturb(self):
        self.waldur.settings(drop=0.5, duplicate=1.0, window_ms=1500, seed=SEED)
        for i, standin in enumerate((self.waldur, self.stage.langflow, self.stage.ragflow)):
            standin.fault("lose_reply", every=True, probability=0.02, seed=SEED + i, path_prefix="/api/")
            standin.fault("status", every=True, probability=0.01, seed=SEED + 10 + i, path_prefix="/api/", status=503,
                          body="<html>upgrade</html>")

    def calm(self):
        standins = (self.waldur, self.stage.langflow, self.stage.ragflow)
        failed = {standin.dialect: standin.fired() for standin in standins}
        for standin in standins:
            standin.clear_faults()
        return failed

    def kill_one(self, n):
        worker = self.stage.workers[n % 2]
        worker.kill()
        worker.start(ready=False)

    def all_closed(self):
        states = self.waldur.states()
        return not set(states) & set(OPEN), states

    def ride_out(self):
        """Orders until there are enough, and until all of them are closed; kills at even distances of what is done."""
        killed, former, end = 0, None, 0
        while True:
            closed, states = self.all_closed()
            if states["done"] >= (killed + 1) * ORDERS // (KILLS + 2) and killed < KILLS:
                self.kill_one(killed)
                killed += 1
                say(f"{killed} killed, {self.consumers.orders} ordered: {dict(states)}")
            if closed and self.consumers.orders >= ORDERS:
                break
            if states != former:
                former, end = states, time.monotonic() + STANDSTILL_S
            self.assertLess(time.monotonic(), end, f"{dict(states)}\n{self.stuck()}\n{self.m.describe()}")
            self.consumers.turn(ORDERS)
            time.sleep(0.2)
        self.assertEqual(killed, KILLS)

    def stuck(self):
        """What is known here of the orders that are open at Waldur."""
        still = [dashed(o["order"]) for o in self.waldur.short() if o["state"] in OPEN][:6]
        return "\n".join(str(dict(row)) for row in self.db.rows(
            "SELECT order_uuid, order_type, phase, verdict, told, inbox, due_at, claimed_by, error FROM waldur_order "
            "WHERE order_uuid = ANY (%s::uuid[])", still))

    def test_storm(self):
        say(f"{ORDERS} orders, seed {SEED}")
        began = time.monotonic()
        self.disturb()
        self.consumers.create(2 * ORDERS // 5)
        self.ride_out()
        say(f"all orders are closed after {time.monotonic() - began:.1f} s: {dict(self.consumers.by_type)}, "
            f"{self.consumers.cancels} canceled, {self.consumers.pauses} paused or resumed; failed: {self.calm()}")
        self.check_all()
        outcomes = collections.Counter(d["outcome"] for d in self.waldur.wait_sent())
        self.assertGreater(outcomes["dropped"], ORDERS)
        say(f"all is as it should be after {time.monotonic() - began:.1f} s; webhooks {dict(outcomes)}")
        for order in self.end_all():
            self.consumers.orders += 1
            self.assertEqual(self.waldur.told(order.order)["done"], 1)
        self.check_all()
        self.assertEqual({o["state"] for o in self.waldur.everything()["objects"]}, {"Terminated"})
        self.assertEqual(self.stage.langflow.objects() + self.stage.ragflow.objects(), [])
        self.assertEqual(self.db.value("SELECT count(*) FROM agent_api_key WHERE revoked_at IS NULL"), 0)
        say(f"nothing is left of {self.consumers.orders} orders after {time.monotonic() - began:.1f} s")

    def end_all(self):
        """A way to its end for each that is there."""
        there = [o["uuid"] for o in self.waldur.everything()["objects"] if o["state"] != "Terminated"]
        self.assertGreater(len(there), ORDERS // 10)
        orders = [self.waldur.terminate(uuid) for uuid in there]
        self.m.wait("done", *orders, timeout=120)
        return orders

    # ---- what must be ----

    def check_all(self):
        eventually(lambda: self.db.value("SELECT count(*) FROM waldur_order WHERE due_at IS NOT NULL") == 0 and
                   self.db.value("SELECT count(*) FROM waldur_hint") == 0, 60, "nothing is to be looked at",
                   describe=self.m.describe)
        resources = {o["uuid"]: o for o in self.waldur.everything()["objects"]}
        eventually(lambda: self.paused_here() == {dashed(uuid) for uuid, r in resources.items()
                                                  if r["paused"] and r["state"] == "OK"},
                   60, "what is paused rests, and nothing else does", describe=self.m.describe)
        self.stage.settled(120)
        self.check_orders()
        self.check_resources(resources)
        self.check_texts()

    def paused_here(self):
        return {str(r["subscription_uuid"]) for r in
                self.db.rows("SELECT subscription_uuid FROM agent_config WHERE status = 'suspended'")}

    def check_orders(self):
        """Waldur's word for each, and ours of it; each was reported once, and none to be what it was not."""
        rows = {r["order_uuid"]: r for r in self.db.rows(
            "SELECT order_uuid::text, phase, told, reason FROM waldur_order")}
        counters = self.waldur.counters()["orders"]
        orders = self.waldur.short()
        self.assertEqual(len(orders), self.consumers.orders)
        bad, canceled = [], 0
        for order in orders:
            told, row = counters[order["order"]], rows.get(dashed(order["order"]))
            done = order["state"] == "done"
            canceled += order["state"] == "canceled"
            wanted = {"done": int(done), "erred": 0, "erred_late": 0, "erred_refused": 0}
            if done:
                wanted["done_refused"] = 0
            ours = row and ((row["phase"], row["told"]) == ("reported", "done") if done else row["phase"] == "dropped" and
                            row["reason"] in ("canceled", "undone"))
            # Where nobody heard of one before it was canceled, there is nothing here.
            if {n: told[n] for n in wanted} != wanted or not (ours or (row is None and not done)):
                bad.append((order, told, row and dict(row)))
        self.assertEqual(bad, [], self.m.describe())
        self.assertEqual(canceled, self.consumers.cancels)
        self.assertEqual(set(rows) - {dashed(o["order"]) for o in orders}, set(), "orders that nobody placed")

    def check_resources(self, resources):
        keys = collections.Counter(k["resource_uuid"] for k in self.waldur.everything()["keys"])
        expected = {}
        for uuid, resource in resources.items():
            config = self.db.config(dashed(uuid))
            self.assertIn(resource["state"], ("OK", "Terminated"))
            if resource["state"] == "OK":
                self.assertEqual(resource["backend_id"], config["name"])
                # What was paused before it was made is made when it is resumed.
                made = not resource["paused"] or config["api_key"] is not None
                self.assertEqual(keys[uuid], int(made), config)
                expected[dashed(uuid)] = Expected(True, True, config["name"], suspended=resource["paused"], known=made)
            elif config or self.db.value("SELECT count(*) FROM subscription WHERE uuid = %s", dashed(uuid)):
                expected[dashed(uuid)] = Expected(False, known=False)
        self.stage.promise(expected)
        self.assertEqual(self.db.value("SELECT count(*) FROM waldur_delivery"), 0)

    def check_texts(self):
        """What Waldur was sent is for its reader: no secrets, no address of ours, nobody else's name."""
        self.m.assert_no_secrets()
        owners = {**self.consumers.organization,
                  **{o["order"]: self.consumers.organization[o["resource"]] for o in self.waldur.short()}}
        named, internal = 0, [self.stage.langflow.url, self.stage.ragflow.url, self.waldur.url, "http://127.0.0.1"]
        for route, uuid, text in self.waldur.sent_texts():
            for url in internal:
                self.assertNotIn(url, text)
            if uuid in owners:
                named += 1
                for name in ORGANIZATIONS:
                    if name != owners[uuid]:
                        self.assertNotIn(name.split()[0].lower(), text.lower(), route)
        self.assertGreater(named, ORDERS)


if __name__ == "__main__":
    main()
