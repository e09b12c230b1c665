#!/usr/bin/env python3
"""What the worker relies on in Waldur.

Run through ctest it holds the stand-in, in each version that it plays, to the schemas that Waldur publishes
(waldur-8.0.5-subset.json: every answer, every request that is not meant to be refused) and to what Waldur's sources
were read to do where they surprise. Against a live server only what changes nothing is run:

  WALDUR_URL=https://waldur.example WALDUR_TOKEN=... test/contract/waldur.py

  WALDUR_PROFILE   24 or 26: what to expect of the server (default 26)
"""

import concurrent.futures
import http.client
import http.server
import json
import os
import re
import sys
import threading
import time
import unittest
import urllib.parse
import uuid

import jsonschema

from http_api import PrivateStandin, call

PROFILES = ("26", "24")
TOKEN = "provider-token"
HEX = re.compile(r"^[0-9a-f]{32}$")
NOBODY = "0" * 31 + "1"

with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "waldur-8.0.5-subset.json"), encoding="utf-8") as f:
    PUBLISHED = json.load(f)

# What came after 8.0.5: calls, and members of what is shown.
NEWER_CALLS = re.compile(r"^(GET|POST|HEAD) /api/(marketplace-resource-api-keys/.*|marketplace-orders/[^/]+/retry/"
                         r"|marketplace-provider-resources/[^/]+/set_endpoints/)$")
NEWER_MEMBERS = {"Resource": {"has_api_keys"}}
# Declared and not played: pictures (null in truth, which the schema does not allow), and what only other plugins fill.
NOT_PLAYED = {
    "OrderDetails": {"category_icon", "consumer_message", "consumer_message_attachment", "offering_image",
                     "offering_thumbnail", "created_by_organization_registry_code", "provider_message_attachment",
                     "provider_message_url", "plan"},
    "Resource": {"available_actions", "category_icon", "end_date_requested_by", "limit_usage", "offering_components",
                 "offering_image", "offering_thumbnail", "parent_name", "parent_offering_name", "parent_offering_slug",
                 "parent_offering_uuid", "parent_uuid", "project_end_date", "project_end_date_requested_by",
                 "renewal_date", "scope", "service_settings_uuid", "user_requires_reconsent", "username", "plan"},
}


# ---- the schemas ----

