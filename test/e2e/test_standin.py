"""The stand-in upstreams themselves: the facade's rules, every fault, and Waldur as the harness has it."""

import http.client
import json
import resource
import socket
import threading
import time
import unittest
import uuid
from concurrent.futures import ThreadPoolExecutor

from harness import Standin, Waldur, dashed, free_port, main

TOKEN = "standin-token"


class Base(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.langflow = Standin("workspaces", TOKEN)
        cls.ragflow = Standin("collections", TOKEN)

    @classmethod
    def tearDownClass(cls):
        cls.langflow.close()
        cls.ragflow.close()

    def setUp(self):
        for standin in (self.langflow, self.ragflow):
            standin.clear_faults()
            standin.clear_log()
        self.name = f"name-{uuid.uuid4()}"

    def workspace(self, **more):
        return {"name": self.name, "flow_id": "flow-1", "variables": {"a": "1"}, **more}

    def create(self, expect=201, **more):
        status, answer, _ = self.langflow.request("POST", "/api/v1/workspaces", self.workspace(**more))
        self.assertEqual(status, expect, answer)
        return answer

    def get(self, path, standin=None):
        status, answer, _ = (standin or self.langflow).request("GET", path)
        return status, answer

    def by_name(self):
        return self.get("/api/v1/workspaces?name=" + self.name)[1]


class Facade(Base):
    def test_workspace_life(self):
        answer = self.create()
        self.assertEqual(answer.keys(), {"id", "name"})
        self.assertEqual(answer["name"], self.name)
        path = "/api/v1/workspaces/" + answer["id"]
        status, whole = self.get(path)
        self.assertEqual(status, 200)
        self.assertEqual((whole["flow_id"], whole["variables"]), ("flow-1", {"a": "1"}))
        status, whole, _ = self.langflow.request("PATCH", path, {"variables": {"b": "2", "a": "3"}})
        self.assertEqual((status, whole["variables"]), (200, {"a": "3", "b": "2"}))
        self.assertEqual(self.by_name(), [whole])
        self.assertEqual(self.langflow.request("DELETE", path)[0], 204)
        for method in ("GET", "DELETE", "PATCH"):
            status, answer, _ = self.langflow.request(method, path, {} if method == "PATCH" else None)
            self.assertEqual((method, status), (method, 404))
            self.assertIn("detail", answer)
        self.assertEqual(self.by_name(), [])

    def test_collection_life(self):
        body = {"name": self.name, "embedding_model": "m", "chunk_size": 512, "chunk_overlap": 50,
                "description": "waldur-subscription:x"}
        status, answer, _ = self.ragflow.request("POST", "/api/v1/collections", body)
        self.assertEqual(status, 201)
        path = "/api/v1/collections/" + answer["id"]
        status, whole = self.get(path, self.ragflow)
        self.assertEqual({k: whole[k] for k in body}, body)
        self.assertEqual(self.ragflow.request("PATCH", path, {})[0], 405)
        mine = [o for o in self.ragflow.objects() if o["object"]["id"] == answer["id"]]
        self.assertEqual([(o["marker"], o["planted"]) for o in mine], [("waldur-subscription:x", False)])
        self.assertEqual(self.ragflow.request("DELETE", path)[0], 204)
        self.assertEqual(self.get(path, self.ragflow)[0], 404)

    def test_taken_name(self):
        self.create()
        self.assertIn("detail", self.create(expect=409))
        self.assertEqual(len(self.by_name()), 1)

    def test_bad_bodies(self):
        def post(standin, body):
            status, answer, _ = standin.request("POST", standin.root, body)
            self.assertIn("detail", answer)
            return status

        self.assertEqual(post(self.langflow, b"{not json"), 400)
        self.assertEqual(post(self.langflow, b'{"name":"a","name":"b"}'), 400)
        for bad in ([], {}, {"name": self.name}, self.workspace(name=7), self.workspace(name=""),
                    self.workspace(name="x" * 129), self.workspace(variables=[]), self.workspace(flow_id=None)):
            self.assertEqual(post(self.langflow, bad), 422, bad)
        good = {"name": self.name, "embedding_model": "m"}
        for bad in ({"chunk_size": 0}, {"chunk_size": "512"}, {"chunk_overlap": -1}, {"description": 1},
                    {"embedding_model": None}, {"chunk_size": 1.5}):
            self.assertEqual(post(self.ragflow, {**good, **bad}), 422, bad)
        status, answer, _ = self.langflow.request("POST", "/api/v1/workspaces", b" " * (1024 * 1024 + 1))
        self.assertEqual(status, 413)
        self.assertEqual(self.by_name(), [])

    def test_authorization(self):
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic " + TOKEN},
                        {"Authorization": "Bearez " + TOKEN}, {"Authorization": TOKEN}):
            status, answer, _ = self.langflow.request("POST", "/api/v1/workspaces", self.workspace(), token="",
                                                      headers=headers)
            self.assertEqual(status, 401)
            self.assertIn("detail", answer)
        self.assertEqual(self.by_name(), [])

    def test_other_paths(self):
        self.assertEqual(self.get("/health")[0], 200)
        self.assertEqual(self.get("/api/v1/collections")[0], 404)
        self.assertEqual(self.get("/api/v1/workspaces/a/b")[0], 404)
        self.assertEqual(self.get("/api/v1/workspacesX")[0], 404)
        self.assertEqual(self.langflow.request("PUT", "/api/v1/workspaces", {})[0], 405)


