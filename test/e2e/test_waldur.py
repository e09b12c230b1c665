#!/usr/bin/env python3
"""
Waldur at both ends: orders that come in by webhook, by the sweep, or are fetched, are approved by rule, provisioned and
reported; what must not be approved is left; nothing errs because Waldur is away.
"""

import concurrent.futures
import http.client
import json
import os
import time

from harness import Expected, MarketCase, Subscription, WALDUR_PROFILES, dashed, eventually, main, say
from harness.market import HOOK, TOKEN

OUTAGE_S = float(os.environ.get("WALDUR_OUTAGE_S", "0"))


class Life(MarketCase):
    def whole_life(self, m, wake=lambda: None):
        """One order from its placing to the subscription's end; wake: what makes the worker look."""
        order = m.waldur.order(m.catalogue, attributes={"name": "my-agent", "tone": "warm", "card": "4111"})
        wake()
        m.wait("done", order)
        config = m.config(order)
        self.assertEqual((config["status"], config["offering_type"], config["plan_tier"]), ("ready", "csa", "pro"))
        self.assertEqual(config["variables"].get("tone"), "warm")
        self.assertNotIn("card", config["variables"])
        resource = m.waldur.resource_details(order.resource)
        self.assertEqual((resource["state"], resource["backend_id"]), ("OK", config["name"]))
        self.assertEqual(resource["backend_metadata"]["name"], config["name"])
        self.assertEqual(resource["backend_metadata"]["api_key_prefix"], config["api_key"])
        row = m.wait_row(order, phase="reported", told="done", verdict="done", backend_id=config["name"])
        self.assertLess(row["announced_at"], config["ready_at"])
        told = m.waldur.told(order.order)
        self.assertEqual((told["approved"], told["done"], told["erred"], told["erred_late"]), (1, 1, 0, 0))
        ending = m.waldur.terminate(order.resource)
        wake()
        m.wait("done", ending)
        self.assertEqual(m.waldur.resource_details(order.resource)["state"], "Terminated")
        self.assertEqual(m.config(order)["status"], "purged")
        m.wait_row(ending, phase="reported", told="done")
        self.assertEqual([o["object"] for o in m.stage.langflow.objects()], [])
        # A Waldur of 2024 has no endpoints, and says so once.
        self.assertLessEqual({e for e in m.effects(order) + m.effects(ending) if e[1] != "done"},
                             {("resource.endpoints", "refused")} if m.waldur.profile == "24" else set())
        m.assert_no_secrets()
        return order

    def test_by_webhook(self):
        for profile in WALDUR_PROFILES:
            m = self.market(profile=profile)
            order = self.whole_life(m)
            self.assertGreater(m.worker.metrics()['provisioner_waldur_hints_total{source="webhook",kind="order"}'], 0)
            operations = [operation for operation, _ in m.effects(order)]
            self.assertEqual(operations[:2], ["order.approve", "resource.backend_id"])
            if profile == "26":
                endpoints = m.waldur.resource_details(order.resource)["endpoints"]
                self.assertEqual([(e["name"], e["url"]) for e in endpoints],
                                 [("chat", "https://agents.example/" + m.row(order)["backend_id"])])

    def test_by_sweep_alone(self):
        m = self.market(hooks=False, sweep="1s")
        order = self.whole_life(m)
        self.assertEqual(m.row(order)["source"], "sweep")
        self.assertEqual(m.row(order)["organization_slug"], m.config(order)["organization_slug"])

    def test_by_backfill(self):
        """Nobody told, and nobody looked: fetched."""
        m = self.market(hooks=False)
        fetched = []

        def fetch():
            fetched.append(m.program("backfill", "--since", "1h"))
        # The sweep at the start found nothing; the next one is an hour away.
        eventually(lambda: m.worker.metrics().get('provisioner_waldur_sweeps_total{result="done"}') == 1, 30, "it has swept")
        order = m.waldur.order(m.catalogue, state="executing")
        fetch()
        m.wait("done", order)
        self.assertEqual((m.row(order)["source"], fetched[0]["unreadable"]), ("backfill", 0))
        self.assertGreater(fetched[0]["hints"], 0)
        m.wait_row(order, phase="reported", told="done")
        # Once more: nothing is done twice.
        fetch()
        eventually(lambda: m.db.value("SELECT count(*) FROM waldur_hint") == 0, 30, "they are looked into")
        self.assertEqual(m.waldur.told(order.order)["done"], 1)
        self.assertEqual([j["state"] for j in m.db.jobs(dashed(order.resource))], ["succeeded"])
        shown = m.program("show", dashed(order.resource))
        self.assertEqual([(o["phase"], o["told"]) for o in shown["orders"]], [("reported", "done")])
        self.assertEqual({e["state"] for e in shown["waldur_effects"]}, {"done"})

    def test_doctor(self):
        m = self.market(hooks=False)
        m.waldur.do("POST", "hooks-web/", {"destination_url": m.hook_url(), "content_type": "json",
                                           "event_types": ["marketplace_order_approved"]})
        found = {f["subject"]: f for f in m.program("doctor", "waldur")["findings"]}
        self.assertEqual({s: f["level"] for s, f in found.items()},
                         {"address": "ok", "version": "ok", "credential": "ok", "rights": "ok", "offering": "ok",
                          "webhook": "ok"})
        self.assertNotIn(HOOK, json.dumps(found))
        m.stage.installation.set("offerings.csa.uuid", "0d5f0d0f-7f0c-4a8e-9a66-6a5d4c1b2e10")
        m.stage.installation.set("waldur.hook_secret", "another-secret-that-nobody-knows")
        found = {f["subject"]: f["level"] for f in m.program("doctor", "waldur", check=3)["findings"]}
        self.assertEqual((found["offering"], found["webhook"]), ("bad", "note"))
        m.stage.installation.set("waldur.token", "no-token")
        found = m.program("doctor", "waldur", check=3)["findings"]
        self.assertEqual([(f["subject"], f["level"]) for f in found if f["level"] != "ok"], [("credential", "bad")])

    def test_restored(self):
        """The same resource, the same name, a new order."""
        m = self.market()
        order = self.whole_life(m)
        name = m.config(order)["name"]
        again = m.waldur.restore(order.resource)
        m.wait("done", again)
        self.assertEqual((m.config(again)["status"], m.config(again)["name"]), ("ready", name))
        self.assertEqual(m.waldur.resource_details(order.resource)["backend_id"], name)

    def test_event_by_kafka_first(self):
        """A producer of events beside: the job waits until Waldur has been told the name, and the order is reported."""
        m = self.market(hooks=False)
        order = m.waldur.order(m.catalogue, state="executing")
        details = m.waldur.order_details(order.order)
        sub = Subscription("kafka", 1)
        event = sub.created()
        event.document["data"]["order_uuid"] = dashed(order.order)
        event.document["data"]["subscription"]["uuid"] = event.document["subject"] = event.key = dashed(order.resource)
        event.document["data"]["organization"] = {"uuid": dashed(details["customer_uuid"]),
                                                  "slug": details["customer_slug"]}
        m.stage.producer.send(event)
        m.wait("done", order)
        self.assertEqual(m.waldur.resource_details(order.resource)["backend_id"], m.config(order)["name"])
        self.assertEqual(m.row(order)["inbox"], "known")
        self.assertEqual([j["state"] for j in m.db.jobs(dashed(order.resource))], ["succeeded"])

    def test_event_that_waldur_does_not_know(self):
        m = self.market(hooks=False)
        sub = Subscription("kafka", 2)
        m.stage.producer.send(sub.created())
        eventually(lambda: (m.db.config(sub.uuid) or {}).get("status") == "ready", 60, "it is ready", describe=m.describe)
        self.assertEqual(m.db.value("SELECT reason FROM waldur_order WHERE order_uuid = %s", sub.order), "gone")