checker = jsonschema.FormatChecker(formats=())
checker.checks("uuid", ValueError)(lambda v: not isinstance(v, str) or bool(uuid.UUID(v)))
checker.checks("uri")(lambda v: not isinstance(v, str) or bool(urllib.parse.urlsplit(v).scheme))
checker.checks("date-time")(
    lambda v: not isinstance(v, str) or bool(re.match(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$", v)))
checker.checks("date")(lambda v: not isinstance(v, str) or bool(re.match(r"^\d{4}-\d\d-\d\d$", v)))
checker.checks("email")(lambda v: not isinstance(v, str) or "@" in v)


def plain(schema, name=None):
    """OpenAPI 3.0's as JSON Schema: null as a type, and of a named object no member that is not declared."""
    if isinstance(schema, list):
        return [plain(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {k: ({n: plain(s) for n, s in v.items()} if k == "properties" else plain(v)) for k, v in schema.items()}
    if name and "properties" in made and "additionalProperties" not in made and name not in OPEN:
        made["properties"].update({member: {} for member in NEWER_MEMBERS.get(name, ())})
        made["additionalProperties"] = False
    if made.pop("nullable", False):
        made = {"anyOf": [made, {"type": "null"}]}
    return made


OPEN = {"BackendMetadata"}  # whatever the provider set
SCHEMAS = {"components": {"schemas": {name: plain(s, name)
                                      for name, s in PUBLISHED["components"]["schemas"].items()}}}
RESOLVER = jsonschema.RefResolver("", SCHEMAS)


def check(schema, value, where):
    errors = sorted(jsonschema.Draft7Validator(plain(schema), resolver=RESOLVER, format_checker=checker)
                    .iter_errors(value), key=str)
    if errors:
        raise AssertionError(f"{where}: " + "; ".join(
            f"/{'/'.join(str(p) for p in e.absolute_path)}: {e.message[:300]}" for e in errors[:5]))


def operation(method, path):
    """The published one, or None for what is newer."""
    for template, methods in PUBLISHED["paths"].items():
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path):
            if method.lower() in methods:
                return methods[method.lower()]
    if NEWER_CALLS.match(f"{method} {path}"):
        return None
    raise AssertionError(f"{method} {path} is no call of Waldur's")


def json_schema(part):
    return part.get("content", {}).get("application/json", {}).get("schema")


# ---- servers ----

class StandinServer:
    live = False

    def __init__(self, profile):
        self.profile, self.token = profile, TOKEN
        self.standin = PrivateStandin("waldur", TOKEN, profile)
        self.url = self.standin.url

    def close(self):
        self.standin.close()


class LiveServer:
    live = True
    standin = None

    def __init__(self):
        self.url, self.token = os.environ["WALDUR_URL"].rstrip("/"), os.environ["WALDUR_TOKEN"]
        self.url = self.url[:-len("/api")] if self.url.endswith("/api") else self.url
        self.profile = os.environ.get("WALDUR_PROFILE", "26")

    def close(self):
        pass


class Receiver:
    """Where webhooks are sent to: keeps the requests, in order. hold: an event before which it answers nothing."""

    def __init__(self, status=200, hold=None):
        self.requests, self.lock = [], threading.Lock()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if hold:
                    hold.wait(60)
                with receiver.lock:
                    parsed = json.loads(body) if self.headers["Content-Type"] == "application/json" else body.decode()
                    receiver.requests.append((self.path, dict(self.headers), parsed))
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args):
                pass
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook/secret"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def bodies(self):
        with self.lock:
            return [body for _, _, body in self.requests]

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


class Base:
    profile = None  # a stand-in's; None: the live server
    only = None     # the one profile that it is about; None: each

    @classmethod
    def setUpClass(cls):
        cls.server = StandinServer(cls.profile) if cls.profile else LiveServer()
        cls.standin = cls.server.standin
        cls.old = cls.server.profile == "24"
        if cls.standin:
            cls.provider, = cls.plant({"kind": "customer", "name": "AI Provider"})
            cls.customer, = cls.plant({"kind": "customer", "name": "Acme Corp", "abbreviation": "ACME"})
            cls.project, = cls.plant({"kind": "project", "name": "Website Support", "customer": cls.customer})
            cls.offering, = cls.plant({"kind": "offering", "name": "Support Agent", "customer": cls.provider,
                                       "plugin_options": {"can_restore_resource": True}})
            cls.plan, = cls.plant({"kind": "plan", "name": "pro", "offering": cls.offering})

    @classmethod
    def tearDownClass(cls):
        cls.server.close()

    @classmethod
    def plant(cls, *things):
        return cls.standin.admin("POST", "/objects", list(things))["ids"]

    # ---- requests ----

    def ask(self, method, path, body=None, token=None, **more):
        """path below /api/. Every answer is held to the schemas, and every request that is not refused."""
        authorization = None if token == "" else "Token " + (token or self.server.token)
        answer = call(self.server.url, method, "/api/" + path, body, authorization, **more)
        self.hold(method, "/api/" + path.partition("?")[0], body, answer)
        return answer

    def hold(self, method, path, body, answer):
        where = f"{method} {path} -> {answer.status}"
        if answer.status in (401, 403, 404, 405, 409, 415):
            if isinstance(answer.body, dict):
                self.assertEqual(list(answer.body), ["detail"], where)
                self.assertIsInstance(answer.body["detail"], str, where)
            return
        if answer.status == 400:
            self.assertIsInstance(answer.body, (dict, list), where)
            return
        if answer.status >= 300:
            return
        known = operation(method, path)
        if known is None:
            return
        wanted = json_schema(known.get("requestBody", {}))
        if wanted is not None and body is not None:
            check(wanted, body, "the request of " + where)
        self.assertIn(str(answer.status), known["responses"], where)
        shape = json_schema(known["responses"][str(answer.status)])
        if answer.text:
            self.assertIsNotNone(shape, f"{where}: nothing is declared, and there is {answer}")
            check(shape, answer.body, where)
        elif not self.old:  # the older one answers approvals with nothing
            self.assertIsNone(shape, where + ": there should be a body")

    def good(self, method, path, body=None, status=200, **more):
        answer = self.ask(method, path, body, **more)
        self.assertEqual(answer.status, status, f"{method} {path} {body}: {answer}")
        return answer

    def bad(self, status, method, path, body=None, says=None, **more):
        answer = self.ask(method, path, body, **more)
        self.assertEqual(answer.status, status, f"{method} {path} {body}: {answer}")
        if says:
            self.assertIn(says, answer.text)
        return answer

    def admin(self, method, path, body=None):
        return self.standin.admin(method, path, body)

    def settings(self, **settings):
        before = self.admin("POST", "/settings", settings)
        self.addCleanup(self.admin, "POST", "/settings", before)

    # ---- orders ----

    def place(self, state="pending-provider", **more):
        wanted = {"project": self.project, "offering": self.offering, "plan": self.plan, "name": "my-agent",
                  "attributes": {"name": "my-agent"}, "limits": {"agents": 1}, "state": state, **more}
        made, = self.admin("POST", "/orders", wanted)["orders"]
        return made["order"], made["resource"]

    def about(self, resource, action, **body):
        return self.admin("POST", f"/resources/{resource}/{action}", body)["order"]

    def order(self, order):
        return self.good("GET", f"marketplace-orders/{order}/").body

    def resource(self, resource):
        return self.good("GET", f"marketplace-provider-resources/{resource}/").body

    def tell(self, order, what, body=None, status=200):
        return self.good("POST", f"marketplace-orders/{order}/{what}/", body, status)

    def set_backend_id(self, resource, backend_id="ws-1"):
        return self.good("POST", f"marketplace-provider-resources/{resource}/set_backend_id/",
                         {"backend_id": backend_id})

    def finished(self, **more):
        """The order and resource of a Create that is done."""
        order, resource = self.place("executing", **more)
        self.set_backend_id(resource)
        self.tell(order, "set_state_done")
        return order, resource

    ERROR = {"error_message": "it broke", "error_traceback": "at line 1"}

    def erred(self, order, status=200):
        return self.good("POST", f"marketplace-orders/{order}/set_state_erred/", self.ERROR, status)

    def states(self, order, resource):
        return self.order(order)["state"], self.resource(resource)["state"]

    # ---- webhooks ----

    def receiver(self, **more):
        receiver = Receiver(**more)
        self.addCleanup(receiver.close)
        return receiver

    def hook(self, url, **more):
        made = self.admin("POST", "/hooks", {"url": url, **more})["uuid"]
        self.addCleanup(self.ask, "DELETE", f"hooks-web/{made}/")
        return made

    def sent(self):
        """The deliveries, when none waits any more."""
        until = time.monotonic() + 30
        while True:
            answer = self.admin("GET", "/deliveries")
            if not answer["waiting"]:
                return answer["deliveries"]
            self.assertLess(time.monotonic(), until, "webhooks are not sent")
            time.sleep(0.02)


# ---- what may be run against a live server ----

class Reading(Base):
    """Changes nothing."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        if cls.standin:
            wanted = {"project": cls.project, "offering": cls.offering, "plan": cls.plan, "name": "reading"}
            cls.standin.admin("POST", "/orders", [dict(wanted, name=f"reading-{i}") for i in range(25)])

    def test_who_and_what(self):
        self.assertTrue(self.good("GET", "users/me/").body["uuid"])
        self.assertEqual(list(self.good("GET", "users/me/?field=uuid").body), ["uuid"])
        self.assertTrue(self.good("GET", "version/").body["version"])

    def test_tokens(self):
        for token, says in (("", "Authentication credentials were not provided."), ("f" * 40, "Invalid token.")):
            for path in ("marketplace-orders/", "users/me/"):
                answer = self.bad(401, "GET", path, says=says, token=token)
                self.assertIn("WWW-Authenticate", answer.headers)

    def test_lists(self):
        for path in ("marketplace-orders/", "marketplace-provider-resources/", "events/", "hooks-web/"):
            answer = self.good("GET", path + "?page_size=5")
            self.assertLessEqual(len(answer.body), 5)
            self.assertGreaterEqual(int(answer.headers["X-Result-Count"]), len(answer.body))
            head = self.good("HEAD", path)
            self.assertEqual((head.text, head.headers["X-Result-Count"]), ("", answer.headers["X-Result-Count"]))

    def test_one_of_each(self):
        for path in ("marketplace-orders/", "marketplace-provider-resources/"):
            for row in self.good("GET", path + "?page_size=3").body:
                self.assertRegex(row["uuid"], HEX)
                for spelling in (row["uuid"], str(uuid.UUID(row["uuid"]))):
                    self.assertEqual(self.good("GET", f"{path}{spelling}/").body["uuid"], row["uuid"])
                few = self.good("GET", f"{path}{row['uuid']}/?field=state&field=uuid").body
                self.assertEqual(set(few), {"state", "uuid"})

    def test_nothing_there(self):
        for path in ("marketplace-orders/", "marketplace-provider-resources/"):
            self.bad(404, "GET", f"{path}{NOBODY}/")
            self.bad(404, "GET", path + "?page=100000", says="Invalid page.")
            self.bad(404, "GET", path + "?page=none")

    def test_filters_that_are_none(self):
        self.bad(400, "GET", "marketplace-orders/?state=finished", says="is not one of the available choices")
        self.bad(400, "GET", "marketplace-orders/?state=done&state=finished")
        self.bad(400, "GET", "marketplace-orders/?offering_uuid=none", says="Enter a valid UUID.")
        self.bad(400, "GET", "marketplace-orders/?modified=yesterday", says="Enter a valid date/time.")

    def test_default_order(self):
        created = [row["created"] for row in self.good("GET", "marketplace-orders/?page_size=100").body]
        self.assertEqual(created, sorted(created))

    def test_a_slash_is_missing(self):
        answer = call(self.server.url, "GET", "/api/marketplace-orders?state=done", None, "Token " + self.server.token)
        self.assertEqual(answer.status, 301)
        self.assertIn("/api/marketplace-orders/?state=done", answer.headers["Location"])


# ---- the stand-in alone ----

class Lists(Base):
    def walk(self, path):
        rows = []
        while path:
            answer = self.good("GET", path)
            rows += answer.body
            links = dict((rel, url) for url, rel in re.findall(r'<([^>]+)>; rel="(\w+)"', answer.headers["Link"]))
            self.assertIn("first", links)
            self.assertIn("last", links)
            path = links["next"].partition("/api/")[2] if "next" in links else None
        return rows

    def test_pages(self):
        offering, = self.plant({"kind": "offering", "name": "Pages", "customer": self.provider})
        placed = [self.place(offering=offering)[0] for _ in range(25)]
        only = f"marketplace-orders/?offering_uuid={offering}"
        self.assertEqual(len(self.good("GET", only).body), 10)
        self.assertEqual([r["uuid"] for r in self.walk(only)], placed)
        self.assertEqual([r["uuid"] for r in self.walk(only + "&page_size=7&field=uuid&field=state")], placed)
        self.assertEqual([r["uuid"] for r in self.walk(only + "&o=-created")], placed[::-1])
        last = self.good("GET", only + "&page=3")
        self.assertEqual((len(last.body), last.headers["X-Result-Count"]), (5, "25"))
        self.assertNotIn('rel="next"', last.headers["Link"])
        self.assertIn('rel="prev"', last.headers["Link"])
        self.bad(404, "GET", only + "&page=4", says="Invalid page.")
        self.assertEqual(self.good("GET", only + "&state=done").body, [])  # the first page is always there
        self.assertEqual(len(self.good("GET", only + "&page_size=0").body), 10)

    def test_largest_page(self):
        offering, = self.plant({"kind": "offering", "name": "Large", "customer": self.provider})
        self.admin("POST", "/orders", [{"project": self.project, "offering": offering}] * 310)
        rows = self.good("GET", f"marketplace-orders/?offering_uuid={offering}&page_size=1000&field=uuid").body
        self.assertEqual(len(rows), 300 if self.old else 100)

    def test_rows_are_skipped_by_who_changes_them(self):
        """Page by page through what leaves the filter: every second page is missed."""
        offering, = self.plant({"kind": "offering", "name": "Leaving", "customer": self.provider})
        for _ in range(20):
            self.place(offering=offering)
        only = f"marketplace-orders/?offering_uuid={offering}&state=pending-provider"
        for row in self.good("GET", only).body:
            self.tell(row["uuid"], "approve_by_provider", {})
        self.bad(404, "GET", only + "&page=2", says="Invalid page.")
        self.assertEqual(len(self.good("GET", only).body), 10)

    def test_filters(self):
        offering, = self.plant({"kind": "offering", "name": "Filters", "customer": self.provider, "slug": "Filters_1"})
        done, resource = self.finished(offering=offering)
        pending, _ = self.place(offering=offering, name="other")
        executing, _ = self.place("executing", offering=offering)
        update = self.about(resource, "update", limits={"agents": 2})
        mine = f"offering_uuid={offering}"
        created = urllib.parse.quote(self.order(pending)["created"])
        changed = urllib.parse.quote(self.order(executing)["modified"])
        for query, wanted in ((mine, [done, pending, executing, update]),
                              (f"{mine}&state=pending-provider&state=executing", [pending, executing, update]),
                              (f"{mine}&state=done&type=Update", []),
                              (f"{mine}&type=Update&type=Create&state=pending-provider", [pending, update]),
                              (f"{mine}&resource_uuid={resource}", [done, update]),
                              (f"{mine}&resource={resource}", [done, update]),
                              (f"offering_slug=Filters_1&resource_name=OTHER", [pending]),
                              (f"{mine}&created={created}", [pending, executing, update]),
                              (f"{mine}&modified={changed}", [executing, update]),
                              (f"{mine}&project_uuid={uuid.UUID(self.project)}&state=done", [done]),
                              (f"{mine}&customer_uuid={self.provider}", []),
                              (f"{mine}&customer_uuid={self.customer}&state=done", [done]),
                              (f"{mine}&provider_uuid={self.provider}&state=done", [done]),
                              (f"{mine}&can_approve_as_provider=true", [pending, update]),
                              (f"{mine}&state=", [done, pending, executing, update]),
                              (f"offering_uuid={NOBODY}&offering_uuid={offering}&state=done", [done])):
            rows = self.good("GET", "marketplace-orders/?" + query).body
            self.assertEqual([r["uuid"] for r in rows], wanted, query)
        before = [r["uuid"] for r in self.good("GET", f"marketplace-orders/?{mine}&modified_before={changed}").body]
        # The older one does not know the argument, says nothing, and shows everything.
        self.assertEqual(before, [done, pending, executing, update] if self.old else [done, pending])
        ignored = self.admin("GET", "/counters")["ignored_arguments"]
        self.assertEqual("modified_before" in ignored, self.old)
        self.bad(400, "GET", "marketplace-orders/?o=modified", says="not one of the available choices")
        rows = self.good("GET", f"marketplace-provider-resources/?{mine}&state=OK&backend_id=ws-1").body
        self.assertEqual([r["uuid"] for r in rows], [resource])

    def test_a_misspelled_filter_is_counted(self):
        before = self.admin("GET", "/counters")["ignored_arguments"].get("sate", 0)
        self.good("GET", "marketplace-orders/?sate=done")
        self.assertEqual(self.admin("GET", "/counters")["ignored_arguments"]["sate"], before + 1)

    def test_every_member(self):
        """What the schema declares is shown, but for what is said above."""
        order, resource = self.finished()
        newer = {"OrderDetails": {"slug", "backend_id", "order_subtype"}, "Resource": {"customer_slug", "project_slug"}}
        for name, shown in (("OrderDetails", self.order(order)), ("Resource", self.resource(resource))):
            declared = set(PUBLISHED["components"]["schemas"][name]["properties"]) - NOT_PLAYED[name]
            self.assertEqual(declared - set(shown) - {"plan"}, newer[name] if self.old else set())

    def test_names(self):
        order, resource = self.finished()
        shown = self.order(order)
        self.assertEqual((shown["marketplace_resource_uuid"], shown["resource_uuid"]), (resource, None))
        self.assertEqual((shown["plan_name"], shown["offering_type"]), ("pro", "Marketplace.Slurm"))
        self.assertEqual(shown["customer_slug"], "acme-cor-1" if self.old else "acme-corp")
        self.assertEqual(shown["project_slug"], "website-1" if self.old else "website-su")
        self.assertNotIn("offering_slug", shown)
        self.assertEqual("customer_slug" in self.resource(resource), not self.old)

    def test_slugs(self):
        """They change under whoever keeps them, and a name that is all Greek may have none."""
        customer, again, greek = self.plant(*({"kind": "customer", "name": n} for n in ("Slug", "Slug", "Ελλάς")))
        projects = self.plant(*({"kind": "project", "name": "p", "customer": c} for c in (customer, again, greek)))
        orders = [self.place(project=p) for p in projects]
        self.assertEqual([self.order(o)["customer_slug"] for o, _ in orders],
                         ["slug-1", "slug-2", "-1"] if self.old else ["slug", "slug-2", ""])
        self.admin("POST", "/things/" + customer, {"slug": "Re_Named"})
        self.assertEqual(self.order(orders[0][0])["customer_slug"], "Re_Named")
        self.admin("POST", "/things/" + projects[0], {"customer": again})
        self.assertEqual(self.order(orders[0][0])["customer_slug"], "slug-2")

    def test_secrets_in_attributes(self):
        order, resource = self.place(attributes={"name": "x", "db_password": "planted", "api_token": "planted"})
        self.assertEqual(self.order(order)["attributes"], {"name": "x"})
        self.assertEqual(self.resource(resource)["attributes"], {"name": "x"})

    def test_what_is_hidden(self):
        offering, = self.plant({"kind": "offering", "name": "Hidden", "customer": self.provider, "hidden": True})
        order, resource = self.place(offering=offering)
        self.bad(404, "GET", f"marketplace-orders/{order}/")
        self.bad(404, "POST", f"marketplace-orders/{order}/approve_by_provider/", {})
        self.bad(404, "GET", f"marketplace-provider-resources/{resource}/")
        self.assertEqual(self.good("GET", f"marketplace-orders/?offering_uuid={offering}").body, [])


class Orders(Base):
    def test_life(self):
        order, resource = self.place("pending-consumer")
        self.assertEqual(self.states(order, resource), ("pending-consumer", "Creating"))
        self.bad(409, "POST", f"marketplace-orders/{order}/approve_by_provider/", {})
        self.admin("POST", f"/orders/{order}/approve", {})
        self.assertEqual(self.order(order)["state"], "pending-provider")
        answer = self.tell(order, "approve_by_provider", {})
        self.assertEqual(answer.text == "", self.old)
        answer = self.bad(409, "POST", f"marketplace-orders/{order}/approve_by_provider/", {})
        self.assertEqual(answer.body, {"detail": "Valid states for operation: pending-provider."})
        self.assertEqual(self.order(order)["state"], "executing")
        self.assertEqual(self.set_backend_id(resource).body["status"], "Resource backend_id has been changed.")
        self.assertEqual(self.set_backend_id(resource).body["status"], "Resource backend_id is not changed.")
        self.tell(order, "set_state_done")
        self.assertEqual(self.states(order, resource), ("done", "OK"))
        self.assertIsNotNone(self.order(order)["completed_at"])

    def test_done_twice(self):
        order, _ = self.finished()
        answer = self.bad(409, "POST", f"marketplace-orders/{order}/set_state_done/")
        self.assertEqual(answer.body, {"detail": "Valid states for operation: executing."})
        told = self.admin("GET", "/counters")["orders"][order]
        self.assertEqual((told["done"], told["done_refused"]), (1, 1))

    def test_reject(self):
        order, resource = self.place()
        self.tell(order, "reject_by_provider", {"provider_rejection_comment": "no room"})
        self.assertEqual(self.states(order, resource), ("rejected", "Terminated"))
        self.assertEqual(self.order(order)["provider_rejection_comment"], "no room")
        self.bad(409, "POST", f"marketplace-orders/{order}/reject_by_provider/", {})
        self.bad(409, "POST", f"marketplace-orders/{order}/set_state_done/")

    def test_processed_after_the_answer(self):
        _, resource = self.finished()
        self.settings(process_ms=60000)
        order = self.about(resource, "terminate")
        self.tell(order, "approve_by_provider", {})
        self.assertEqual(self.states(order, resource), ("executing", "OK"))
        self.settings(process_ms=0)
        _, other = self.finished()
        order = self.about(other, "terminate")
        self.tell(order, "approve_by_provider", {})
        self.assertEqual(self.states(order, other), ("executing", "Terminating"))

    def test_processed_by_itself(self):
        """On time, without a call that brings it about."""
        self.settings(process_ms=50)
        offering, = self.plant({"kind": "offering", "name": "Basic", "type": "Marketplace.Basic",
                                "customer": self.provider})
        order, resource = self.place(offering=offering)
        self.tell(order, "approve_by_provider", {})
        self.eventually(lambda: self.states(order, resource) == ("done", "OK"))

    def eventually(self, true):
        until = time.monotonic() + 20
        while not true():
            self.assertLess(time.monotonic(), until, "never")
            time.sleep(0.02)

    def test_types_of_offerings(self):
        for kind, executing, done, erred in (("Marketplace.Support", 405, 200, 405),
                                             ("Marketplace.Script", 405, 405, 405),
                                             ("Marketplace.Slurm", 200, 200, 200)):
            offering, = self.plant({"kind": "offering", "name": kind, "type": kind, "customer": self.provider})
            pending, _ = self.place("pending-consumer", offering=offering)
            answer = self.ask("POST", f"marketplace-orders/{pending}/set_state_executing/")
            self.assertEqual(answer.status, executing, kind)
            if executing == 405:
                self.assertIn("does not support this action", answer.body["detail"])
            for what, wanted, body in (("set_state_done", done, None), ("set_state_erred", erred, self.ERROR)):
                order, _ = self.place("executing", offering=offering)
                self.assertEqual(self.ask("POST", f"marketplace-orders/{order}/{what}/", body).status, wanted, kind)

    def test_script_orders_need_no_provider(self):
        offering, = self.plant({"kind": "offering", "name": "s", "type": "Marketplace.Script",
                                "customer": self.provider})
        order, _ = self.place("pending-consumer", offering=offering)
        self.admin("POST", f"/orders/{order}/approve", {})
        self.assertEqual(self.order(order)["state"], "executing")

    def test_executing_again(self):
        order, resource = self.place("executing")
        self.set_backend_id(resource)
        self.erred(order)
        self.assertEqual(self.states(order, resource), ("erred", "Erred"))
        self.tell(order, "set_state_executing")
        self.assertEqual(self.order(order)["state"], "executing")
        self.bad(409, "POST", f"marketplace-orders/{order}/set_state_executing/",
                 says="pending-consumer, pending-provider, erred")
        self.tell(order, "set_state_done")
        self.assertEqual(self.states(order, resource), ("done", "OK"))

    def test_retry(self):
        order, resource = self.place("executing")
        if self.old:
            self.assertEqual(self.ask("POST", f"marketplace-orders/{order}/retry/").status, 404)
            return
        self.bad(409, "POST", f"marketplace-orders/{order}/retry/")
        self.erred(order)
        self.assertEqual(self.states(order, resource), ("erred", "Terminated"))
        self.good("POST", f"marketplace-orders/{order}/retry/")
        self.assertEqual(self.states(order, resource), ("executing", "Creating"))
        self.assertEqual(self.order(order)["error_message"], "")

    def test_cancel(self):
        order, resource = self.place("executing")
        self.bad(403, "POST", f"marketplace-orders/{order}/cancel/", says="You do not have permission")
        self.settings(is_staff=True)
        self.bad(405, "POST", f"marketplace-orders/{order}/cancel/")
        self.admin("POST", f"/orders/{order}/cancel", {})
        # Only the newer one ends the resource with its order.
        self.assertEqual(self.states(order, resource), ("canceled", "Creating" if self.old else "Terminated"))
        self.bad(409, "POST", f"marketplace-orders/{order}/cancel/")
        offering, = self.plant({"kind": "offering", "name": "d", "type": "Marketplace.Support",
                                "customer": self.provider})
        order, _ = self.place(offering=offering)
        self.good("POST", f"marketplace-orders/{order}/cancel/", status=202)
        self.assertEqual(self.order(order)["state"], "canceled")

    def test_backend_id_of_an_order(self):
        order, _ = self.place("executing")
        path = f"marketplace-orders/{order}/set_backend_id/"
        if self.old:
            self.assertEqual(self.ask("POST", path, {"backend_id": "x"}).status, 404)
            return
        self.assertIn("has been changed", self.good("POST", path, {"backend_id": "job-1"}).body["status"])
        self.good("POST", path, {"backend_id": "job-1"})
        self.assertEqual(self.order(order)["backend_id"], "job-1")
        self.bad(400, "POST", path, {"backend_id": ""}, says="may not be blank")
        self.bad(400, "POST", path, {"backend_id": "x" * 256}, says="no more than 255 characters")
        self.bad(400, "POST", path, {}, says="This field is required.")

    def test_provider_info(self):
        order, _ = self.place()
        path = f"marketplace-orders/{order}/set_provider_info/"
        if self.old:
            self.assertEqual(self.ask("POST", path, {}).status, 404)
            return
        self.good("POST", path, {"provider_message": "soon", "provider_message_url": "https://p.example/"})
        self.assertEqual(self.order(order)["provider_message"], "soon")
        self.tell(order, "approve_by_provider", {})
        self.bad(409, "POST", path, {})

    def test_attributes_of_an_approval(self):
        order, _ = self.place()
        self.tell(order, "approve_by_provider", {"attributes": {"size": 3}})
        self.assertEqual(self.order(order)["attributes"].get("size"), None if self.old else 3)

    def test_update(self):
        _, resource = self.finished()
        order = self.about(resource, "update", limits={"agents": 7})
        self.tell(order, "approve_by_provider", {})
        self.assertEqual(self.states(order, resource), ("executing", "Updating"))
        self.tell(order, "set_state_done")
        self.assertEqual(self.states(order, resource), ("done", "OK"))
        self.assertEqual(self.resource(resource)["limits"], {"agents": 7})
        order = self.about(resource, "update", limits={"agents": 9})
        self.tell(order, "approve_by_provider", {})
        self.erred(order)
        self.assertEqual(self.states(order, resource), ("erred", "Erred"))
        self.assertEqual(self.resource(resource)["limits"], {"agents": 7})

    def test_bodies(self):
        order, resource = self.place()
        path = f"marketplace-orders/{order}/approve_by_provider/"
        self.bad(400, "POST", path, raw="{", says="JSON parse error")
        self.bad(400, "POST", path, raw="[]", says="Expected a dictionary")
        self.bad(415, "POST", path, raw="a=b", content_type="text/plain", says="Unsupported media type")
        self.bad(405, "GET", path, says='Method \\"GET\\" not allowed.')
        self.assertEqual(self.order(order)["state"], "pending-provider")
        self.assertEqual(self.ask("POST", f"marketplace-orders/{order}/approve/").status, 404)
        self.bad(404, "POST", f"marketplace-orders/{NOBODY}/approve_by_provider/", {}, says="No Order matches")
        self.bad(404, "POST", "marketplace-orders/none/approve_by_provider/", {})
        self.bad(403, "POST", "marketplace-orders/", {})
        path = f"marketplace-provider-resources/{resource}/set_backend_id/"
        self.bad(400, "POST", path, {"backend_id": None}, says="may not be null")
        self.bad(400, "POST", path, {"backend_id": {}}, says="Not a valid string.")
        self.bad(400, "POST", path, {"backend_id": "x" * 256})

    def test_a_post_without_its_slash_does_nothing(self):
        order, _ = self.place()
        answer = call(self.server.url, "POST", f"/api/marketplace-orders/{order}/approve_by_provider", {},
                      "Token " + self.server.token)
        self.assertEqual(answer.status, 301)
        self.assertEqual(self.order(order)["state"], "pending-provider")

    def test_rights(self):
        order, _ = self.place()
        self.settings(denied=["approve_by_provider"])
        self.bad(403, "POST", f"marketplace-orders/{order}/approve_by_provider/", {},
                 says="You do not have permission to perform this action.")
        self.assertEqual(self.order(order)["state"], "pending-provider")

    def test_blocked_customers(self):
        customer, = self.plant({"kind": "customer", "name": "Blocked", "blocked": True})
        project, = self.plant({"kind": "project", "name": "p", "customer": customer})
        order, _ = self.place(project=project)
        answer = self.bad(400, "POST", f"marketplace-orders/{order}/approve_by_provider/", {})
        self.assertIsInstance(answer.body, list)


class Traps(Base):
    """Where Waldur does what nobody expects of it."""

    def test_an_error_with_nothing_behind_it(self):
        order, resource = self.place("executing")
        self.erred(order)
        self.assertEqual(self.states(order, resource), ("erred", "Terminated"))

    def test_an_error_with_something_behind_it(self):
        order, resource = self.place("executing")
        self.set_backend_id(resource)
        self.erred(order)
        self.assertEqual(self.states(order, resource), ("erred", "Erred"))
        shown = self.order(order)
        self.assertEqual((shown["error_message"], shown["error_traceback"]), ("it broke", "at line 1"))

    def test_an_error_after_it_was_done(self):
        order, resource = self.finished()
        self.erred(order)
        self.assertEqual(self.states(order, resource), ("done", "Erred"))
        self.assertEqual(self.order(order)["error_message"], "it broke")
        self.assertEqual(self.admin("GET", "/counters")["orders"][order]["erred_late"], 1)

    def test_an_error_brings_back_the_dead(self):
        order, resource = self.finished()
        end = self.about(resource, "terminate", state="executing")
        self.tell(end, "set_state_done")
        self.erred(order)
        self.assertEqual(self.states(order, resource), ("done", "Erred"))

    def test_a_termination_that_fails(self):
        _, resource = self.finished()
        order = self.about(resource, "terminate", state="executing")
        self.erred(order)
        self.assertEqual(self.states(order, resource), ("erred", "OK"))

    def test_an_error_after_the_termination(self):
        _, resource = self.finished()
        order = self.about(resource, "terminate", state="executing")
        self.tell(order, "set_state_done")
        self.assertEqual(self.states(order, resource), ("done", "Terminated"))
        answer = self.ask("POST", f"marketplace-orders/{order}/set_state_erred/", self.ERROR)
        self.assertEqual((answer.status, answer.headers["Content-Type"]), (500, "text/html; charset=utf-8"))
        self.assertEqual(self.states(order, resource), ("done", "Terminated"))
        self.assertEqual(self.order(order)["error_message"], "")

    def test_half_an_error(self):
        order, _ = self.place("executing")
        answer = self.ask("POST", f"marketplace-orders/{order}/set_state_erred/", {"error_message": "x"})
        self.assertEqual(answer.status, 500 if self.old else 200)
        self.assertEqual(self.order(order)["state"], "executing" if self.old else "erred")

    def test_done_with_two_of_them(self):
        """Two Creates that execute: 200, and neither is done."""
        order, resource = self.place("executing")
        other, _ = self.place("executing", resource=resource, anyway=True)
        self.tell(order, "set_state_done")
        self.assertEqual((self.order(order)["state"], self.order(other)["state"]), ("executing", "executing"))

    def test_one_order_at_a_time(self):
        _, resource = self.finished()
        self.about(resource, "update", limits={"agents": 2})
        answer = self.bad(400, "POST", f"marketplace-provider-resources/{resource}/terminate/", {})
        self.assertEqual(answer.body, ["Pending order for resource already exists."])

    def test_what_cannot_be_terminated(self):
        _, resource = self.place()
        self.bad(409, "POST", f"marketplace-provider-resources/{resource}/terminate/", {}, says="OK, Erred")

    def test_restore(self):
        _, resource = self.finished()
        end = self.about(resource, "terminate", state="executing")
        path = f"marketplace-provider-resources/{resource}/restore/"
        if self.old:
            self.assertEqual(self.ask("POST", path, {}).status, 404)
            return
        body = {"name": "my-agent", "offering": f"{self.server.url}/api/x/{self.offering}/"}
        self.bad(409, "POST", path, body)
        self.tell(end, "set_state_done")
        self.assertEqual(self.good("POST", path, body).body["uuid"], resource)
        order, = self.good("GET", f"marketplace-orders/?resource_uuid={resource}&type=Restore").body
        self.assertEqual((order["state"], order["marketplace_resource_uuid"]), ("pending-provider", resource))
        self.tell(order["uuid"], "approve_by_provider", {})
        self.assertEqual(self.states(order["uuid"], resource), ("executing", "Creating"))
        self.assertEqual(self.resource(resource)["backend_id"], "ws-1")
        self.tell(order["uuid"], "set_state_done")
        self.assertEqual(self.states(order["uuid"], resource), ("done", "OK"))

    def test_two_approve_at_once(self):
        """Nothing is locked: both may win, and both are told."""
        self.settings(race_ms=60000)
        order, resource = self.place()
        for _ in range(2):
            self.tell(order, "approve_by_provider", {})
        approved = self.good("GET", "events/?event_type=marketplace_order_approved&page_size=2").body
        self.assertEqual([e["context"]["order_uuid"] for e in approved], [order, order])
        self.tell(order, "set_state_done")
        self.bad(409, "POST", f"marketplace-orders/{order}/approve_by_provider/", {})
        self.assertEqual(self.states(order, resource), ("done", "OK"))

    def test_one_approves(self):
        order, _ = self.place()
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: self.ask("POST", f"marketplace-orders/{order}/approve_by_provider/", {}),
                                    range(8)))
        self.assertEqual(sorted(a.status for a in answers), [200] + [409] * 7)

    def test_tokens_that_end(self):
        for state, says in (("expired", "Token has expired."), ("inactive", "User inactive or deleted.")):
            self.settings(token_state=state)
            self.bad(401, "GET", "users/me/", says=says)
        self.settings(token_state="valid")
        for header in ("Bearer " + TOKEN, TOKEN, "Token", f"Token {TOKEN} x"):
            answer = call(self.server.url, "GET", "/api/users/me/", None, header)
            self.assertEqual(answer.status, 401, header)


class Resources(Base):
    def path(self, resource, action):
        return f"marketplace-provider-resources/{resource}/{action}/"

    def test_metadata(self):
        _, resource = self.finished()
        for metadata in ({"workspace": "ws-1"}, {"collection": {"id": 5}}):  # the whole is replaced
            self.good("POST", self.path(resource, "set_backend_metadata"), {"backend_metadata": metadata})
            self.assertEqual(self.resource(resource)["backend_metadata"], metadata)
        self.bad(400, "POST", self.path(resource, "set_backend_metadata"), {}, says="This field is required.")

    def test_endpoints(self):
        _, resource = self.finished()
        path = self.path(resource, "set_endpoints")
        endpoints = [{"name": "chat", "url": "https://chat.example/ws-1"}]
        if self.old:
            self.assertEqual(self.ask("POST", path, {"endpoints": endpoints}).status, 404)
            return
        self.good("POST", path, {"endpoints": [{"name": "a", "url": "https://a.example"}]})
        self.assertIn("status", self.good("POST", path, {"endpoints": endpoints}).body)
        shown, = self.resource(resource)["endpoints"]
        self.assertEqual({k: shown[k] for k in ("name", "url")}, endpoints[0])
        self.assertRegex(shown["uuid"], HEX)
        for bad in ({}, {"endpoints": {}}, {"endpoints": [{"name": "a"}]}, {"endpoints": [{"name": "a", "url": "a"}]}):
            self.bad(400, "POST", path, bad)
        self.good("POST", path, {"endpoints": []})
        self.assertEqual(self.resource(resource)["endpoints"], [])

    def test_report(self):
        _, resource = self.finished()
        report = [{"header": "Workspace", "body": "ready"}]
        answer = self.good("POST", self.path(resource, "submit_report"), {"report": report})
        self.assertEqual(answer.body, {"status": "Report is submitted"})
        self.assertEqual(self.resource(resource)["report"], report)
        for bad in ({"report": []}, {"report": [{"header": "x"}]}, {"report": [{"header": "x", "body": ""}]}, {}):
            self.bad(400, "POST", self.path(resource, "submit_report"), bad)

    def test_limits(self):
        _, resource = self.finished()
        self.good("POST", self.path(resource, "set_limits"), {"limits": {"agents": 5}})
        self.assertEqual(self.resource(resource)["limits"], {"agents": 5})
        for bad in ({}, {"limits": []}, {"limits": {"agents": "many"}}):
            self.bad(400, "POST", self.path(resource, "set_limits"), bad)

    def test_states_by_hand(self):
        _, resource = self.finished()
        answer = self.ask("POST", self.path(resource, "set_as_erred"), self.ERROR)
        self.assertEqual(answer.status, 403 if self.old else 200)
        self.settings(is_staff=True)
        self.good("POST", self.path(resource, "set_as_erred"), self.ERROR)
        shown = self.resource(resource)
        self.assertEqual((shown["state"], shown["error_message"]), ("Erred", "it broke"))
        if self.old:
            return
        self.good("POST", self.path(resource, "set_as_ok"))
        self.assertEqual(self.resource(resource)["state"], "OK")
        self.good("POST", self.path(resource, "set_state_ok"))

    def test_sync(self):
        _, resource = self.finished()
        before = self.resource(resource)["last_sync"]
        self.good("POST", self.path(resource, "refresh_last_sync"))
        self.assertGreater(self.resource(resource)["last_sync"], before)

    def test_termination_by_the_provider(self):
        _, resource = self.finished()
        order = self.good("POST", self.path(resource, "terminate"), {"attributes": {}}).body["order_uuid"]
        self.assertEqual((self.order(order)["type"], self.order(order)["state"]), ("Terminate", "pending-provider"))
        self.assertEqual(self.resource(resource)["order_in_progress"]["uuid"], order)

    def test_unique_backend_ids(self):
        _, resource = self.finished()
        self.set_backend_id(resource, "taken")
        other, = self.plant({"kind": "offering", "name": "Other", "customer": self.provider})
        for offering, backend_id, every, unique in ((self.offering, "taken", False, False),
                                                    (self.offering, "free", False, True),
                                                    (other, "taken", False, True), (other, "taken", True, False)):
            answer = self.good("POST", f"marketplace-provider-offerings/{offering}/check_unique_backend_id/",
                               {"backend_id": backend_id, "check_all_offerings": every})
            self.assertEqual(answer.body["is_unique"], unique)
        self.bad(404, "POST", f"marketplace-provider-offerings/{NOBODY}/check_unique_backend_id/", {"backend_id": "x"})

    def test_pause(self):
        _, resource = self.finished()
        for action, paused in (("pause", True), ("resume", False)):
            self.admin("POST", f"/resources/{resource}/{action}", {})
            self.assertEqual(self.resource(resource)["paused"], paused)

    def test_unlink(self):
        order, resource = self.finished()
        self.admin("POST", f"/resources/{resource}/unlink", {})
        self.bad(404, "GET", f"marketplace-orders/{order}/")
        self.bad(404, "GET", f"marketplace-provider-resources/{resource}/")
        other, _ = self.place()
        self.admin("POST", f"/orders/{other}/unlink", {})
        self.bad(404, "GET", f"marketplace-orders/{other}/")

    def test_texts(self):
        """Everything that was ever sent is there to be searched; keys are not where they belong."""
        order, resource = self.place("executing")
        self.good("POST", self.path(resource, "set_backend_metadata"), {"backend_metadata": {"a": ["planted-1"]}})
        self.good("POST", f"marketplace-orders/{order}/set_state_erred/",
                  {"error_message": "planted-2", "error_traceback": "planted-3"})
        self.bad(400, "POST", self.path(resource, "submit_report"), {"report": [{"header": "planted-4"}]})
        self.ask("POST", "marketplace-resource-api-keys/report_created/",
                 {"resource": resource, "client_id": "planted-5", "api_key": "pk-planted"})
        texts = json.dumps(self.admin("GET", "/texts"))
        for i in (1, 2, 3, 4) if self.old else (1, 2, 3, 4, 5):
            self.assertIn(f"planted-{i}", texts)
        self.assertNotIn("pk-planted", texts)
        self.admin("DELETE", "/texts")
        self.assertEqual(self.admin("GET", "/texts"), [])


class NoKeys(Base):
    """They are newer."""

    only = "24"

    def test_nothing(self):
        for method, path in (("GET", ""), ("POST", "report_created/"), ("POST", f"{NOBODY}/set_key/")):
            body = {} if method == "POST" else None
            self.assertEqual(self.ask(method, "marketplace-resource-api-keys/" + path, body).status, 404)
        self.assertNotIn("has_api_keys", self.resource(self.finished()[1]))


class Keys(Base):
    only = "26"
    LIST = "marketplace-resource-api-keys/"

    def report(self, resource, client="a", key="pk_live_1", status=201):
        return self.good("POST", self.LIST + "report_created/",
                         {"resource": resource, "client_id": client, "api_key": key}, status).body

    def setUp(self):
        _, self.made = self.finished()

    def test_life(self):
        key = self.report(self.made)
        self.assertEqual((key["state"], key["client_id"], key["resource_uuid"]), ("OK", "a", self.made))
        self.assertNotIn("api_key", key)
        self.assertTrue(self.resource(self.made)["has_api_keys"])
        self.assertEqual(self.good("GET", f"{self.LIST}?resource_uuid={self.made}").body, [key])
        self.bad(400, "POST", self.LIST + "report_created/", {"resource": self.made, "client_id": "a", "api_key": "x"})
        path = f"{self.LIST}{key['uuid']}/"
        self.bad(409, "POST", path + "set_erred/", {"error_message": "x"})
        self.admin("POST", f"/resources/{self.made}/rotate", {})
        waiting = self.good("GET", f"{self.LIST}?state=Updating&offering_uuid={self.offering}&o=-modified").body
        self.assertEqual(waiting[0]["uuid"], key["uuid"])
        self.assertEqual({k["state"] for k in waiting}, {"Updating"})
        self.good("POST", path + "set_erred/", {"error_message": "gateway is down"})
        self.assertEqual(self.good("GET", path).body["state"], "Erred")
        self.good("POST", path + "set_key/", {"api_key": "pk_live_2", "client_id": "b"})
        shown = self.good("GET", path).body
        self.assertEqual((shown["state"], shown["client_id"], shown["error_message"]), ("OK", "b", ""))
        self.assertEqual([k["api_key"] for k in self.admin("GET", "/objects")["keys"]
                          if k["uuid"] == key["uuid"]], ["pk_live_2"])

    def test_consumers_reveal_and_rotate(self):
        path = f"{self.LIST}{self.report(self.made)['uuid']}/"
        self.bad(403, "GET", path + "reveal/")
        self.bad(403, "POST", path + "rotate/")
        self.settings(is_staff=True)
        self.assertEqual(self.good("GET", path + "reveal/").body["api_key"], "pk_live_1")
        self.good("POST", path + "rotate/", status=202)
        self.bad(409, "POST", path + "rotate/")

    def test_end(self):
        self.report(self.made)
        order = self.about(self.made, "terminate", state="executing")
        self.tell(order, "set_state_done")
        self.assertEqual(self.good("GET", f"{self.LIST}?resource_uuid={self.made}").body, [])

    def test_rotation_on_the_bus(self):
        key, receiver = self.report(self.made), self.receiver()
        self.hook(receiver.url, form="stomp")
        self.admin("POST", f"/resources/{self.made}/rotate", {"client_id": "a"})
        self.sent()
        body, = receiver.bodies()
        self.assertEqual(body, {"object_type": "resource_api_key_rotation", "action": "rotate", "client_id": "a",
                                "resource_uuid": self.made, "resource_backend_id": "ws-1", "api_key_uuid": key["uuid"]})

    def test_refused(self):
        for bad in ({}, {"resource": NOBODY, "client_id": "a", "api_key": "b"},
                    {"resource": self.made, "client_id": "a"},
                    {"resource": self.made, "client_id": "", "api_key": "b"}):
            self.bad(400, "POST", self.LIST + "report_created/", bad)
        self.bad(400, "GET", self.LIST + "?state=updating")


class Hooks(Base):
    def setUp(self):
        self.admin("DELETE", "/deliveries")

    def events(self, **query):
        """All pages, oldest first."""
        query, rows = urllib.parse.urlencode({"o": "created", "page_size": 100, **query}, doseq=True), []
        for page in range(1, 1000):
            answer = self.good("GET", f"events/?{query}&page={page}")
            rows += answer.body
            if len(rows) >= int(answer.headers["X-Result-Count"]):
                return rows
        raise AssertionError("no end")

    def test_life(self):
        wanted = {"destination_url": "https://worker.example/hooks/waldur/secret", "content_type": "json",
                  "event_types": ["marketplace_order_approved"], "event_groups": [], "is_active": True}
        made = self.good("POST", "hooks-web/", wanted, 201).body
        path = f"hooks-web/{made['uuid']}/"
        self.assertEqual({k: made[k] for k in wanted}, wanted)
        self.assertEqual(self.good("GET", path).body, made)
        self.good("PATCH", path, {"is_active": False})
        self.assertFalse(self.good("GET", path).body["is_active"])
        self.good("PUT", path, {"destination_url": "https://other.example/"})
        self.assertIn(made["uuid"], [h["uuid"] for h in self.good("GET", "hooks-web/").body])
        for bad in ({}, {"destination_url": "worker"}, {**wanted, "event_types": ["order_approved"]},
                    {**wanted, "content_type": "xml"}, {**wanted, "event_groups": ["nobody"]}):
            self.bad(400, "POST", "hooks-web/", bad)
        self.good("DELETE", path, status=204)
        self.bad(404, "GET", path)

    def test_body(self):
        """Four members, UUIDs without dashes, None as a word, no slug, no signature."""
        receiver = self.receiver()
        self.hook(receiver.url)
        order, resource = self.place()
        self.tell(order, "approve_by_provider", {})
        self.sent()
        path, headers, body = next(r for r in receiver.requests if r[2]["event_type"] == "marketplace_order_approved")
        self.assertEqual((path, headers["Content-Type"]), ("/hook/secret", "application/json"))
        self.assertIn("python-requests/", headers["User-Agent"])
        self.assertEqual({k.lower() for k in headers} & {"authorization", "x-signature", "traceparent"}, set())
        self.assertEqual(set(body), {"created", "message", "context", "event_type"})
        self.assertRegex(body["created"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00$")
        context = body["context"]
        self.assertEqual((context["order_uuid"], context["resource_uuid"]), (order, resource))
        for name in ("order", "resource", "offering", "plan", "project", "customer", "user"):
            self.assertRegex(context[name + "_uuid"], HEX)
        self.assertEqual((context["order_get_state_display"], context["order_get_type_display"]),
                         ("executing", "Create"))
        self.assertEqual((context["project_end_date"], context["resource_backend_uuid"], context["user_is_staff"]),
                         ("None", "None", "False"))
        self.assertEqual((context["order_cost"], context["order_limits"]), (10, {"agents": 1}))
        self.assertEqual((context["customer_name"], context["customer_abbreviation"]), ("Acme Corp", "ACME"))
        self.assertEqual([name for name in context if "slug" in name or "backend_id" in name], [])

    def test_raw_attributes(self):
        receiver = self.receiver()
        self.hook(receiver.url)
        self.place("executing", attributes={"name": "x", "db_password": "planted"})
        self.sent()
        approved = next(b for b in receiver.bodies() if b["event_type"] == "marketplace_order_approved")
        for name in ("order_attributes", "resource_attributes"):
            self.assertEqual(approved["context"][name], {"name": "x", "db_password": "planted" if self.old else "***"})

    def test_forms(self):
        """The second kind of a webhook: of the context the names are left."""
        receiver = self.receiver()
        made = self.good("POST", "hooks-web/", {"destination_url": receiver.url, "content_type": "form",
                                                "event_types": ["marketplace_order_approved"]}, 201).body
        self.addCleanup(self.ask, "DELETE", f"hooks-web/{made['uuid']}/")
        self.place("executing")
        self.sent()
        (_, headers, body), = receiver.requests
        self.assertEqual(headers["Content-Type"], "application/x-www-form-urlencoded")
        fields = urllib.parse.parse_qs(body)
        self.assertEqual(fields["event_type"], ["marketplace_order_approved"])
        self.assertIn("order_uuid", fields["context"])

    def types(self, resource):
        """Of what was fired about it, in order."""
        return [e["event_type"].replace("marketplace_", "") for e in self.events(project_uuid=self.project)
                if e["context"]["resource_uuid"] == resource]

    def test_what_is_fired(self):
        order, resource = self.place("pending-consumer")
        self.assertEqual(self.types(resource), ["resource_create_requested"])  # and no order_created
        self.admin("POST", f"/orders/{order}/approve", {})
        self.tell(order, "approve_by_provider", {})
        self.set_backend_id(resource)
        self.erred(order)
        self.tell(order, "set_state_executing")
        self.tell(order, "set_state_done")
        end = self.about(resource, "terminate")
        self.tell(end, "approve_by_provider", {})
        self.tell(end, "set_state_done")
        self.assertEqual(self.types(resource), [
            "resource_create_requested", "order_approved", "order_failed", "resource_create_failed", "order_approved",
            "order_completed", "resource_create_succeeded", "resource_terminate_requested", "order_approved",
            "order_completed", "resource_terminate_succeeded"])
        self.admin("POST", f"/resources/{resource}/unlink", {})
        last = self.types(resource)[-1]
        self.assertEqual(last, "resource_terminate_succeeded" if self.old else "resource_unlinked")

    def test_canceled_and_rejected(self):
        for action, wanted in (("cancel", "order_terminated"), ("reject", "order_rejected")):
            order, resource = self.place()
            self.admin("POST", f"/orders/{order}/{action}", {})
            self.assertEqual(self.types(resource), ["resource_create_requested", wanted])

    def test_the_robot_is_nobody(self):
        receiver = self.receiver()
        self.hook(receiver.url, event_types=["marketplace_resource_terminate_requested"])
        _, resource = self.finished()
        self.about(resource, "expire")
        self.sent()
        body, = receiver.bodies()
        self.assertEqual([k for k in body["context"] if k.startswith("user_") or k == "ip_address"], [])
        _, resource = self.finished()
        self.about(resource, "terminate")
        self.sent()
        self.assertEqual(receiver.bodies()[1]["context"]["user_username"], "jane")

    def test_a_providers_own_hook_sees_nothing(self):
        receiver = self.receiver()
        wanted = {"destination_url": receiver.url, "event_groups": ["resources"]}
        made = self.good("POST", "hooks-web/", wanted, 201).body
        self.addCleanup(self.ask, "DELETE", f"hooks-web/{made['uuid']}/")
        self.place()
        self.sent()
        self.assertEqual(len(receiver.bodies()), 1)
        self.settings(is_support=False)
        self.place()
        self.sent()
        self.assertEqual(len(receiver.bodies()), 1)
        self.assertEqual(self.good("GET", "events/").body, [])

    def test_answers_are_not_read(self):
        receiver = self.receiver(status=500)
        self.hook(receiver.url)
        self.place("executing")
        self.assertEqual([(d["outcome"], d["status"]) for d in self.sent()], [("sent", 500)] * 2)
        self.assertEqual(len(receiver.bodies()), 2)  # and none again

    def test_a_hook_that_is_down(self):
        """In 2024 it takes those after it along."""
        receiver = self.receiver()
        self.hook("http://127.0.0.1:1/")
        self.hook(receiver.url)
        self.place()
        self.assertEqual([d["outcome"] for d in self.sent()], ["failed", "skipped" if self.old else "sent"])
        self.assertEqual(len(receiver.bodies()), 0 if self.old else 1)

    def test_loss_doubles_and_disorder(self):
        outcomes = []
        for _ in range(2):  # the same from the same seed
            receiver = self.receiver()
            made = self.hook(receiver.url, event_types=["marketplace_resource_create_requested"])
            self.settings(drop=0.3, duplicate=0.2, window_ms=300, seed=5, senders=1)
            self.admin("DELETE", "/deliveries")
            since = time.time()
            self.admin("POST", "/orders", [{"project": self.project, "offering": self.offering, "name": f"n{i}"}
                                           for i in range(60)])
            sent = self.sent()
            events = self.events(created_from=since, event_type="marketplace_resource_create_requested")
            fired_events = [e["uuid"] for e in events]
            fired = [e["context"]["resource_uuid"] for e in events]
            self.assertEqual(len(fired), 60)  # what was dropped is there all the same
            got = [b["context"]["resource_uuid"] for b in receiver.bodies()]
            self.assertEqual(len(got), sum(d["outcome"] == "sent" for d in sent))
            dropped = sum(d["outcome"] == "dropped" for d in sent)
            self.assertEqual(len(set(got)), 60 - dropped)
            self.assertGreater(dropped, 0)
            self.assertGreater(len(got), len(set(got)))
            firsts = list(dict.fromkeys(got))
            self.assertNotEqual(firsts, sorted(firsts, key=fired.index))
            outcomes.append([d["outcome"] for d in sorted(sent, key=lambda d: fired_events.index(d["event"]))])
            self.good("DELETE", f"hooks-web/{made}/", status=204)
        self.assertEqual(outcomes[0], outcomes[1])

    def test_a_slow_receiver_holds_up_nobody(self):
        hold = threading.Event()
        self.addCleanup(hold.set)
        receiver = self.receiver(hold=hold)
        self.hook(receiver.url, event_types=["marketplace_resource_create_requested"])
        self.place()
        self.good("GET", "marketplace-orders/?page_size=1")
        self.assertEqual(self.admin("GET", "/deliveries")["waiting"], 1)
        hold.set()
        self.assertEqual([d["outcome"] for d in self.sent()], ["sent"])

    def test_private_addresses(self):
        receiver = self.receiver()
        self.hook(receiver.url)
        self.settings(ssrf_guard=True)
        self.place()
        self.assertEqual([d["outcome"] for d in self.sent()], ["guarded"])
        for url in (receiver.url, "http://10.1.2.3/", "http://localhost/", "http://192.168.0.1:80/x",
                    "http://172.20.0.1/"):
            self.bad(400, "POST", "hooks-web/", {"destination_url": url})

    def test_message_bus(self):
        receiver, older = self.receiver(), self.receiver()
        self.hook(receiver.url, form="stomp")
        self.hook(older.url, form="stomp-legacy")
        self.settings(senders=1)
        order, resource = self.place()
        self.tell(order, "approve_by_provider", {})
        self.set_backend_id(resource)
        self.tell(order, "set_state_done")
        self.sent()
        self.assertEqual(older.bodies(), [{"order_uuid": order, "order_state": s} for s in
                                          ("pending-consumer", "pending-provider", "executing", "done")])
        told = [b["order_state"] for b in receiver.bodies() if b["object_type"] == "order"]
        self.assertEqual(told, ["pending consumer", "pending provider", "executing", "done"])
        last = receiver.bodies()[-2]
        self.assertEqual(set(last), {"schema_version", "order_uuid", "order_state", "offering_uuid", "object_type",
                                     "order_type", "resource_uuid", "resource_backend_id", "resource_name",
                                     "project_uuid", "project_name", "attributes", "limits", "plan_uuid"})
        self.assertEqual((last["order_type"], last["resource_backend_id"]), ("Create", "ws-1"))
        last = receiver.bodies()[-1]
        self.assertEqual((last["object_type"], last["resource_state"]), ("resource", "OK"))

    def test_backfill(self):
        since = time.time()
        order, resource = self.place("executing")
        mine = self.events(created_from=since)
        self.assertEqual([e["event_type"] for e in mine],
                         ["marketplace_resource_create_requested", "marketplace_order_approved"])
        self.assertEqual(self.events(created_to=since, created_from=since - 0.001), [])
        approved, = self.events(created_from=since,
                                event_type=["marketplace_order_approved", "marketplace_order_failed"])
        self.assertEqual(approved["context"]["order_uuid"], order)
        self.assertEqual(len(self.events(created_from=since, customer_uuid=self.customer)), 2)
        self.assertEqual(self.events(created_from=since, customer_uuid=self.provider), [])
        newest = self.good("GET", "events/?page_size=1").body[0]
        self.assertEqual(newest["uuid"], approved["uuid"])
        self.bad(400, "GET", "events/?created_from=today", says="Enter a number.")
        if not self.old:
            self.assertEqual(len(self.events(resource_uuid=resource)), 2)

    def test_once_more(self):
        receiver = self.receiver()
        self.place()
        event = self.good("GET", "events/?page_size=1").body[0]
        self.admin("POST", "/resend", {"event": event["uuid"], "url": receiver.url})
        self.admin("POST", "/send", {"url": receiver.url, "body": {"any": 1}})
        self.sent()
        bodies = receiver.bodies()
        self.assertEqual(len(bodies), 2)
        self.assertIn({"any": 1}, bodies)
        again, = [b for b in bodies if b != {"any": 1}]
        self.assertEqual(again["context"], event["context"])


class Faults(Base):
    def fault(self, match, **fault):
        self.admin("POST", "/faults", {"match": match, "fault": fault})
        self.addCleanup(self.admin, "DELETE", "/faults")

    def test_lost_reply(self):
        """It acted, and nobody knows."""
        order, resource = self.place("executing")
        self.fault({"method": "POST", "path_regex": "set_state_done/$"}, kind="lose_reply")
        with self.assertRaises(OSError):
            self.tell(order, "set_state_done")
        self.assertEqual(self.states(order, resource), ("done", "OK"))
        self.bad(409, "POST", f"marketplace-orders/{order}/set_state_done/")

    def test_statuses(self):
        order, _ = self.place()
        self.fault({"path_prefix": "/api/"}, kind="status", status=429, headers={"Retry-After": "7"},
                   body={"detail": "Request was throttled. Expected available in 7 seconds."})
        answer = self.ask("POST", f"marketplace-orders/{order}/approve_by_provider/", {})
        self.assertEqual((answer.status, answer.headers["Retry-After"]), (429, "7"))
        self.assertEqual(self.order(order)["state"], "pending-provider")

    def test_truncated_and_malformed(self):
        self.fault({"path_prefix": "/api/marketplace-orders/"}, kind="truncate")
        self.place()
        with self.assertRaises(http.client.IncompleteRead):
            self.ask("GET", "marketplace-orders/")
        self.admin("DELETE", "/faults")
        self.fault({"path_prefix": "/api/users/"}, kind="malformed")
        self.assertIsInstance(call(self.server.url, "GET", "/api/users/me/", None, "Token " + TOKEN).body, str)

    def test_log(self):
        order, _ = self.place()
        self.tell(order, "approve_by_provider", {})
        log = self.admin("GET", "/log")["entries"]
        self.assertTrue(any(e["path"].endswith(f"{order}/approve_by_provider/") and e["acted"] for e in log))
        self.assertNotIn(TOKEN, json.dumps(log))


class Load(Base):
    def test_many(self):
        """A thousand orders by two hundred callers; what a list costs does not grow with what was there before."""
        orders = self.admin("POST", "/orders", [{"project": self.project, "offering": self.offering}] * 1000)["orders"]

        def live(made):
            self.tell(made["order"], "approve_by_provider", {})
            self.set_backend_id(made["resource"], made["resource"])
            self.tell(made["order"], "set_state_done")
        with concurrent.futures.ThreadPoolExecutor(200) as pool:
            list(pool.map(live, orders))
        shown = self.admin("GET", "/orders")
        self.assertEqual({(o["state"], o["resource_state"], o["told"]["done"]) for o in shown}, {("done", "OK", 1)})
        self.assertEqual(self.good("HEAD", "marketplace-orders/?state=done").headers["X-Result-Count"], "1000")


STANDIN_ONLY = (Lists, Orders, Traps, Resources, Keys, NoKeys, Hooks, Faults, Load)


def load_tests(loader, standard_tests, pattern):
    """Reading alone against the live server, everything against each version that the stand-in plays."""
    suite = unittest.TestSuite()
    live = os.environ.get("WALDUR_URL")
    for profile in [None] if live else PROFILES:
        for group in (Reading,) if live else (Reading, *STANDIN_ONLY):
            if group.only not in (None, profile):
                continue
            name = f"{group.__name__} [{profile or 'live'}]"
            case = type(name, (group, unittest.TestCase), {"profile": profile, "__module__": __name__})
            suite.addTests(loader.loadTestsFromTestCase(case))
    return suite


if __name__ == "__main__":
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(__doc__)
        sys.exit(0)
    unittest.main()