class Admin(Base):
    def test_objects_in_order(self):
        marker = "waldur-subscription:" + str(uuid.uuid4())
        first = self.create(variables={"waldur_subscription": marker})
        foreign = {"name": self.name, "whatever": [1, {"x": None}], "variables": {"k": "v"}}
        planted = self.langflow.plant([foreign, {**foreign, "id": "foreign/" + self.name}])
        self.assertEqual(planted[1], "foreign/" + self.name)
        objects = [o for o in self.langflow.objects() if o["object"]["name"] == self.name]
        self.assertEqual([o["object"]["id"] for o in objects], [first["id"], *planted])
        self.assertEqual([o["marker"] for o in objects], [marker, None, None])
        self.assertEqual([o["planted"] for o in objects], [False, True, True])
        self.assertEqual({k: v for k, v in objects[1]["object"].items() if k != "id"}, foreign)
        self.assertEqual(len(self.by_name()), 3)
        self.langflow.request("PATCH", "/api/v1/workspaces/" + planted[0], {"variables": {"k": "w"}})
        changed = [o for o in self.langflow.objects() if o["object"]["id"] == planted[0]]
        self.assertEqual((changed[0]["changes"], changed[0]["object"]["variables"]), (1, {"k": "w"}))

    def test_log(self):
        traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        self.langflow.request("GET", "/api/v1/workspaces?name=a%20b", headers={"traceparent": traceparent,
                                                                               "X-Request-Id": "r-1"})
        self.create()
        get, post = self.langflow.log()
        self.assertEqual((get["method"], get["path"], get["query"]), ("GET", "/api/v1/workspaces", {"name": "a b"}))
        self.assertEqual((get["headers"]["traceparent"], get["headers"]["x-request-id"]), (traceparent, "r-1"))
        self.assertEqual((get["status"], get["fault"], get["acted"]), (200, None, True))
        self.assertEqual(json.loads(post["body"]), self.workspace())
        self.assertEqual((post["status"], post["n"]), (201, get["n"] + 1))
        self.assertNotIn(TOKEN, json.dumps([get, post]))
        self.langflow.clear_log()
        self.assertEqual(self.langflow.log(), [])

    def test_bad_rules(self):
        for bad in ({}, {"fault": {"kind": "nonsense"}}, {"fault": {"kind": "delay", "ms": -1}},
                    {"match": {"path_regex": "("}, "fault": {"kind": "delay"}},
                    {"match": {"nth": 0}, "fault": {"kind": "delay"}},
                    {"fault": {"kind": "status", "headers": {"a": "b\r\nc"}}}):
            status, answer, _ = self.langflow.request("POST", "/admin/faults", bad, token="")
            self.assertEqual(status, 422, bad)
            self.assertIn("detail", answer)
        self.assertEqual(self.langflow.faults(), [])

    def test_matching(self):
        fault = self.langflow.fault
        fault("status", method="POST", nth=2, count=2, status=418)
        fault("status", path_regex="/workspaces/[0-9]+$", every=True, status=419)
        fault("status", method="PATCH", body_contains="needle", every=True, count=1, status=420)
        posts = [self.langflow.request("POST", "/api/v1/workspaces", {})[0] for _ in range(5)]
        self.assertEqual(posts, [422, 418, 418, 422, 422])
        self.assertEqual([self.get("/api/v1/workspaces/12")[0] for _ in range(3)], [419] * 3)
        self.assertEqual(self.get("/api/v1/workspaces/x12y")[0], 404)
        patches = [self.langflow.request("PATCH", "/api/v1/workspaces/a", {"x": x})[0]
                   for x in ("hay", "needle", "needle")]
        self.assertEqual(patches, [404, 420, 404])
        self.assertEqual([(r["seen"], r["fired"]) for r in self.langflow.faults()], [(5, 2), (3, 3), (2, 1)])

    def test_matching_by_trace(self):
        trace = "4bf92f3577b34da6a3ce929d0e0e4736"
        self.langflow.fault("status", trace=trace, nth=2, status=418)

        def get(**headers):
            return self.langflow.request("GET", "/api/v1/workspaces/a", headers=headers)[0]

        mine, other = f"00-{trace}-00f067aa0ba902b7-01", f"00-{trace[::-1]}-00f067aa0ba902b7-01"
        self.assertEqual([get(traceparent=mine), get(traceparent=other), get(), get(traceparent=mine)],
                         [404, 404, 404, 418])
        self.assertEqual(self.langflow.faults()[0]["seen"], 2)

    def test_probability_is_seeded(self):
        def run():
            self.langflow.clear_faults()
            self.langflow.fault("status", path_prefix="/api", probability=0.3, seed=7, status=418)
            return [self.get("/api/v1/workspaces/a")[0] for _ in range(200)]

        first = run()
        self.assertEqual(first, run())
        self.assertTrue(30 < first.count(418) < 90, first.count(418))