class Rules(MarketCase):
    def left(self, m, order, reason):
        row = m.wait_row(order, phase="left", reason=reason)
        self.assertTrue(row["detail"])
        self.assertEqual(m.waldur.order_details(order.order)["state"], "pending-provider")
        self.assertEqual(m.waldur.told(order.order)["approved"], 0)
        return row

    def test_quota(self):
        m = self.market(sweep="1s", overrides={"waldur.organization_max": 2})
        orders = m.waldur.orders_in_bulk(m.catalogue, 6)
        eventually(lambda: (m.waldur.states()["done"], m.db.value("SELECT count(*) FROM waldur_order WHERE phase = 'left'"))
                   == (2, 4), 60, "two are done and four are left", describe=m.describe)
        left = [o for o in orders if m.row(o)["phase"] == "left"]
        row = self.left(m, left[0], "quota")
        self.assertIn("organization_max", row["detail"])
        shown = {o["order_uuid"]: o for o in m.program("orders", "--state", "left")}
        self.assertEqual(set(shown), {dashed(o.order) for o in left})
        eventually(lambda: m.worker.metrics().get('provisioner_waldur_orders{phase="left",reason="quota"}') == 4, 30,
                   "metrics say so")
        # One goes, one comes.
        done = next(o for o in orders if o not in left)
        m.wait("done", m.waldur.terminate(done.resource))
        eventually(lambda: m.waldur.states()["done"] == 4, 60, "one of those left is done", describe=m.describe)
        self.assertEqual(m.waldur.states()["pending-provider"], 3)

    def test_manual(self):
        m = self.market(sweep="1s", overrides={"waldur.approve": "manual"})

        def nothing(reason):
            return m.worker.metrics().get(f'provisioner_waldur_dropped_total{{reason="{reason}"}}', 0)

        order = m.waldur.order(m.catalogue)
        self.left(m, order, "manual")
        eventually(lambda: m.row(order)["hints"] > 3, 60, "sweeps look again", describe=m.describe)
        self.assertEqual(nothing("manual"), 1)
        m.stage.ragflow.fault("delay", every=True, ms=2000, path_prefix="/api/")
        m.waldur.act(order.order, "execute")
        m.wait_row(order, phase="taken")
        # Told once more while its job runs.
        before = nothing("handled")
        m.db.rows("SELECT waldur_hint('order', 'backfill', %s, NULL, NULL)", dashed(order.order))
        eventually(lambda: nothing("handled") > before, 30, "it is counted", describe=m.describe)
        m.stage.ragflow.clear_faults()
        m.wait("done", order)

    def test_plan_without_tier(self):
        m = self.market()
        plan = m.waldur.plan(m.catalogue.offering, "Gold")
        order = m.waldur.order(m.catalogue._replace(plan=plan))
        self.assertIn("waldur.plans", self.left(m, order, "settings")["detail"])

    def test_foreign(self):
        """Another offering's orders are read by nobody who can tell them apart before."""
        m = self.market()
        other = m.waldur.catalogue(customer="Other", offering="Theirs")
        order = m.waldur.order(other)
        m.waldur.act(order.order, "execute")
        told = 'provisioner_waldur_hints_total{source="webhook",kind="foreign"}'
        eventually(lambda: m.worker.metrics().get(told, 0) > 0, 30, "it is counted", describe=m.describe)
        # A hint that does not name the offering leads to a look.
        m.db.rows("SELECT waldur_hint('order', 'backfill', %s, NULL, NULL)", dashed(order.order))
        row = m.wait_row(order, phase="dropped", reason="foreign")
        self.assertIsNone(row["taken_at"])
        self.assertEqual(m.worker.metrics()['provisioner_waldur_dropped_total{reason="foreign"}'], 1)
        self.assertEqual((m.waldur.told(order.order)["approved"], m.row(order)["backend_id"]), (0, None))

    def test_runtime_down(self):
        """Nothing is approved for a runtime that is known to be away."""
        m = self.market(sweep="1s")
        m.stage.langflow.fault("status", every=True, status=503, path_prefix="/api/")
        first = m.waldur.order(m.catalogue, state="executing")
        eventually(lambda: json.loads(m.worker.get("/readyz")[1])["upstreams"], 60, "the runtime is down", describe=m.describe)
        order = m.waldur.order(m.catalogue, name="second")
        self.left(m, order, "runtime")
        m.stage.langflow.clear_faults()
        m.wait("done", first, order)