class Faults(Base):
    def raw_create(self, timeout=30):
        """All bytes of the answer to a create, on a connection of its own."""
        body = json.dumps(self.workspace()).encode()
        head = (f"POST /api/v1/workspaces HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
                f"Content-Length: {len(body)}\r\n\r\n").encode()
        with socket.create_connection(("127.0.0.1", self.langflow.port), timeout=timeout) as s:
            s.sendall(head + body)
            answer = b""
            while True:
                part = s.recv(65536)
                answer += part
                if not part or (b"\r\n\r\n" in answer and self.complete(answer)):
                    return answer

    @staticmethod
    def complete(answer):
        head, body = answer.split(b"\r\n\r\n", 1)
        for line in head.split(b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                return len(body) >= int(line.split(b":")[1])
        return False

    def test_lose_reply(self):
        self.langflow.fault("lose_reply", method="POST")
        self.assertEqual(self.raw_create(), b"")
        self.assertEqual(len(self.by_name()), 1)
        post = self.langflow.mutations()[0]
        self.assertEqual((post["status"], post["fault"], post["acted"]), (0, "lose_reply", True))

    def test_drop_before(self):
        self.langflow.fault("drop_before", method="POST")
        self.assertEqual(self.raw_create(), b"")
        self.assertEqual(self.by_name(), [])
        self.create()

    def test_fail_before(self):
        self.langflow.fault("fail_before", method="POST", status=503, body={"detail": "busy"})
        self.assertEqual(self.create(expect=503), {"detail": "busy"})
        self.assertEqual(self.by_name(), [])

    def test_status_after_acting(self):
        self.langflow.fault("status", method="POST", act=True, status=504, headers={"Retry-After": "7"})
        status, _, headers = self.langflow.request("POST", "/api/v1/workspaces", self.workspace())
        self.assertEqual((status, headers["Retry-After"]), (504, "7"))
        self.assertEqual(len(self.by_name()), 1)

    def test_malformed(self):
        self.langflow.fault("fail_before", method="POST", status=422, echo=True)
        status, answer, _ = self.langflow.request("POST", "/api/v1/workspaces", {"name": "said \"again\""})
        self.assertEqual((status, json.loads(answer["detail"][0]["input"])), (422, {"name": "said \"again\""}))
        self.langflow.fault("malformed", method="POST")
        answer = self.create()
        self.assertIsInstance(answer, bytes)
        self.assertEqual(len(self.by_name()), 1)

    def test_truncate(self):
        self.langflow.fault("truncate", method="POST")
        with self.assertRaises(http.client.IncompleteRead):
            self.create()
        self.assertEqual(len(self.by_name()), 1)

    def test_delay_waits_before_and_delay_reply_after_acting(self):
        for kind, there in (("delay", 0), ("delay_reply", 1)):
            with self.subTest(kind):
                self.setUp()
                self.name += kind
                self.langflow.fault(kind, method="POST", ms=600)
                began = time.monotonic()
                thread = threading.Thread(target=self.create)
                thread.start()
                time.sleep(0.2)
                self.assertEqual(len(self.by_name()), there)
                thread.join()
                self.assertGreaterEqual(time.monotonic() - began, 0.6)
                self.assertEqual(len(self.by_name()), 1)

    def test_hang_until_released(self):
        self.langflow.fault("hang", method="POST", every=True)
        with self.assertRaises(TimeoutError):
            self.raw_create(timeout=0.3)
        answers = []
        thread = threading.Thread(target=lambda: answers.append(self.raw_create()))
        thread.start()
        time.sleep(0.2)
        self.langflow.clear_faults()
        thread.join(10)
        self.assertEqual(answers, [b""])
        self.assertEqual(self.by_name(), [])

    def test_down_cuts_off_and_comes_back(self):
        self.langflow.down(500)
        self.assertEqual(self.raw_create(), b"")
        self.assertEqual(self.langflow.mutations()[0]["fault"], "down")
        time.sleep(0.6)
        self.create()
        self.langflow.down(60000)
        self.assertEqual(self.raw_create(), b"")
        self.langflow.down(0)
        self.assertEqual(len(self.by_name()), 1)

    def test_down_refuses_and_comes_back_on_the_same_port(self):
        self.langflow.down(500, refuse=True)
        with self.assertRaises(ConnectionRefusedError):
            self.raw_create()
        time.sleep(0.7)
        self.create()

    def test_thousands_wait_at_once(self):
        n = 5000
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (n + 200, limits[1]))  # a login has 1024
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        self.langflow.fault("delay", method="GET", path_prefix="/api/", every=True, ms=2500)
        head = (f"GET /api/v1/workspaces/none HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
                "Connection: close\r\n\r\n").encode()
        began = time.monotonic()
        sockets = []
        for _ in range(n):
            s = socket.create_connection(("127.0.0.1", self.langflow.port), timeout=60)
            s.sendall(head)
            sockets.append(s)
        self.assertEqual(self.get("/health")[0], 200)
        answers = []
        for s in sockets:
            answers.append(s.recv(4096)[:12])
            s.close()
        took = time.monotonic() - began
        self.assertEqual(answers.count(b"HTTP/1.1 404"), n)
        self.assertLess(took, 30)
        print(f"{n} delayed requests in {took:.1f} s", flush=True)