class Failure(MarketCase):
    def test_failed_job(self):
        """The order errs with words for buyers and the resource keeps its backend id; a replay makes it done."""
        m = self.market(sweep="1s")
        m.stage.ragflow.fault("status", every=True, status=422, path_prefix="/api/", body={"detail": "secret words"})
        order = m.waldur.order(m.catalogue)
        m.wait("erred", order)
        details = m.waldur.order_details(order.order)
        self.assertIn("could not be set up", details["error_message"])
        self.assertRegex(details["error_message"], r"reference job-\d+")
        self.assertNotIn("secret words", json.dumps(details))
        self.assertNotIn(m.stage.ragflow.url, json.dumps(details))
        resource = m.waldur.resource_details(order.resource)
        self.assertEqual((resource["state"], resource["backend_id"]), ("Erred", m.config(order)["name"]))
        m.wait_row(order, phase="reported", told="erred")
        m.stage.ragflow.clear_faults()
        m.stage.installation.command("replay", dashed(order.resource))
        m.wait("done", order)
        self.assertEqual(m.waldur.told(order.order)["erred_late"], 0)
        self.assertEqual(m.waldur.resource_details(order.resource)["state"], "OK")

    def test_retried_at_waldur(self):
        """Its retry runs the failed job again."""
        m = self.market(sweep="1s")
        m.stage.ragflow.fault("status", every=True, status=422, path_prefix="/api/")
        order = m.waldur.order(m.catalogue)
        m.wait("erred", order)
        m.wait_row(order, phase="reported")
        m.stage.ragflow.clear_faults()
        m.waldur.act(order.order, "retry")
        m.wait("done", order)
        self.assertEqual(m.config(order)["status"], "ready")

    def test_undone(self):
        """Canceled while it runs: what was made is taken away."""
        m = self.market(sweep="1s")
        m.stage.ragflow.fault("delay", every=True, ms=2000, path_prefix="/api/")
        order = m.waldur.order(m.catalogue)
        m.wait("executing", order)
        m.wait_row(order, phase="taken")
        m.waldur.act(order.order, "cancel")
        m.stage.ragflow.clear_faults()
        m.wait_row(order, phase="dropped", reason="undone")
        m.stage.settled()
        self.assertEqual(m.stage.langflow.objects() + m.stage.ragflow.objects(), [])
        told = m.waldur.told(order.order)
        self.assertEqual((told["done"], told["erred"], told["erred_late"]), (0, 0, 0))

    def test_down_and_up(self):
        """Waldur away in the middle, in one way after the other: jobs go on, reports wait, nothing errs. For longer with
        WALDUR_OUTAGE_S, in seconds."""
        m = self.market(sweep="1s", overrides={"waldur.timeout": "2s"})
        m.stage.ragflow.fault("delay", every=True, ms=1000, path_prefix="/api/")
        orders = m.waldur.orders_in_bulk(m.catalogue, 5)
        for order in orders:
            m.wait_row(order, phase="taken")
        m.waldur.fault("status", every=True, count=5, status=503, path_prefix="/api/", body="<html>upgrade</html>")
        m.waldur.fault("drop_before", every=True, count=5, path_prefix="/api/")
        m.waldur.fault("hang", every=True, path_prefix="/api/")
        began = time.monotonic()
        m.stage.ragflow.clear_faults()
        eventually(lambda: m.db.value("SELECT count(*) FROM agent_config WHERE status = 'ready'") == 5, 60, "all are ready",
                   describe=m.describe)
        down = eventually(lambda: [u for u in json.loads(m.worker.get("/readyz")[1])["upstreams"]
                                   if u["product"] == "waldur"], 60, "/readyz lists it", describe=m.describe)
        self.assertIn("since", down[0])
        self.assertEqual(m.worker.get("/readyz")[0], 200)
        self.assertEqual(m.worker.metrics()["provisioner_waldur_up"], 0)
        self.assertEqual(len(m.worker.logs(event="Waldur is not usable; orders wait, none is made to err")), 1)
        # Tried again and again: every report waits, and nothing comes of it but that.
        tried = m.waldur.fired()
        eventually(lambda: m.waldur.fired() >= tried + 4 and time.monotonic() >= began + OUTAGE_S, 120 + OUTAGE_S,
                   "it is tried", describe=m.describe)
        say(f"Waldur was away for {time.monotonic() - began:.0f} s: {m.waldur.fired()} requests, in three ways")
        self.assertEqual(m.waldur.states(), {"executing": 5})
        for order in orders:
            self.assertEqual([m.row(order)[column] for column in ("phase", "verdict", "told")], ["taken", "done", None])
        m.waldur.clear_faults()
        m.wait("done", *orders, timeout=120)
        for order in orders:
            m.wait_row(order, phase="reported", told="done")
            told = m.waldur.told(order.order)
            self.assertEqual([told[what] for what in ("approved", "done", "erred", "erred_late", "erred_refused")],
                             [1, 1, 0, 0, 0])
        eventually(lambda: m.worker.metrics()["provisioner_waldur_up"] == 1, 30, "it is up", describe=m.describe)

    def test_refused_token(self):
        m = self.market(sweep="1s")
        m.waldur.fault("status", every=True, status=401, path_prefix="/api/", body={"detail": "Invalid token."})
        order = m.waldur.order(m.catalogue)
        down = eventually(lambda: [u for u in json.loads(m.worker.get("/readyz")[1])["upstreams"]
                                   if u["product"] == "waldur"], 60, "/readyz lists it", describe=m.describe)
        self.assertNotIn(TOKEN, json.dumps(down))
        m.waldur.clear_faults()
        m.wait("done", order, timeout=90)
        self.assertEqual(len(m.worker.logs(level="error")), 1)


class Storm(MarketCase):
    def test_killed_and_unheard(self):
        """
        Webhooks lost and repeated, answers of Waldur's lost, replicas killed: every order is approved, announced, carried
        out and reported once, and every key is where it belongs.
        """
        m = self.market(workers=2, sweep="1s", overrides={"waldur.keys": "waldur", "worker.lease": "3s"})
        m.waldur.settings(drop=0.3, duplicate=0.2, window_ms=200, seed=7)
        m.waldur.fault("lose_reply", every=True, probability=0.08, seed=11, path_prefix="/api/")
        orders = m.waldur.orders_in_bulk(m.catalogue, 24)
        for i in range(4):
            time.sleep(1.5)
            worker = m.stage.workers[i % 2]
            worker.kill()
            worker.start(ready=False)
        m.waldur.clear_faults()
        m.wait("done", *orders, timeout=180)
        for order in orders:
            m.wait_row(order, phase="reported", told="done")
            told = m.waldur.told(order.order)
            self.assertEqual((told["done"], told["done_refused"], told["erred"], told["erred_late"], told["erred_refused"]),
                             (1, 0, 0, 0, 0), order)
            self.assertEqual(m.waldur.resource_details(order.resource)["backend_id"], m.config(order)["name"])
            keys = m.waldur.keys(order.resource)
            self.assertEqual([k["client_id"] for k in keys], [m.config(order)["api_key"]], order)
        self.assertEqual(m.db.value("SELECT count(*) FROM waldur_delivery"), 0)
        self.assertEqual(m.db.value("SELECT count(*) FROM subscription_event"), len(orders))
        expected = {dashed(o.resource): Expected(True, True, m.config(o)["name"]) for o in orders}
        m.stage.promise(expected)
        m.assert_no_secrets()