class Ending(unittest.TestCase):
    def test_ends_cleanly_with_requests_under_way(self):
        standin = Standin("workspaces", TOKEN)
        standin.fault("hang", every=True, path_prefix="/api/")
        standin.fault("delay", every=True, path_prefix="/slow", ms=60000)
        sockets = []
        for path in ("/api/v1/workspaces", "/slow/x"):
            s = socket.create_connection(("127.0.0.1", standin.port), timeout=10)
            s.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            sockets.append(s)
        time.sleep(0.2)
        standin.close()
        for s in sockets:
            self.assertEqual(s.recv(100), b"")
            s.close()


class WaldurHarness(unittest.TestCase):
    """What other tests use of it; test/contract/waldur.py says what the stand-in itself does."""

    @classmethod
    def setUpClass(cls):
        cls.waldur = Waldur()
        cls.catalogue = cls.waldur.catalogue()

    @classmethod
    def tearDownClass(cls):
        cls.waldur.close()

    def finish(self, order):
        self.waldur.do("POST", f"marketplace-orders/{dashed(order.order)}/approve_by_provider/", {})
        self.waldur.do("POST", f"marketplace-provider-resources/{order.resource}/set_backend_id/",
                       {"backend_id": "ws-" + order.resource})
        self.waldur.do("POST", f"marketplace-orders/{order.order}/set_state_done/")

    def test_orders_in_bulk(self):
        began = time.monotonic()
        orders = self.waldur.orders_in_bulk(self.catalogue, 500)
        took = time.monotonic() - began
        print(f"500 orders in {took:.2f} s", flush=True)
        self.assertLess(took, 20)
        open_ones = self.waldur.pages("marketplace-orders/", state=["pending-provider", "executing"], field="uuid")
        self.assertLessEqual({o.order for o in orders}, {o["uuid"] for o in open_ones})
        with ThreadPoolExecutor(50) as pool:
            list(pool.map(self.finish, orders))
        shown = self.waldur.wait("done", orders)
        self.assertEqual({o["resource_state"] for o in shown}, {"OK"})
        self.assertEqual({o["backend_id"] for o in shown}, {"ws-" + o.resource for o in orders})
        self.assertEqual(self.waldur.told(orders[0].order)["done"], 1)
        calls = self.waldur.counters()["calls"]
        self.assertGreaterEqual(calls["POST marketplace-orders/{}/set_state_done/"], 500)

    def test_a_life(self):
        order = self.waldur.order(self.catalogue, state="pending-consumer")
        self.waldur.act(order.order, "approve")
        self.finish(order)
        self.waldur.pause(order.resource)
        self.assertTrue(self.waldur.resource_details(order.resource)["paused"])
        self.waldur.resume(order.resource)
        end = self.waldur.expire(order.resource)
        self.assertEqual(self.waldur.order_details(end.order)["created_by_username"], "system_robot")
        self.finish(end)
        again = self.waldur.restore(order.resource)
        self.assertEqual(again.resource, order.resource)
        self.finish(again)
        self.waldur.wait("done", [order, end, again])
        self.waldur.unlink(order.resource)
        types = [e["event_type"] for e in self.waldur.events(resource_uuid=order.resource)]
        self.assertEqual((types[0], types[-1]), ("marketplace_resource_create_requested",
                                                 "marketplace_resource_unlinked"))

    def test_texts(self):
        order = self.waldur.order(self.catalogue, state="executing")
        self.waldur.do("POST", f"marketplace-orders/{order.order}/set_state_erred/",
                       {"error_message": "planted-message", "error_traceback": "planted-trace"})
        self.assertIn(("marketplace-orders/{}/set_state_erred/", "planted-trace"), self.waldur.texts())
        self.assertEqual(self.waldur.wait("erred", [order])[0]["error_message"], "planted-message")

    def test_webhooks(self):
        """Nobody listens: they fail, once each, and what was fired is still told."""
        url = f"http://127.0.0.1:{free_port()}/hooks/waldur/secret"
        hook = self.waldur.hook(url, event_types=["marketplace_order_approved"])
        before = self.waldur.settings(drop=0.5, seed=3)
        orders = self.waldur.orders_in_bulk(self.catalogue, 20, state="executing")
        outcomes = [d["outcome"] for d in self.waldur.wait_sent() if d["url"] == url]
        self.waldur.settings(**before)
        self.waldur.do("DELETE", f"hooks-web/{hook}/")
        self.assertEqual((len(outcomes), set(outcomes)), (20, {"failed", "dropped"}))
        fired = {e["context"]["order_uuid"] for e in self.waldur.events(event_type="marketplace_order_approved")}
        self.assertLessEqual({o.order for o in orders}, fired)


if __name__ == "__main__":
    main()