class Keys(MarketCase):
    def test_delivery_and_rotation(self):
        m = self.market(sweep="1s", overrides={"waldur.keys": "waldur"})
        order = m.waldur.order(m.catalogue)
        m.wait("done", order)
        m.wait_row(order, phase="reported")
        uuid, first = dashed(order.resource), m.config(order)["api_key"]
        keys = m.waldur.keys(order.resource)
        self.assertEqual([(k["client_id"], k["state"]) for k in keys], [(first, "OK")])
        self.assertEqual(self.authenticate(m, keys[0]["api_key"]), (True, uuid))
        self.assertEqual(m.db.value("SELECT count(*) FROM waldur_delivery"), 0)
        m.waldur.rotate(order.resource)
        eventually(lambda: m.config(order)["api_key"] != first, 60, "the key is another", describe=m.describe)
        second = m.waldur.keys(order.resource)
        self.assertEqual([(k["client_id"], k["state"]) for k in second], [(m.config(order)["api_key"], "OK")])
        self.assertEqual(self.authenticate(m, second[0]["api_key"]), (True, uuid))
        self.assertEqual(self.authenticate(m, keys[0]["api_key"])[0], False)
        self.assertEqual(m.db.value("SELECT count(*) FROM waldur_delivery"), 0)
        m.assert_no_secrets()

    def test_order_that_people_set_done(self):
        """Before its agent is there: the key is made later, and reaches Waldur all the same."""
        m = self.market(sweep="1s", overrides={"waldur.keys": "waldur"})
        m.stage.ragflow.fault("delay", every=True, ms=2000, path_prefix="/api/")
        order = m.waldur.order(m.catalogue)
        m.wait_row(order, phase="taken")
        m.waldur.do("POST", f"marketplace-orders/{order.order}/set_state_done/")
        m.wait_row(order, phase="taken", order_state="done")
        m.stage.ragflow.clear_faults()
        m.wait_row(order, phase="reported", told="done")
        keys = m.waldur.keys(order.resource)
        self.assertEqual([(k["client_id"], k["state"]) for k in keys], [(m.config(order)["api_key"], "OK")])
        self.assertEqual(self.authenticate(m, keys[0]["api_key"]), (True, dashed(order.resource)))
        self.assertEqual(m.db.value("SELECT count(*) FROM waldur_delivery"), 0)
        m.assert_no_secrets()

    def authenticate(self, m, key):
        row = m.db.one("SELECT allowed, subscription_uuid FROM authenticate_api_key(%s, NULL)", key)
        return row["allowed"], row["subscription_uuid"]


class Hooks(MarketCase):
    def post(self, m, path, body, method="POST"):
        conn = http.client.HTTPConnection("127.0.0.1", m.worker.port, timeout=20)
        try:
            conn.request(method, path, body)
            answer = conn.getresponse()
            return answer.status, answer.read().decode(), dict(answer.getheaders())
        finally:
            conn.close()

    def body(self, order="7f3c1c1e5b1d4c1e9c550f6f0a2b8a11", **more):
        return json.dumps({"created": "2026-11-26T10:00:00+00:00", "message": "Marketplace order has been approved.",
                           "event_type": "marketplace_order_approved", "context": {"order_uuid": order, **more}})

    def test_answers(self):
        m = self.market(hooks=False)
        path = "/hooks/waldur/" + HOOK
        status, text, _ = self.post(m, path, "{")
        self.assertEqual(status, 400)
        self.assertEqual(set(json.loads(text)), {"error", "pointer", "reason"})
        status, text, _ = self.post(m, path, self.body(order="no uuid"))
        self.assertEqual((status, json.loads(text)["pointer"]), (400, "/context/order_uuid"))
        self.assertEqual(self.post(m, path, json.dumps({"created": "2026-11-26T10:00:00+00:00", "message": "",
                                                        "event_type": "user_creation_succeeded", "context": {}}))[0], 202)
        for wrong in ("", HOOK[:-1], HOOK + "x", HOOK.upper(), "x" * 200):
            status, text, _ = self.post(m, "/hooks/waldur/" + wrong, self.body())
            self.assertEqual(status, 404, wrong)
        self.assertEqual(self.post(m, path, None, method="GET")[0], 405)
        self.assertEqual(m.db.value("SELECT count(*) FROM waldur_order") + m.db.value("SELECT count(*) FROM waldur_hint"), 0)
        self.assertEqual(self.post(m, path, self.body())[0], 202)
        m.assert_no_secrets()

    def test_durable_or_refused(self):
        """With the database away: 503 and when to come again. 202 means that it is there after a kill."""
        m = self.market(hooks=False)
        path = "/hooks/waldur/" + HOOK
        order = m.waldur.order(m.catalogue)
        m.waldur.fault("status", every=True, status=503, path_prefix="/api/")
        self.assertEqual(self.post(m, path, self.body(order.order))[0], 202)
        m.worker.kill()
        m.worker.start()
        m.waldur.clear_faults()
        m.wait("done", order)
        m.stage.postgres.stop()
        try:
            status, _, headers = self.post(m, path, self.body())
            self.assertEqual(status, 503)
            self.assertGreater(int(headers["Retry-After"]), 0)
        finally:
            m.stage.postgres.start()

    def test_quick_under_load(self):
        """While agents are made, webhooks are answered; the median and the slow ones are told."""
        m = self.market(hooks=False)
        orders = m.waldur.orders_in_bulk(m.catalogue, 60)
        path = "/hooks/waldur/" + HOOK
        took = []

        def send(order):
            began = time.monotonic()
            status, _, _ = self.post(m, path, self.body(order.order))
            took.append(time.monotonic() - began)
            return status
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            self.assertEqual(set(pool.map(send, orders * 10)), {202})
        m.wait("done", *orders, timeout=180)
        self.assertEqual(m.db.value("SELECT count(*) FROM subscription_event"), len(orders))
        took.sort()
        say(f"{len(took)} webhooks: median {took[len(took) // 2] * 1000:.1f} ms, p99 {took[len(took) * 99 // 100] * 1000:.1f} "
            f"ms, slowest {took[-1] * 1000:.1f} ms")


if __name__ == "__main__":
    main()
