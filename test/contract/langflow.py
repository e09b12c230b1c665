#!/usr/bin/python3
"""What the langflow driver relies on, asserted against a Langflow.

Without LANGFLOW_URL: against the stand-in ($STANDIN), once for every profile. With it: against that server, from 1.8 on,
with LANGFLOW_SUPERUSER and LANGFLOW_SUPERUSER_PASSWORD, or LANGFLOW_API_KEY of a superuser. Every object that is touched
was made here, under a name of its own, and is deleted again. LANGFLOW_LOGIN_LIMIT=N says that the server allows N logins
a minute: that many are used up (of the stand-in's always). An argument chooses the cases whose names hold it.
Standard library alone."""

import concurrent.futures
import gzip
import http.client
import json
import os
import re
import secrets
import sys
import time
import unittest
import urllib.parse
import uuid

from http_api import PrivateStandin

API = "/api/v1"
USER_FILES = "/api/v2/files"
PROFILES = ("1.8", "1.10", "1.13")
MARKER = "waldur-subscription:"
EMPTY = {"nodes": [], "edges": []}
LOGIN_PATIENCE_S = 70


def eventually(check, timeout=30, every=0.05):
    """True as soon as check() is, False when that never happens: an answer may come before its commit."""
    end = time.monotonic() + timeout
    while not check():
        if time.monotonic() > end:
            return False
        time.sleep(every)
    return True


def derived_id(text):
    """A version-8 UUID (RFC 9562: what is in it is the maker's business) that follows from a text."""
    h = uuid.uuid5(uuid.NAMESPACE_URL, text).hex
    return str(uuid.UUID(h[:12] + "8" + h[13:]))


class Answer:
    def __init__(self, status, headers, raw):
        self.status, self.headers, self.raw = status, headers, raw
        text = gzip.decompress(raw) if headers.get("content-encoding") == "gzip" else raw
        try:
            self.json = json.loads(text) if text else None
        except ValueError:
            self.json = None
        self.detail = self.json.get("detail") if isinstance(self.json, dict) else None

    def __repr__(self):
        return f"{self.status} {self.raw[:300]!r}"


class Server:
    """A Langflow, whoever plays it."""

    def __init__(self, url, superuser=None, password=None, key=None):
        parts = urllib.parse.urlsplit(url)
        self.host, self.port = parts.hostname, parts.port or 80
        self.superuser, self.password = superuser, password
        self.standin = None
        self.own_key = None
        self.version = self.read_version()
        if not key:
            token = self.login(superuser, password).json["access_token"]
            made = self.post("/api_key/", {"name": "contract-suite"}, token=token)
            assert made.status == 200, made
            self.own_key, key = made.json["id"], made.json["api_key"]
        self.key = key
        assert eventually(lambda: self.get("/users/whoami", key=key).status == 200, 5), "the superuser's key is refused"
        self.superuser = self.get("/users/whoami", key=key).json["username"]

    def read_version(self):
        """langflow-base counted 0.8 to 0.11 beside Langflow's 1.8 to 1.11."""
        said = self.get("/version").json
        found = re.match(r"(\d+)\.(\d+)", said["version"])
        major, minor = int(found[1]), int(found[2])
        return (1, minor) if major == 0 and said["package"] == "Langflow Base" else (major, minor)

    def close(self):
        if self.own_key:
            self.delete("/api_key/" + self.own_key, key=self.key)
        if self.standin:
            self.standin.close()

    def request(self, method, path, body=None, key=None, token=None, form=None, headers=None):
        sent = dict(headers or {})
        if key:
            sent["x-api-key"] = key
        if token:
            sent["Authorization"] = "Bearer " + token
        if form is not None:
            body = urllib.parse.urlencode(form).encode()
            sent["Content-Type"] = "application/x-www-form-urlencoded"
        elif body is not None:
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        conn = http.client.HTTPConnection(self.host, self.port, timeout=60)
        try:
            conn.request(method, path, body, sent)
            answer = conn.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            conn.close()

    def get(self, path, **more):
        return self.request("GET", API + path, **more)

    def post(self, path, body=None, **more):
        return self.request("POST", API + path, body, **more)

    def put(self, path, body, **more):
        return self.request("PUT", API + path, body, **more)

    def patch(self, path, body, **more):
        return self.request("PATCH", API + path, body, **more)

    def delete(self, path, body=None, **more):
        return self.request("DELETE", API + path, body, **more)

    def login(self, username, password):
        """Waits as told when there were too many."""
        end = time.monotonic() + LOGIN_PATIENCE_S
        while True:
            answer = self.post("/login", form={"username": username, "password": password})
            if answer.status != 429 or time.monotonic() > end:
                return answer
            time.sleep(int(answer.headers["Retry-After"]))

    def enter(self, username, password):
        """A token; 1.8 may know only a little later that a user was activated, or has a new password."""
        answers = []
        assert eventually(lambda: answers.append(self.login(username, password)) or answers[-1].status == 200, 5,
                          0.2), answers[-1]
        return answers[-1].json["access_token"]

    def mcp(self, project, method, **params):
        """What a project's MCP server answers nobody: its result, or None where it wants a key."""
        answer = self.post(f"/mcp/project/{project}/streamable",
                           {"jsonrpc": "2.0", "id": 1, "method": method, "params": params},
                           headers={"Accept": "application/json, text/event-stream"})
        if answer.status == 401 and answer.detail.startswith("API key required"):
            return None
        assert answer.status == 200, answer
        event, = [line for line in answer.raw.decode().splitlines() if line.startswith("data:")]
        return json.loads(event[5:])["result"]

    def mcp_tools(self, project):
        """The names of the flows that anybody can run there, or None."""
        hello = {"protocolVersion": "2025-03-26", "capabilities": {}, "clientInfo": {"name": "suite", "version": "1"}}
        if self.mcp(project, "initialize", **hello) is None:
            return None
        return [tool["name"] for tool in self.mcp(project, "tools/list")["tools"]]

    def admin(self, method, path, body=None):
        answer = self.request(method, "/admin" + path, body)
        assert answer.status < 300, answer
        return answer.json

    def settings(self, **settings):
        return self.admin("POST", "/settings", settings)

    def users_page(self, skip):
        """1.8 words every failure to check a key as a bad key (403): seen once while others wrote."""
        answers = []
        eventually(lambda: answers.append(self.get(f"/users/?skip={skip}&limit=200", key=self.key))
                   or answers[-1].detail != "API key authentication failed", 5)
        return answers[-1]

    def users(self):
        """Everyone, whatever the order and the largest page are."""
        found, total, skip = {}, 1, 0
        while skip < total:
            page = self.users_page(skip)
            assert page.status == 200, page
            total = page.json["total_count"]
            found.update({u["id"]: u for u in page.json["users"]})
            skip += 200
        return found


def start_standin(profile):
    token = secrets.token_hex(16)
    standin = PrivateStandin("langflow", token, profile)
    server = Server(standin.url, key=token)
    server.standin, server.password = standin, token
    server.settings(login_limit=0)
    return server


class Tenant:
    """A user of its own, active, with a key."""

    def __init__(self, server, marker=None):
        self.server = server
        self.name = "contract-" + str(uuid.uuid4())
        self.password = secrets.token_urlsafe(24)
        made = server.post("/users/", {"username": self.name, "password": self.password,
                                       "optins": {"marker": marker or MARKER + self.name}}, key=server.key)
        assert made.status == 201, made
        self.made, self.id = made.json, made.json["id"]
        if not made.json["is_active"]:
            assert server.patch("/users/" + self.id, {"is_active": True}, key=server.key).status == 200
        self.token = server.enter(self.name, self.password)
        self.key_id, self.key = self.new_key("contract")

    def new_key(self, name):
        made = self.server.post("/api_key/", {"name": name}, token=self.token)
        assert made.status == 200, made
        key = made.json["api_key"]
        assert eventually(lambda: self.server.get("/users/whoami", key=key).status == 200, 5)
        return made.json["id"], key

    def flow(self, name="agent", data=None, **more):
        flow_id = derived_id(self.name + name + str(time.monotonic()))
        made = self.server.put("/flows/" + flow_id, {"name": name, "data": data or EMPTY, **more}, token=self.token)
        assert made.status == 201 and made.json["id"] == flow_id, made
        assert eventually(lambda: self.server.get("/flows/" + flow_id, token=self.token).status == 200, 5)
        return flow_id

    def gone(self):
        return self.id not in self.server.users()

    def close(self):
        """Flows go first, so that no messages stay behind."""
        s = self.server
        if self.gone():
            return
        s.patch("/users/" + self.id, {"is_active": True}, key=s.key)
        flows = s.get("/flows/?header_flows=true", token=self.token).json or []
        for flow in flows:
            s.delete("/flows/" + flow["id"], token=self.token)
        s.delete("/users/" + self.id, key=s.key)
        assert eventually(self.gone), "the tenant's user stays"


class Case(unittest.TestCase):
    server = None

    @property
    def version(self):
        return self.server.version

    def tenant(self):
        tenant = Tenant(self.server)
        self.addCleanup(tenant.close)
        return tenant

    def standin_only(self):
        if not self.server.standin:
            self.skipTest("only the stand-in can be told to")

    def settings(self, **settings):
        """For this test; what was set before comes back."""
        before = self.server.settings(**settings)
        self.addCleanup(self.server.settings, **{k: before[k] for k in settings})

    def check(self, answer, status, detail=None):
        self.assertEqual(answer.status, status, answer)
        if detail is not None:
            self.assertEqual(answer.detail, detail)
        return answer.json

    def names(self, path, token):
        return sorted(x["name"] for x in self.check(self.server.get(path, token=token), 200))

    def not_public(self):
        return (404, "Flow not found") if self.version >= (1, 13) else (403, "Flow is not public")

    def chat_flow(self, tenant):
        """A flow whose runs leave messages."""
        everything = self.server.get("/all", token=tenant.token)
        component = next(c["ChatInput"] for c in everything.json.values() if isinstance(c, dict) and "ChatInput" in c)
        node = {"id": "ChatInput-a1b2c", "type": "genericNode", "position": {"x": 0, "y": 0},
                "data": {"type": "ChatInput", "id": "ChatInput-a1b2c", "node": component}}
        return tenant.flow("chat", {"nodes": [node], "edges": []})

    def talk(self, tenant, flow_id, session):
        ran = self.server.post(f"/run/{flow_id}?stream=false", {"input_value": "hello", "session_id": session},
                               key=tenant.key)
        if ran.status == 500 and not self.server.standin:
            self.skipTest("this server's packages do not fit together: a run fails")
        self.check(ran, 200)
        self.assertTrue(eventually(lambda: self.messages(tenant.token, flow_id), 5))

    def messages(self, token, flow_id):
        return self.check(self.server.get("/monitor/messages?flow_id=" + flow_id, token=token), 200)


class Serving(Case):
    def test_version_and_health(self):
        said = self.check(self.server.get("/version"), 200)
        self.assertEqual(said.keys() & {"version", "main_version", "package"}, {"version", "main_version", "package"})
        self.assertGreaterEqual(self.version, (1, 8))
        self.assertEqual(self.check(self.server.request("GET", "/health_check"), 200),
                         {"status": "ok", "chat": "ok", "db": "ok"})

    def test_auto_login_is_off(self):
        answer = self.server.get("/auto_login")
        self.check(answer, 403)
        self.assertIs(answer.detail["auto_login"], False)

    def test_settings_are_shown_to_who_has_a_key(self):
        whole = self.check(self.server.get("/config", key=self.server.key), 200)
        self.assertIn(whole["webhook_auth_enable"], (True, False))
        self.assertEqual("allow_custom_components" in whole, self.version >= (1, 10))
        for who in {}, {"key": "sk-nobodys"}:
            self.assertNotIn("webhook_auth_enable", self.check(self.server.get("/config", **who), 200))

    def test_unknown_path(self):
        self.check(self.server.get("/nothing-here"), 404, "Not Found")

    def test_collections_end_in_a_slash(self):
        for path in ("/users", "/projects", "/flows", "/variables", "/api_key"):
            answer = self.server.get(path, key=self.server.key)
            self.assertEqual((path, answer.status), (path, 307))
            self.assertTrue(answer.headers["Location"].endswith(path + "/"))

    def test_refused_bodies_are_listed(self):
        answer = self.server.post("/users/", {"username": "x", "secret": "needle"}, key=self.server.key)
        self.check(answer, 422)
        self.assertEqual(answer.detail[0]["loc"], ["body", "password"])
        # Older ones repeat what they were sent, secrets included: such a body is not for logs.
        self.assertEqual(b"needle" in answer.raw, self.version < (1, 13))


class Credentials(Case):
    def whoami(self, **more):
        return self.server.get("/users/whoami", **more)

    def test_what_is_refused_and_how(self):
        self.check(self.whoami(), 403, "No authentication credentials provided")
        self.check(self.whoami(key="sk-wrong"), 403, "Invalid API key")
        self.check(self.whoami(token="wrong"), 401, "Invalid token")
        # A token, even a bad one, is looked at alone.
        self.check(self.whoami(token="wrong", key=self.server.key), 401)

    def test_key_in_the_query(self):
        self.check(self.server.get("/users/whoami?x-api-key=" + urllib.parse.quote(self.server.key)), 200)

    def test_login(self):
        tenant = self.tenant()
        answer = self.server.login(tenant.name, tenant.password)
        self.check(answer, 200)
        self.assertEqual(answer.json["token_type"], "bearer")
        self.assertIn("access_token_lf=", " ".join(answer.headers.get_all("Set-Cookie")))
        self.assertEqual(self.check(self.whoami(token=answer.json["access_token"]), 200)["id"], tenant.id)
        for name, password in ((tenant.name, "wrong"), ("contract-nobody", tenant.password)):
            answer = self.server.login(name, password)
            self.check(answer, 401, "Incorrect username or password")
            self.assertEqual(answer.headers["WWW-Authenticate"], "Bearer")


class Users(Case):
    def test_made_as_told(self):
        tenant = self.tenant()
        self.assertEqual((tenant.made["username"], tenant.made["is_superuser"]), (tenant.name, False))
        self.assertEqual(tenant.made["optins"], {"marker": MARKER + tenant.name})
        self.assertNotIn("password", tenant.made)
        listed = self.server.users()[tenant.id]
        self.assertEqual((listed["optins"], listed["is_active"]), (tenant.made["optins"], True))

    def test_a_name_is_taken_once(self):
        tenant = self.tenant()
        self.check(self.server.post("/users/", {"username": tenant.name, "password": "x" * 12}, key=self.server.key),
                   400, "This username is unavailable.")
        self.assertEqual(sum(u["username"] == tenant.name for u in self.server.users().values()), 1)
        self.assertEqual(self.server.login(tenant.name, tenant.password).status, 200)

    def test_case_of_names(self):
        tenant = self.tenant()
        answer = self.server.post("/users/", {"username": tenant.name.upper(), "password": "x" * 12},
                                  key=self.server.key)
        if self.version >= (1, 13):
            self.check(answer, 400, "This username is unavailable.")
        else:
            self.server.delete("/users/" + self.check(answer, 201)["id"], key=self.server.key)

    def test_activity_is_not_for_the_maker_to_say(self):
        name = "contract-" + str(uuid.uuid4())
        both = []
        for active in (True, False):
            made = self.check(self.server.post("/users/", {"username": f"{name}-{active}", "password": "x" * 12,
                                                           "is_active": active}, key=self.server.key), 201)
            self.addCleanup(self.server.delete, "/users/" + made["id"], key=self.server.key)
            both.append(made["is_active"])
        self.assertEqual(both[0], both[1])

    def test_what_is_shown(self):
        tenant = self.tenant()
        members = {"id", "username", "profile_image", "store_api_key", "is_active", "is_superuser", "create_at",
                   "updated_at", "last_login_at", "optins"}
        patched = self.check(self.server.patch("/users/" + tenant.id, {"is_active": True}, key=self.server.key), 200)
        for shown in (tenant.made, patched, self.server.users()[tenant.id],
                      self.check(self.server.get("/users/whoami", key=tenant.key), 200)):
            self.assertEqual(shown.keys(), members)

    def test_optins_are_replaced_whole(self):
        tenant = self.tenant()
        for given, kept in (({"a": {"b": [1]}, "c": "x"}, {"a": {"b": [1]}, "c": "x"}), ({"d": 1}, {"d": 1}),
                            (None, {"d": 1}), ({}, {})):
            after = self.check(self.server.patch("/users/" + tenant.id, {"optins": given}, key=self.server.key), 200)
            self.assertEqual(after["optins"], kept)
        self.check(self.server.patch("/users/" + tenant.id, {"optins": "text"}, key=self.server.key), 422)

    def test_opened_with_a_new_password(self):
        """As for a tenant whose key is lost: one call, and its answer says what is now."""
        tenant = self.tenant()
        self.check(self.server.patch("/users/" + tenant.id, {"is_active": False}, key=self.server.key), 200)
        password, optins = secrets.token_urlsafe(30), {"marker": "again"}
        after = self.check(self.server.patch("/users/" + tenant.id, {
            "is_active": True, "password": password, "optins": optins}, key=self.server.key), 200)
        self.assertEqual((after["is_active"], after["optins"]), (True, optins))
        self.assertNotIn(password, json.dumps(after))
        self.server.enter(tenant.name, password)

    def test_paging(self):
        tenants = [self.tenant(), self.tenant()]
        page = self.check(self.server.get("/users/?skip=0&limit=1", key=self.server.key), 200)
        self.assertEqual(len(page["users"]), 1)
        self.assertGreaterEqual(page["total_count"], 3)
        beyond = self.check(self.server.get("/users/?skip=1000000&limit=1", key=self.server.key), 200)
        self.assertEqual((beyond["users"], beyond["total_count"]), ([], page["total_count"]))
        self.assertEqual({t.id for t in tenants} - self.server.users().keys(), set())
        whole = self.server.get("/users/?limit=100000", key=self.server.key)
        self.assertEqual(whole.status, 422 if self.version >= (1, 13) else 200)

    def test_search(self):
        tenant, other = self.tenant(), self.tenant()
        found = self.check(self.server.get(f"/users/?search={tenant.name}&limit=200", key=self.server.key), 200)
        ids = {u["id"] for u in found["users"]}
        if self.version >= (1, 10):
            self.assertEqual((ids, found["total_count"]), ({tenant.id}, 1))
            part = self.check(self.server.get(f"/users/?search={tenant.name[4:].upper()}", key=self.server.key), 200)
            self.assertEqual([u["id"] for u in part["users"]], [tenant.id])
        else:  # not looked at: everyone is there
            self.assertEqual(ids & {tenant.id, other.id}, {tenant.id, other.id})

    def test_search_and_wildcards(self):
        """1.10 hands % and _ on to LIKE."""
        tenant, other = self.tenant(), self.tenant()
        page = self.check(self.server.get("/users/?limit=200&search=contract%25" + tenant.name[-6:],
                                          key=self.server.key), 200)
        ids = {u["id"] for u in page["users"]}
        self.assertEqual((tenant.id in ids, other.id in ids),
                         (self.version < (1, 13), self.version < (1, 10)))

    def test_one_user(self):
        tenant = self.tenant()
        answer = self.server.get("/users/" + tenant.id, key=self.server.key)
        if self.version >= (1, 13):
            self.assertEqual(self.check(answer, 200)["username"], tenant.name)
            self.check(self.server.get("/users/" + str(uuid.uuid4()), key=self.server.key), 404, "User not found")
            exact = self.check(self.server.get("/users/?username=" + tenant.name, key=self.server.key), 200)
            self.assertEqual([u["id"] for u in exact["users"]], [tenant.id])
        else:
            self.check(answer, 405)
            every = self.check(self.server.get("/users/?username=" + tenant.name, key=self.server.key), 200)
            self.assertGreater(every["total_count"], 1, "it is not looked at")

    def test_superuser_gives_another_a_password(self):
        tenant = self.tenant()
        new = secrets.token_urlsafe(24)
        self.check(self.server.patch("/users/" + tenant.id, {"password": new}, key=self.server.key), 200)
        self.server.enter(tenant.name, new)
        self.check(self.server.login(tenant.name, tenant.password), 401)
        # Keys and tokens from before still work.
        self.check(self.server.get("/users/whoami", key=tenant.key), 200)
        self.check(self.server.get("/users/whoami", token=tenant.token), 200)

    def test_nothing_to_change(self):
        tenant = self.tenant()
        self.assertEqual(self.check(self.server.patch("/users/" + tenant.id, {}, key=self.server.key), 200)["id"],
                         tenant.id)
        self.check(self.server.patch("/users/" + str(uuid.uuid4()), {"is_active": True}, key=self.server.key), 404,
                   "User not found")

    def test_names_do_not_move_onto_others(self):
        tenant, other = self.tenant(), self.tenant()
        answer = self.server.patch("/users/" + tenant.id, {"username": other.name}, key=self.server.key)
        self.check(answer, 400)
        if self.version >= (1, 13):
            self.assertEqual(answer.detail, "This username is unavailable.")
        else:
            self.assertIn("UNIQUE" if "sqlite" in answer.detail else "unique", answer.detail)

    def test_what_a_tenant_may_not(self):
        tenant, other = self.tenant(), self.tenant()
        self.check(self.server.get("/users/", token=tenant.token), 403)
        self.check(self.server.patch("/users/" + other.id, {"optins": {}}, token=tenant.token), 403)
        self.check(self.server.patch("/users/" + tenant.id, {"password": "y" * 12}, token=tenant.token), 400)
        self.check(self.server.patch("/users/" + tenant.id, {"is_superuser": True}, token=tenant.token), 403)
        self.check(self.server.patch("/users/" + tenant.id, {"is_active": False}, token=tenant.token), 403)
        self.check(self.server.delete("/users/" + other.id, token=tenant.token), 403)
        self.assertFalse(other.gone())
        self.check(self.server.delete("/users/" + tenant.id, token=tenant.token),
                   400 if self.version >= (1, 12) else 403)

    def test_what_a_tenant_may_change_of_itself(self):
        """Its marker and even its name: neither proves whose a user is, the recorded id does."""
        tenant = self.tenant()
        changed = {"optins": {"marker": MARKER + "another"}, "username": "contract-x-" + tenant.name}
        answer = self.check(self.server.patch("/users/" + tenant.id, changed, key=tenant.key), 200)
        self.assertEqual((answer["optins"], answer["username"]), (changed["optins"], changed["username"]))

    def test_sign_up_can_be_seen_without_signing_up(self):
        """Anonymous, under a name that is taken: 400 where anybody may sign up, 403 where not."""
        answer = self.server.post("/users/", {"username": self.server.superuser, "password": "x" * 12})
        if self.version < (1, 10):
            self.check(answer, 400, "This username is unavailable.")
        else:
            self.assertIn((answer.status, answer.detail), ((400, "This username is unavailable."),
                                                           (403, "Public user registration is disabled.")))

    def test_superuser_stays(self):
        me = self.check(self.server.get("/users/whoami", key=self.server.key), 200)
        self.check(self.server.delete("/users/" + me["id"], key=self.server.key), 400)


class Projects(Case):
    def test_one_is_there_from_the_start(self):
        tenant = self.tenant()
        projects = self.check(self.server.get("/projects/", token=tenant.token), 200)
        self.assertEqual(len(projects), 1)
        flow = tenant.flow()
        self.assertEqual(self.check(self.server.get("/flows/" + flow, token=tenant.token), 200)["folder_id"],
                         projects[0]["id"])

    def test_a_taken_name_is_changed_silently(self):
        tenant = self.tenant()
        made = [self.check(self.server.post("/projects/", {"name": "ws", "description": "mine"}, token=tenant.token),
                           201) for _ in range(3)]
        self.assertEqual([p["name"] for p in made], ["ws", "ws (1)", "ws (2)"])
        self.assertEqual(made[0]["description"], "mine")

    def test_renamed_to_a_taken_name(self):
        tenant = self.tenant()
        self.check(self.server.post("/projects/", {"name": "a"}, token=tenant.token), 201)
        second = self.check(self.server.post("/projects/", {"name": "b"}, token=tenant.token), 201)
        self.check(self.server.patch("/projects/" + second["id"], {"name": "a"}, token=tenant.token),
                   409 if self.version >= (1, 13) else 500)

    def test_nobody_else_sees_it(self):
        tenant = self.tenant()
        path = "/projects/" + self.check(self.server.post("/projects/", {"name": "ws"}, token=tenant.token), 201)["id"]
        for key in (self.server.key, self.tenant().key):
            self.check(self.server.get(path, key=key), 404, "Project not found")
            self.check(self.server.delete(path, key=key), 404)
        self.assertEqual(self.check(self.server.get(path, token=tenant.token), 200)["flows"], [])

    def test_takes_its_flows_along(self):
        tenant = self.tenant()
        path = "/projects/" + self.check(self.server.post("/projects/", {"name": "ws"}, token=tenant.token), 201)["id"]
        flow = tenant.flow(folder_id=path.rsplit("/", 1)[1])
        self.check(self.server.delete(path, token=tenant.token), 204)
        self.assertTrue(eventually(lambda: self.server.get("/flows/" + flow, token=tenant.token).status == 404))
        self.check(self.server.delete(path, token=tenant.token), 404, "Project not found")

    def test_the_last_one_comes_back(self):
        tenant = self.tenant()
        only = self.check(self.server.get("/projects/", token=tenant.token), 200)[0]
        self.check(self.server.delete("/projects/" + only["id"], token=tenant.token), 204)
        self.assertTrue(eventually(lambda: self.server.get("/projects/", token=tenant.token).json == []))
        tenant.flow()
        self.assertEqual(self.names("/projects/", tenant.token), [only["name"]])


class Flows(Case):
    def test_put_makes_it_under_ones_own_id(self):
        tenant = self.tenant()
        path = "/flows/" + derived_id(tenant.name)
        body = {"name": "agent", "description": "d", "data": EMPTY, "endpoint_name": "agent-x", "tags": ["t"],
                "access_type": "PRIVATE"}
        self.check(self.server.get(path, token=tenant.token), 404, "Flow not found")
        made = self.check(self.server.put(path, body, token=tenant.token), 201)
        self.assertEqual({k: made[k] for k in body}, body)
        self.assertEqual((made["id"], made["user_id"]), (path.rsplit("/", 1)[1], tenant.id))
        self.assertTrue(eventually(lambda: self.server.get(path, token=tenant.token).status == 200))

    def test_put_takes_a_template_as_it_is(self):
        """Whose it was, where it lay and what is not known is passed over; the path says the id, the caller the user."""
        tenant, other = self.tenant(), self.tenant()
        template = self.check(self.server.get("/flows/" + other.flow("template"), token=other.token), 200)
        path = "/flows/" + derived_id(tenant.name)
        made = self.check(self.server.put(path, {**template, "folder_id": None, "unknown": 1, "description": "d",
                                                 "tags": ["b", "a"], "icon": "Bot", "gradient": "3",
                                                 "icon_bg_color": "#ffffff"}, key=tenant.key), 201)
        self.assertEqual((made["id"], made["user_id"], made["name"]), (path.rsplit("/", 1)[1], tenant.id, "template"))
        self.assertEqual((made["description"], made["tags"], made["icon"], made["gradient"], made["icon_bg_color"],
                          made["access_type"], made["locked"], made["endpoint_name"]),
                         ("d", ["b", "a"], "Bot", "3", "#ffffff", "PRIVATE", False, None))
        upper = str(uuid.uuid4()).upper()
        made = self.check(self.server.put("/flows/" + upper, {"name": "upper"}, key=tenant.key), 201)
        self.assertEqual((made["id"], made["data"]), (upper.lower(), None))

    def test_brief_lists(self):
        """They do not say whose a flow is, nor whether it is locked."""
        tenant = self.tenant()
        flow = tenant.flow(endpoint_name="ep", access_type="PUBLIC", tags=["t"], description="d")
        brief, = self.check(self.server.get("/flows/?header_flows=true&get_all=true", token=tenant.token), 200)
        members = {"id", "name", "folder_id", "is_component", "endpoint_name", "description", "data", "access_type",
                   "tags", "mcp_enabled", "action_name", "action_description"}
        if self.version >= (1, 13):
            members |= {"flow_type", "a2a_enabled", "a2a_card_overrides", "updated_at"}
        self.assertEqual(brief.keys(), members)
        self.assertEqual((brief["id"], brief["endpoint_name"], brief["access_type"], brief["tags"],
                          brief["description"], brief["data"]), (flow, "ep", "PUBLIC", ["t"], "d", None))
        whole, = self.check(self.server.get("/flows/", token=tenant.token), 200)
        self.assertEqual((whole["user_id"], whole["locked"], whole["data"]), (tenant.id, False, EMPTY))

    def test_version_5_ids_are_somebody_elses(self):
        tenant = self.tenant()
        path = "/flows/" + str(uuid.uuid5(uuid.NAMESPACE_URL, tenant.name))
        answer = self.server.put(path, {"name": "agent", "data": EMPTY}, token=tenant.token)
        if self.version >= (1, 13):
            self.check(answer, 400, "UUID5 flow IDs are reserved for public execution histories.")
        else:
            self.check(answer, 201)

    def test_put_again_overwrites(self):
        """What a tenant edited would be lost: a replay has to look first."""
        tenant = self.tenant()
        flow = tenant.flow(data=EMPTY)
        edited = {"nodes": [{"id": "n", "data": {"mine": True}}], "edges": []}
        self.check(self.server.patch("/flows/" + flow, {"data": edited}, token=tenant.token), 200)
        made = self.check(self.server.put("/flows/" + flow, {"name": "agent", "data": EMPTY}, token=tenant.token), 200)
        self.assertEqual(made["data"], EMPTY)

    def test_put_keeps_what_it_does_not_name(self):
        tenant = self.tenant()
        flow = tenant.flow(description="d", endpoint_name="ep", tags=["t"])
        kept = self.check(self.server.put("/flows/" + flow, {"name": "agent"}, token=tenant.token), 200)
        self.assertEqual((kept["description"], kept["tags"], kept["data"]), ("d", ["t"], EMPTY))
        self.assertEqual(kept["endpoint_name"], "ep" if self.version >= (1, 10) else None)

    def test_patch_to_private(self):
        tenant = self.tenant()
        flow = tenant.flow(endpoint_name="ep", access_type="PUBLIC", description="d")
        self.check(self.server.get("/flows/public_flow/" + flow), 200)
        after = self.check(self.server.patch("/flows/" + flow, {"access_type": "PRIVATE"}, token=tenant.token), 200)
        self.assertEqual((after["access_type"], after["description"]), ("PRIVATE", "d"))
        # 1.8 takes a PATCH that does not name it for one that clears it.
        self.assertEqual(after["endpoint_name"], "ep" if self.version >= (1, 10) else None)
        self.check(self.server.get("/flows/public_flow/" + flow), *self.not_public())
        self.check(self.server.patch("/flows/" + flow, {"access_type": "private"}, token=tenant.token), 422)

    def test_put_of_a_taken_name(self):
        tenant = self.tenant()
        first = tenant.flow("agent")
        path = "/flows/" + derived_id(tenant.name + "second")
        made = self.check(self.server.put(path, {"name": "agent", "data": EMPTY}, token=tenant.token), 201)
        self.assertEqual(made["name"], "agent (1)")
        self.check(self.server.put(path, {"name": "agent", "data": EMPTY}, token=tenant.token), 409,
                   "Name must be unique")
        self.check(self.server.patch(path, {"name": "agent"}, token=tenant.token), 400)
        self.assertEqual(self.check(self.server.get("/flows/" + first, token=tenant.token), 200)["name"], "agent")

    def test_put_of_a_taken_endpoint(self):
        tenant = self.tenant()
        tenant.flow("agent", endpoint_name="ep")
        path = "/flows/" + derived_id(tenant.name + "second")
        self.check(self.server.put(path, {"name": "b", "data": EMPTY, "endpoint_name": "ep"}, token=tenant.token), 409,
                   "Endpoint name must be unique")
        self.check(self.server.get(path, token=tenant.token), 404)
        # Other users are no matter.
        self.tenant().flow("agent", endpoint_name="ep")

    def test_what_put_refuses(self):
        tenant = self.tenant()
        for more, status in (({"folder_id": str(uuid.uuid4())}, 400), ({"data": {"nodes": []}}, 422),
                             ({"endpoint_name": "a b"}, 422), ({"name": None}, 422)):
            path = "/flows/" + derived_id(tenant.name + json.dumps(more))
            self.check(self.server.put(path, {"name": "agent", "data": EMPTY, **more}, token=tenant.token), status)
            self.check(self.server.get(path, token=tenant.token), 404)
        self.check(self.server.put("/flows/not-a-uuid", {"name": "agent", "data": EMPTY}, token=tenant.token), 422)

    def test_another_users_flow(self):
        tenant = self.tenant()
        flow = tenant.flow(description="mine")
        for key in (self.server.key, self.tenant().key):
            self.check(self.server.get("/flows/" + flow, key=key), 404, "Flow not found")
            self.check(self.server.put("/flows/" + flow, {"name": "agent", "data": EMPTY}, key=key), 404)
            self.check(self.server.patch("/flows/" + flow, {"description": "x"}, key=key), 404)
            self.check(self.server.delete("/flows/" + flow, key=key), 404)
            self.assertEqual(self.check(self.server.delete("/flows/", [flow], key=key), 200), {"deleted": 0})
            self.assertNotIn(flow, [f["id"] for f in self.server.get("/flows/?header_flows=true", key=key).json])
        self.assertEqual(self.check(self.server.get("/flows/" + flow, token=tenant.token), 200)["description"], "mine")

    def test_post_renames_silently(self):
        tenant = self.tenant()
        body = {"name": "agent", "data": EMPTY, "endpoint_name": "ep", "folder_id": str(uuid.uuid4())}
        made = [self.check(self.server.post("/flows/", body, token=tenant.token), 201) for _ in range(3)]
        self.assertEqual([f["name"] for f in made], ["agent", "agent (1)", "agent (2)"])
        self.assertEqual([f["endpoint_name"] for f in made], ["ep", "ep-1", "ep-2"])
        default = self.check(self.server.get("/projects/", token=tenant.token), 200)[0]["id"]
        self.assertEqual({f["folder_id"] for f in made}, {default})

    def test_post_and_ids(self):
        tenant = self.tenant()
        wanted = derived_id(tenant.name)
        made = self.check(self.server.post("/flows/", {"id": wanted, "name": "agent", "data": EMPTY},
                                           token=tenant.token), 201)
        self.assertEqual(made["id"] == wanted, self.version >= (1, 10))

    def test_lists(self):
        tenant = self.tenant()
        flows = {tenant.flow(name): name for name in ("a", "b")}
        for query in ("", "?header_flows=true"):
            answer = self.server.get("/flows/" + query, token=tenant.token)  # accepts nothing but plain bytes
            self.assertEqual({f["id"]: f["name"] for f in self.check(answer, 200)}, flows)
            self.assertEqual(answer.headers.get("Content-Encoding"), "gzip" if self.version < (1, 13) else None)
            answer = self.server.get("/flows/" + query, token=tenant.token, headers={"Accept-Encoding": "gzip"})
            self.assertEqual({f["id"] for f in self.check(answer, 200)}, set(flows))

    def test_delete(self):
        tenant = self.tenant()
        flow, other = tenant.flow("a"), tenant.flow("b")
        self.check(self.server.delete("/flows/" + flow, token=tenant.token), 200)
        self.assertTrue(eventually(lambda: self.server.delete("/flows/" + flow, token=tenant.token).status == 404))
        self.assertEqual(self.check(self.server.delete("/flows/", [other, str(uuid.uuid4())], token=tenant.token), 200),
                         {"deleted": 1})

    def test_locked(self):
        """Any tenant can lock its flow: from 1.13 on it is unlocked alone, then changed."""
        tenant = self.tenant()
        path, strict = "/flows/" + tenant.flow(access_type="PUBLIC", endpoint_name="ep"), self.version >= (1, 13)
        whole = {"name": "agent", "endpoint_name": "ep"}
        locked, shut = {**whole, "locked": True}, {**whole, "access_type": "PRIVATE"}
        for way, change in ((self.server.patch, shut), (self.server.patch, {**shut, "locked": False}),
                            (self.server.put, shut)):
            self.check(self.server.patch(path, {**whole, "access_type": "PUBLIC"}, token=tenant.token), 200)
            self.check(self.server.patch(path, locked, token=tenant.token), 200)
            self.check(way(path, change, token=tenant.token), 423 if strict else 200,
                       "Flow is locked. Unlock it before making changes." if strict else None)
            # What changes nothing is no change.
            self.check(self.server.patch(path, whole, token=tenant.token), 200)
            self.check(self.server.patch(path, {"locked": False}, token=tenant.token), 200)
        # One change shuts it, and locks it again.
        after = self.check(self.server.patch(path, {**shut, "mcp_enabled": False, "locked": True}, token=tenant.token),
                           200)
        self.assertEqual((after["access_type"], after["mcp_enabled"], after["locked"]), ("PRIVATE", False, True))
        after = self.check(self.server.patch(path, {**whole, "locked": False}, token=tenant.token), 200)
        self.assertEqual((after["access_type"], after["locked"], after["endpoint_name"], after["data"]),
                         ("PRIVATE", False, "ep", EMPTY))
        self.check(self.server.patch(path, {"locked": True}, token=tenant.token), 200)
        self.check(self.server.delete(path, token=tenant.token), 200)

    def test_two_megabytes(self):
        tenant = self.tenant()
        data = {"nodes": [{"id": f"n{i}", "data": {"x": "y" * 20000}} for i in range(105)], "edges": []}
        flow = tenant.flow("big", data)
        self.assertEqual(self.check(self.server.get("/flows/" + flow, token=tenant.token), 200)["data"], data)


class Variables(Case):
    def setUp(self):
        self.who = self.tenant()

    def make(self, name, value="1", kind="Generic"):
        return self.server.post("/variables/", {"name": name, "value": value, "type": kind, "default_fields": []},
                                token=self.who.token)

    def change(self, variable, **members):
        return self.server.patch("/variables/" + variable["id"], {"id": variable["id"], **members},
                                 token=self.who.token)

    def values(self):
        found = self.check(self.server.get("/variables/", token=self.who.token), 200)
        return {v["name"]: v["value"] for v in found if v["name"].startswith("WS_")}

    def test_made_and_listed(self):
        made = self.check(self.make("WS_A"), 201)
        self.assertEqual((made["name"], made["type"], made["value"]), ("WS_A", "Generic", "1"))
        self.assertIsNone(self.check(self.make("WS_S", "secret", "Credential"), 201)["value"])
        self.assertTrue(eventually(lambda: self.values() == {"WS_A": "1", "WS_S": None}))
        others = self.check(self.server.get("/variables/", key=self.tenant().key), 200)
        self.assertNotIn("WS_A", [v["name"] for v in others])

    def test_what_is_refused(self):
        self.check(self.make("WS_A"), 201)
        self.check(self.make("WS_A", "2"), 400, "Variable name already exists")
        self.check(self.make("WS_B", ""), 400, "Variable value cannot be empty")
        self.check(self.make("", "1"), 400, "Variable name cannot be empty")
        self.check(self.make("WS_B", 5), 422)
        self.check(self.server.post("/variables/", {"name": "WS_B", "value": "1", "type": "Generic"},
                                    token=self.who.token), 422)  # default_fields
        self.assertEqual(self.values(), {"WS_A": "1"})

    def test_values_that_look_encrypted(self):
        """Refused with 500 by POST, and by PATCH as if the variable were not there."""
        self.check(self.make("WS_G", "gAAAAA-and-so-on"), 500)
        made = self.check(self.make("WS_A"), 201)
        self.check(self.change(made, name="WS_A", value="gAAAAAx", type="Generic", default_fields=[]), 404,
                   "Variable not found")
        self.assertEqual(self.values(), {"WS_A": "1"})

    def test_whole_change(self):
        made = self.check(self.make("WS_A"), 201)
        after = self.check(self.change(made, name="WS_A", value="2", type="Generic", default_fields=["f"]), 200)
        self.assertEqual((after["id"], after["value"], after["default_fields"]), (made["id"], "2", ["f"]))
        self.assertTrue(eventually(lambda: self.values() == {"WS_A": "2"}))

    def test_what_is_shown(self):
        members = {"id", "name", "type", "value", "default_fields", "validation_error", "is_valid"}
        if self.version >= (1, 13):
            members |= {"has_value", "is_owner", "can_manage_shares"}
        made = self.check(self.make("WS_A"), 201)
        changed = self.check(self.change(made, name="WS_A", value="2", type="Generic", default_fields=[]), 200)
        listed = [v for v in self.server.get("/variables/", token=self.who.token).json if v["name"] == "WS_A"]
        for shown in (made, changed, *listed):
            self.assertEqual(shown.keys(), members)
        self.assertEqual(len(listed), 1)

    def test_from_one_type_to_the_other(self):
        made = self.check(self.make("WS_A"), 201)
        hidden = self.check(self.change(made, name="WS_A", value="2", type="Credential", default_fields=[]), 200)
        self.assertEqual((hidden["type"], hidden["value"]), ("Credential", None))
        shown = self.check(self.change(made, name="WS_A", value="3", type="Generic", default_fields=[]), 200)
        self.assertEqual((shown["type"], shown["value"]), ("Generic", "3"))

    def test_values_are_kept_to_the_byte(self):
        values = {"WS_BIG": "x" * 65536, "WS_LINES": "a\nb\r\nc\td", "WS_UNICODE": "Gr\u00fc\u00dfe \u4e16\u754c \U0001f389",
                  "WS_PADDED": "  padded  ", "WS_BLANK": " ", "WS_JSON": '{"a":[1,"b"]}', "WS_COMMA": "a,b",
                  "WS_QUOTES": "\"'\\", "WS_ALMOST": "gAAAA"}
        for name, value in values.items():
            self.assertEqual(self.check(self.make(name, value), 201)["value"], value)
        self.assertTrue(eventually(lambda: self.values() == values, 5))

    def test_names_may_be_anything(self):
        """And are told apart by case."""
        names = ["WS_lower-case", "WS_with space", "WS_with.dot", "WS_\u00fcml", "WS_" + "x" * 125, "WS_LOWER-CASE"]
        for name in names:
            self.assertEqual(self.check(self.make(name), 201)["name"], name)
        self.assertTrue(eventually(lambda: self.values() == dict.fromkeys(names, "1"), 5))

    def test_partial_changes(self):
        """From 1.8 on what is not named stays; an empty value blanks, though a new variable may not be empty."""
        made = self.check(self.make("WS_A"), 201)
        self.assertEqual(self.check(self.change(made, value="2"), 200)["type"], "Generic")
        self.assertEqual(self.check(self.change(made, name="WS_A2"), 200)["value"], "2")
        self.assertEqual(self.check(self.change(made, value=""), 200)["value"], "")
        self.check(self.server.patch("/variables/" + made["id"], {"name": "WS_A", "value": "3"},
                                     token=self.who.token), 422)  # id is wanted in the body too

    def test_an_empty_one_is_not_listed(self):
        made = self.check(self.make("WS_A"), 201)
        self.check(self.change(made, value=""), 200)
        self.assertTrue(eventually(lambda: self.values() == {}))
        # A second of the same name can now be made: the check sees what the list shows.
        self.check(self.make("WS_A", "2"), 201)

    def test_a_credential_cannot_be_read_back(self):
        made = self.check(self.make("WS_S", "secret", "Credential"), 201)
        after = self.check(self.change(made, name="WS_S", value="other", type="Credential", default_fields=[]), 200)
        self.assertIsNone(after["value"])
        # Said to be Generic it is stored and shown in the clear.
        after = self.check(self.change(made, name="WS_S", value="other", type="Generic", default_fields=[]), 200)
        self.assertEqual(after["value"], "other")

    def test_renaming_makes_two_of_a_name(self):
        self.check(self.make("WS_A", "1"), 201)
        second = self.check(self.make("WS_B", "2"), 201)
        self.check(self.change(second, name="WS_A", value="2", type="Generic", default_fields=[]), 200)
        names = [v["name"] for v in self.server.get("/variables/", token=self.who.token).json]
        self.assertEqual(names.count("WS_A"), 2)

    def test_unknown(self):
        nobody = str(uuid.uuid4())
        self.check(self.server.patch("/variables/" + nobody, {"id": nobody, "value": "x"}, token=self.who.token), 404,
                   "Variable not found")
        self.check(self.server.delete("/variables/" + nobody, token=self.who.token),
                   404 if self.version >= (1, 10) else 500)

    def test_delete(self):
        made = self.check(self.make("WS_A"), 201)
        self.check(self.server.delete("/variables/" + made["id"], key=self.tenant().key),
                   404 if self.version >= (1, 10) else 500)
        self.check(self.server.delete("/variables/" + made["id"], token=self.who.token), 204)
        self.assertTrue(eventually(lambda: self.values() == {}))


class Keys(Case):
    def test_shown_once(self):
        tenant = self.tenant()
        made = self.check(self.server.post("/api_key/", {"name": "k"}, token=tenant.token), 200)
        self.assertTrue(made["api_key"].startswith("sk-") and len(made["api_key"]) > 30)
        listing = self.check(self.server.get("/api_key/", token=tenant.token), 200)
        self.assertEqual((listing["total_count"], listing["user_id"]), (2, tenant.id))
        shown = {k["id"]: k["api_key"] for k in listing["api_keys"]}[made["id"]]
        self.assertEqual(shown, made["api_key"][:8] + "*" * (len(made["api_key"]) - 8))
        members = {"id", "name", "api_key", "user_id", "is_active", "total_uses", "last_used_at"}
        if self.version >= (1, 10):
            members.add("expires_at")
        self.assertEqual(made.keys(), members)
        self.assertEqual({k for one in listing["api_keys"] for k in one}, members | {"created_at"})

    def test_names_may_repeat(self):
        tenant = self.tenant()
        for _ in range(2):
            self.check(self.server.post("/api_key/", {"name": "same"}, token=tenant.token), 200)
        names = [k["name"] for k in self.server.get("/api_key/", token=tenant.token).json["api_keys"]]
        self.assertEqual(names.count("same"), 2)

    def test_delete(self):
        tenant = self.tenant()
        key_id, key = tenant.new_key("k")
        for other in (self.server.key, self.tenant().key):
            self.check(self.server.delete("/api_key/" + key_id, key=other), 400, "API Key not found")
        self.check(self.server.delete("/api_key/" + key_id, key=tenant.key), 200, "API Key deleted")
        self.assertTrue(eventually(lambda: self.server.get("/users/whoami", key=key).status == 403))
        self.check(self.server.delete("/api_key/" + key_id, key=tenant.key), 400, "API Key not found")

    def test_a_key_can_delete_itself(self):
        tenant = self.tenant()
        self.check(self.server.delete("/api_key/" + tenant.key_id, key=tenant.key), 200)
        self.assertTrue(eventually(lambda: self.server.get("/users/whoami", key=tenant.key).status == 403))
        self.assertEqual(self.server.get("/api_key/", token=tenant.token).json["api_keys"], [])

    def test_a_key_does_everything_its_user_may(self):
        tenant = self.tenant()
        path = "/flows/" + derived_id(tenant.name)
        self.check(self.server.put(path, {"name": "agent", "data": EMPTY}, key=tenant.key), 201)
        self.assertEqual(self.names("/projects/", tenant.token), self.names("/projects/", tenant.token))
        self.check(self.server.get("/users/", key=tenant.key), 403)


class Reach(Case):
    """Who gets at a flow."""

    def run_flow(self, flow, **who):
        return self.server.post(f"/run/{flow}?stream=false", {"input_value": "hi"}, **who)

    def test_who_may_run(self):
        tenant, other = self.tenant(), self.tenant()
        flow = tenant.flow(endpoint_name="ep-" + tenant.name)
        ran = self.check(self.run_flow(flow, key=tenant.key), 200)
        self.assertEqual(ran.keys() & {"session_id", "outputs"}, {"session_id", "outputs"})
        self.check(self.run_flow("ep-" + tenant.name, key=tenant.key), 200)
        missing = "An API key must be passed as query or header"
        self.check(self.run_flow(flow), 403, missing)
        self.check(self.run_flow(flow, token=tenant.token), 403, missing)
        self.check(self.run_flow(flow, key="sk-wrong"), 403, "Invalid or missing API key")
        for key in (other.key, self.server.key):
            answer = self.run_flow(flow, key=key)
            if self.version >= (1, 10):
                self.check(answer, 404, f"Flow identifier {flow} not found")
            else:
                self.check(answer, 403, "You do not have permission to run this flow")
        nobody = str(uuid.uuid4())
        self.check(self.run_flow(nobody, key=tenant.key), 404, f"Flow identifier {nobody} not found")

    def test_inactive(self):
        """An inactive user's key still runs flows before 1.12: closing means deleting the keys."""
        tenant = self.tenant()
        flow = tenant.flow(access_type="PUBLIC")
        self.check(self.server.patch("/users/" + tenant.id, {"is_active": False}, key=self.server.key), 200)
        self.assertTrue(eventually(lambda: self.server.get("/users/whoami", token=tenant.token).status == 401))
        self.check(self.server.get("/users/whoami", token=tenant.token), 401, "User account is inactive")
        self.check(self.server.get("/users/whoami", key=tenant.key), 403,
                   "Invalid API key" if self.version >= (1, 12) else "API key authentication failed")
        self.check(self.server.delete("/api_key/" + tenant.key_id, key=tenant.key), 403)
        self.check(self.server.login(tenant.name, tenant.password), 401, "Inactive user")
        self.check(self.run_flow(flow, key=tenant.key), 403 if self.version >= (1, 12) else 200)
        # And a public flow is served to anybody.
        self.check(self.server.get("/flows/public_flow/" + flow), 200)

    def test_inactive_from_the_start(self):
        """Who never logged in is told something else, with another status, than who did."""
        name, password = "contract-" + str(uuid.uuid4()), secrets.token_urlsafe(24)
        made = self.check(self.server.post("/users/", {"username": name, "password": password}, key=self.server.key), 201)
        self.addCleanup(self.server.delete, "/users/" + made["id"], key=self.server.key)
        self.check(self.server.patch("/users/" + made["id"], {"is_active": False}, key=self.server.key), 200)
        self.assertTrue(eventually(lambda: self.server.login(name, password).status != 200, 5))
        self.check(self.server.login(name, password), 400, "Waiting for approval")

    def test_closed_for_good(self):
        tenant = self.tenant()
        flow = tenant.flow(access_type="PUBLIC")
        self.check(self.server.patch("/flows/" + flow, {"access_type": "PRIVATE"}, key=tenant.key), 200)
        for key in self.server.get("/api_key/", token=tenant.token).json["api_keys"]:
            self.check(self.server.delete("/api_key/" + key["id"], token=tenant.token), 200)
        self.check(self.server.patch("/users/" + tenant.id, {"is_active": False}, key=self.server.key), 200)
        self.assertTrue(eventually(lambda: self.run_flow(flow, key=tenant.key).status == 403))
        self.assertTrue(eventually(lambda: self.server.get("/users/whoami", token=tenant.token).status == 401))
        self.check(self.server.get("/flows/public_flow/" + flow), *self.not_public())
        # Opened again: the old key stays dead, the flow is still there.
        self.check(self.server.patch("/users/" + tenant.id, {"is_active": True}, key=self.server.key), 200)
        self.assertTrue(eventually(lambda: self.server.get("/flows/" + flow, token=tenant.token).status == 200))
        self.check(self.run_flow(flow, key=tenant.key), 403)


    def test_run_through_the_back_door(self):
        """From 1.13 on by anybody, until the flow is no tool any more."""
        tenant = self.tenant()
        project = self.check(self.server.get("/projects/", token=tenant.token), 200)[0]["id"]
        flow = self.chat_flow(tenant)
        self.check(self.server.patch("/flows/" + flow, {"mcp_enabled": True}, token=tenant.token), 200)
        self.check(self.server.patch("/projects/" + project, {"auth_settings": {"auth_type": "none"}},
                                     token=tenant.token), 200)
        for left in (1 if self.version >= (1, 13) else 0,) * 2:
            self.server.mcp(project, "tools/call", name="chat", arguments={"input_value": "hello"})
            self.assertEqual(len(self.messages(tenant.token, flow)), left)
            self.check(self.server.patch("/flows/" + flow, {"access_type": "PRIVATE", "mcp_enabled": False},
                                         token=tenant.token), 200)

    def test_the_back_door(self):
        """
        A tenant can give its project's MCP server away, and no deleted key, private flow or inactive user shuts that:
        1.13 runs its flows for anybody then, 1.8 lists them, 1.10 does neither.
        """
        tenant = self.tenant()
        project = self.check(self.server.get("/projects/", token=tenant.token), 200)[0]["id"]
        path = "/flows/" + tenant.flow("chat", mcp_enabled=True)
        shown = [] if (1, 10) <= self.version < (1, 12) else ["chat"]
        self.assertIsNone(self.server.mcp_tools(project))
        self.check(self.server.patch("/projects/" + project, {"auth_settings": {"auth_type": "none"}},
                                     token=tenant.token), 200)
        self.assertEqual(self.server.get("/projects/", token=tenant.token).json[0]["auth_settings"],
                         {"auth_type": "none"})
        self.assertEqual(self.server.mcp_tools(project), shown)
        self.check(self.server.patch(path, {"access_type": "PRIVATE"}, token=tenant.token), 200)
        self.check(self.server.delete("/api_key/" + tenant.key_id, token=tenant.token), 200)
        self.check(self.server.patch("/users/" + tenant.id, {"is_active": False}, key=self.server.key), 200)
        self.assertEqual(self.server.mcp_tools(project), shown)
        # Either of these does.
        self.check(self.server.patch("/users/" + tenant.id, {"is_active": True}, key=self.server.key), 200)
        self.assertTrue(eventually(lambda: self.server.get("/users/whoami", token=tenant.token).status == 200))
        self.check(self.server.patch(path, {"mcp_enabled": False}, token=tenant.token), 200)
        self.assertEqual(self.server.mcp_tools(project), [])
        self.check(self.server.patch(path, {"mcp_enabled": True}, token=tenant.token), 200)
        self.check(self.server.patch("/projects/" + project, {"auth_settings": {"auth_type": "apikey"}},
                                     token=tenant.token), 200)
        self.assertIsNone(self.server.mcp_tools(project))


class Messages(Case):
    def test_only_the_owner_sees_them(self):
        tenant = self.tenant()
        flow = self.chat_flow(tenant)
        self.talk(tenant, flow, "s-" + tenant.name)
        self.assertEqual([m["flow_id"] for m in self.messages(tenant.token, flow)], [flow])
        self.assertEqual(self.check(self.server.get("/monitor/messages/sessions", token=tenant.token), 200),
                         ["s-" + tenant.name])
        self.assertEqual(self.check(self.server.get("/monitor/messages?flow_id=" + flow, key=self.server.key), 200), [])
        self.check(self.server.get("/monitor/messages"), 403)

    def test_a_session_that_is_not_ours(self):
        """204 in any case; before 1.10 others' messages go with it."""
        tenant = self.tenant()
        flow = self.chat_flow(tenant)
        self.talk(tenant, flow, "s-" + tenant.name)
        self.check(self.server.delete("/monitor/messages/session/s-" + tenant.name, key=self.tenant().key), 204)
        self.assertTrue(eventually(
            lambda: len(self.messages(tenant.token, flow)) == (1 if self.version >= (1, 10) else 0), 5))
        self.check(self.server.delete("/monitor/messages/session/s-" + tenant.name, token=tenant.token), 204)
        self.assertTrue(eventually(lambda: self.messages(tenant.token, flow) == [], 5))

    def test_go_with_their_flow(self):
        tenant = self.tenant()
        flow = self.chat_flow(tenant)
        self.talk(tenant, flow, "s-" + tenant.name)
        self.check(self.server.delete("/flows/" + flow, token=tenant.token), 200)
        self.assertTrue(eventually(lambda: self.server.get("/flows/" + flow, token=tenant.token).status == 404))
        self.assertEqual(self.left_of(flow), 0)

    def test_outlive_their_user(self):
        """Before 1.13 nobody can see or delete them then, but whoever puts a flow of that id in place."""
        tenant = self.tenant()
        flow = self.chat_flow(tenant)
        self.talk(tenant, flow, "s-" + tenant.name)
        self.check(self.server.delete("/users/" + tenant.id, key=self.server.key),
                   202 if self.version >= (1, 13) else 200)
        self.assertTrue(eventually(tenant.gone))
        self.assertEqual(self.check(self.server.get("/monitor/messages?flow_id=" + flow, key=self.server.key), 200), [])
        self.assertEqual(self.left_of(flow), 0 if self.version >= (1, 13) else 1)
        self.assertEqual(self.left_of(flow), 0)

    def left_of(self, flow):
        """Messages of a flow that is gone: seen, and deleted, through a new one of its id."""
        finder = self.tenant()
        self.check(self.server.put("/flows/" + flow, {"name": "finder", "data": EMPTY}, token=finder.token), 201)
        left = len(self.messages(finder.token, flow))
        self.assertTrue(eventually(lambda: self.server.delete("/flows/" + flow, token=finder.token).status == 200, 5))
        return left


class Deletion(Case):
    def test_user_with_everything(self):
        tenant = self.tenant()
        flow = tenant.flow()
        self.server.post("/variables/", {"name": "WS_A", "value": "1", "type": "Generic", "default_fields": []},
                         token=tenant.token)
        answer = self.server.delete("/users/" + tenant.id, key=self.server.key)
        if self.version >= (1, 13):
            self.check(answer, 202, "User deletion started")
            self.assertIn("request_id", answer.json)
        else:
            self.check(answer, 200, "User deleted")
        self.assertTrue(eventually(tenant.gone), "the user stays")
        self.assertTrue(eventually(
            lambda: self.server.delete("/users/" + tenant.id, key=self.server.key).status == 404))
        self.check(self.server.get("/users/whoami", key=tenant.key), 403)
        self.check(self.server.get("/users/whoami", token=tenant.token), 401)
        self.check(self.server.login(tenant.name, tenant.password), 401)
        # Its id is free, its name too.
        heir = self.tenant()
        self.check(self.server.put("/flows/" + flow, {"name": "agent", "data": EMPTY}, token=heir.token), 201)
        again = self.server.post("/users/", {"username": tenant.name, "password": "x" * 12}, key=self.server.key)
        self.server.delete("/users/" + self.check(again, 201)["id"], key=self.server.key)

    def test_deleted_twice(self):
        tenant = self.tenant()
        path = "/users/" + tenant.id
        first = self.server.delete(path, key=self.server.key)
        if self.version >= (1, 13):  # while it is erased: the same answer, and no way back
            self.check(first, 202)
            again = self.server.delete(path, key=self.server.key)
            if again.status != 404:
                self.assertEqual(self.check(again, 202), first.json)
                self.assertIn(self.server.patch(path, {"is_active": True}, key=self.server.key).status, (200, 404))
        else:
            self.check(first, 200)
        self.assertTrue(eventually(tenant.gone))
        self.assertTrue(eventually(lambda: self.server.delete(path, key=self.server.key).status == 404))
        self.assertTrue(eventually(lambda: self.server.patch(path, {"is_active": True}, key=self.server.key)
                                   .status == 404))

    def test_in_order(self):
        tenant = self.tenant()
        flow = tenant.flow()
        self.check(self.server.delete("/flows/" + flow, token=tenant.token), 200)
        for project in self.server.get("/projects/", token=tenant.token).json:
            self.check(self.server.delete("/projects/" + project["id"], token=tenant.token), 204)
        self.check(self.server.delete("/api_key/" + tenant.key_id, token=tenant.token), 200)
        self.assertIn(self.server.delete("/users/" + tenant.id, key=self.server.key).status, (200, 202))
        self.assertTrue(eventually(tenant.gone))

    def test_unknown(self):
        self.check(self.server.delete("/users/" + str(uuid.uuid4()), key=self.server.key), 404, "User not found")


class Files(Case):
    """What lies on the server's disk, as its owner sees it; and whoever has a flow of the same id afterwards."""

    def upload(self, path, name, tenant):
        body = (f'--xx\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
                'Content-Type: text/plain\r\n\r\nhello\r\n--xx--\r\n').encode()
        return self.check(self.server.request("POST", path, body, token=tenant.token,
                                              headers={"Content-Type": "multipart/form-data; boundary=xx"}), 201)

    def of_flow(self, flow, tenant):
        return self.check(self.server.get("/files/list/" + flow, token=tenant.token), 200)["files"]

    def of_user(self, tenant):
        return self.check(self.server.request("GET", USER_FILES, token=tenant.token), 200)

    def delete(self, flow, name, tenant):
        return self.server.delete(f"/files/delete/{flow}/{urllib.parse.quote(name, safe='')}", token=tenant.token)

    def test_of_a_flow(self):
        tenant, other = self.tenant(), self.tenant()
        flow = tenant.flow()
        self.assertEqual(self.of_flow(flow, tenant), [])
        self.upload(API + "/files/upload/" + flow, "a b%+.txt", tenant)
        name, = self.of_flow(flow, tenant)
        self.assertTrue(name.endswith("a b%+.txt"), name)
        self.check(self.server.get("/files/list/" + flow, token=other.token), 404)
        self.check(self.server.get("/files/list/" + flow, key=self.server.key), 404)
        self.check(self.delete(flow, name, other), 404)
        self.check(self.delete(flow, "a..b", tenant), 400)
        for _ in range(2):  # what is gone is deleted, too
            self.check(self.delete(flow, name, tenant), 200)
            self.assertEqual(self.of_flow(flow, tenant), [])

    def test_outlive_flow_and_user(self):
        tenant, heir = self.tenant(), self.tenant()
        flow = tenant.flow()
        self.upload(API + "/files/upload/" + flow, "a.txt", tenant)
        self.check(self.server.delete("/flows/" + flow, token=tenant.token), 200)
        self.assertTrue(eventually(lambda: self.server.get("/flows/" + flow, token=tenant.token).status == 404))
        self.check(self.server.get("/files/list/" + flow, token=tenant.token), 404)
        self.check(self.server.delete("/users/" + tenant.id, key=self.server.key),
                   202 if self.version >= (1, 13) else 200)
        self.assertTrue(eventually(tenant.gone))
        self.check(self.server.put("/flows/" + flow, {"name": "heir", "data": EMPTY}, token=heir.token), 201)
        self.assertTrue(eventually(lambda: self.server.get("/flows/" + flow, token=heir.token).status == 200))
        name, = self.of_flow(flow, heir)
        self.check(self.delete(flow, name, heir), 200)
        self.assertEqual(self.of_flow(flow, heir), [])

    def test_of_a_user(self):
        tenant, other = self.tenant(), self.tenant()
        self.upload(USER_FILES, "a.txt", tenant)
        self.upload(USER_FILES, "b.txt", other)
        self.assertTrue(eventually(lambda: len(self.of_user(tenant)) == 1, 5))
        for n in (1, 0):
            answer = self.check(self.server.request("DELETE", USER_FILES, token=tenant.token), 200)
            self.assertEqual(answer, {"message": f"All {n} files deleted successfully"})
            self.assertTrue(eventually(lambda: self.of_user(tenant) == [], 5))
        self.assertEqual(len(self.of_user(other)), 1)
        self.check(self.server.request("DELETE", USER_FILES, token=other.token), 200)


class LoginLimit(Case):
    def test_too_many(self):
        limit = int(os.environ.get("LANGFLOW_LOGIN_LIMIT", "0"))
        if self.version < (1, 10):
            self.skipTest("there is no limit before 1.10")
        if self.server.standin:
            limit = 5
            self.settings(login_limit=limit, login_window_ms=1500)
        if not limit:
            self.skipTest("LANGFLOW_LOGIN_LIMIT is not set")

        def wrong(_):
            return self.server.post("/login", form={"username": "contract-nobody", "password": "x"})

        # Several at once, for a slow machine must get there within the minute too.
        with concurrent.futures.ThreadPoolExecutor(1 if self.server.standin else 8) as pool:
            answers = sorted(pool.map(wrong, range(limit + 1)), key=lambda a: a.status)
        self.assertEqual(answers[-1].status, 429, answers[-1])
        self.assertEqual(answers[-1].headers["Retry-After"], "60")
        self.assertEqual(answers[-1].detail, "Too many requests. Please try again later.")
        # Only logins are counted.
        self.check(self.server.get("/users/whoami", key=self.server.key), 200)
        if self.server.standin:
            self.assertTrue(eventually(lambda: self.server.post(
                "/login", form={"username": "contract-nobody", "password": "x"}).status == 401, 10))


class Told(Case):
    """What a live server cannot be told to do at will."""

    def setUp(self):
        self.standin_only()

    def test_answers_before_the_commit(self):
        tenant = self.tenant()
        self.settings(commit_ms=300)
        flow = "/flows/" + derived_id(tenant.name + "late")
        self.check(self.server.put(flow, {"name": "late", "data": EMPTY}, token=tenant.token), 201)
        self.check(self.server.get(flow, token=tenant.token), 404)
        self.assertTrue(eventually(lambda: self.server.get(flow, token=tenant.token).status == 200, 5))
        self.check(self.server.delete(flow, token=tenant.token), 200)
        self.check(self.server.get(flow, token=tenant.token), 200)
        self.assertTrue(eventually(lambda: self.server.get(flow, token=tenant.token).status == 404, 5))
        made = self.check(self.server.post("/api_key/", {"name": "late"}, token=tenant.token), 200)
        self.check(self.server.get("/users/whoami", key=made["api_key"]), 403)
        self.assertTrue(eventually(lambda: self.server.get("/users/whoami", key=made["api_key"]).status == 200, 5))
        self.server.delete("/users/" + tenant.id, key=self.server.key)
        self.assertFalse(tenant.gone())
        self.assertTrue(eventually(tenant.gone, 5))

    def test_a_page_in_place_of_404(self):
        tenant = self.tenant()
        self.settings(frontend=True)
        for path in ("/flows/" + str(uuid.uuid4()), "/nothing-here"):
            answer = self.server.get(path, token=tenant.token)
            self.check(answer, 200)
            self.assertTrue(answer.headers["Content-Type"].startswith("text/html"))
            self.assertIn(b"<!doctype html>", answer.raw)
        self.check(self.server.get("/users/whoami", token=tenant.token), 200)

    def test_unordered_pages(self):
        if self.version >= (1, 13):
            self.skipTest("from 1.13 on they are ordered")
        tenants = [self.tenant() for _ in range(6)]
        self.settings(shuffle=True)
        seen = set()
        for skip in range(0, 7):
            seen.update(u["id"] for u in self.server.get(f"/users/?skip={skip}&limit=1", key=self.server.key)
                        .json["users"])
        self.assertLess(len(seen), 7, "pages of one read as if there were an order")
        whole = self.server.get("/users/?limit=1000", key=self.server.key).json["users"]
        self.assertEqual({t.id for t in tenants} - {u["id"] for u in whole}, set())

    def test_open_doors(self):
        self.settings(auto_login=True, signup=True)
        token = self.check(self.server.get("/auto_login"), 200)["access_token"]
        self.assertTrue(self.check(self.server.get("/users/whoami", token=token), 200)["is_superuser"])
        self.check(self.server.post("/users/", {"username": self.server.superuser, "password": "x" * 12}), 400)

    def test_admin_shows_whose_everything_is(self):
        tenant = self.tenant()
        flow = self.chat_flow(tenant)
        self.talk(tenant, flow, "s")
        self.server.admin("POST", "/objects", [{"kind": "message", "flow_id": flow, "text": "planted"},
                                               {"kind": "file", "folder": flow, "name": "flow's"},
                                               {"kind": "file", "folder": tenant.id, "name": "user's"}])
        mine = [u for u in self.server.admin("GET", "/objects")["objects"] if u["object"]["id"] == tenant.id]
        self.assertEqual([(u["marker"], u["planted"]) for u in mine], [(MARKER + tenant.name, False)])
        self.assertEqual([f["id"] for f in mine[0]["flows"]], [flow])
        self.assertEqual([m["text"] for m in mine[0]["flows"][0]["messages"]], ["hello", "planted"])
        self.assertEqual((mine[0]["flows"][0]["files"], mine[0]["files"]), (["flow's"], ["user's"]))
        self.assertEqual([k["api_key"] for k in mine[0]["keys"]], [tenant.key])
        self.assertEqual((len(mine[0]["projects"]), mine[0]["object"]["is_active"]), (1, True))
        self.server.delete("/users/" + tenant.id, key=self.server.key)
        self.assertTrue(eventually(tenant.gone))
        left = self.server.admin("GET", "/objects")
        self.assertEqual(len([m for m in left["orphans"] if m["flow_id"] == flow]), 0 if self.version >= (1, 13) else 2)
        self.assertEqual([f["name"] for f in left["stray_files"] if f["folder"] in (flow, tenant.id)],
                         ["flow's"] if self.version >= (1, 13) else ["flow's", "user's"])

    def test_planted_users(self):
        name = "contract-" + str(uuid.uuid4())
        planted = self.server.admin("POST", "/objects", [
            {"kind": "user", "username": name, "optins": {"marker": "theirs"}, "flows": [{"name": "theirs"}],
             "variables": [{"name": "X", "value": "1", "type": "Generic"}]}])["ids"]
        self.assertEqual(self.server.users()[planted[0]]["username"], name)
        seen = [u for u in self.server.admin("GET", "/objects")["objects"] if u["object"]["id"] == planted[0]]
        self.assertEqual((seen[0]["marker"], seen[0]["planted"], seen[0]["flows"][0]["name"]), ("theirs", True, "theirs"))
        self.server.delete("/users/" + planted[0], key=self.server.key)

    def test_faults_apply(self):
        name = "contract-" + str(uuid.uuid4())
        self.addCleanup(self.server.admin, "DELETE", "/faults")
        self.server.admin("POST", "/faults", {"match": {"method": "POST", "path_prefix": API + "/users/"},
                                              "fault": {"kind": "lose_reply"}})
        with self.assertRaises((http.client.RemoteDisconnected, ConnectionResetError)):
            self.server.post("/users/", {"username": name, "password": "x" * 12}, key=self.server.key)
        mine = [u for u in self.server.users().values() if u["username"] == name]
        self.assertEqual(len(mine), 1)
        self.server.admin("POST", "/faults", {"match": {"method": "DELETE"}, "fault": {
            "kind": "status", "status": 200, "body": {"detail": "User deleted"}}})
        self.check(self.server.delete("/users/" + mine[0]["id"], key=self.server.key), 200)
        self.assertIn(mine[0]["id"], self.server.users(), "success was answered, nothing done")
        self.server.delete("/users/" + mine[0]["id"], key=self.server.key)


CASES = (Serving, Credentials, Users, Projects, Flows, Variables, Keys, Reach, Messages, Deletion, Files, LoginLimit,
         Told)


def servers():
    if os.environ.get("LANGFLOW_URL"):
        env = os.environ.get
        yield "live", Server(env("LANGFLOW_URL"), env("LANGFLOW_SUPERUSER"), env("LANGFLOW_SUPERUSER_PASSWORD"),
                             env("LANGFLOW_API_KEY"))
    elif os.environ.get("STANDIN"):
        for profile in PROFILES:
            yield profile.replace(".", "_"), start_standin(profile)
    else:
        sys.exit("neither LANGFLOW_URL nor STANDIN is set; run this through ctest or test/live/langflow")


def main():
    if "--help" in sys.argv:
        print(__doc__)
        return 0
    suite, opened = unittest.TestSuite(), []
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    for name, server in servers():
        opened.append(server)
        print(f"{name}: Langflow {'.'.join(map(str, server.version))} at port {server.port}", flush=True)
        for case in CASES:
            bound = type(f"{case.__name__}_{name}", (case,), {"server": server})
            for test in unittest.defaultTestLoader.loadTestsFromTestCase(bound):
                if wanted in test.id():
                    suite.addTest(test)
    result = unittest.TextTestRunner(verbosity=1).run(suite)
    for server in opened:
        server.close()
    return 0 if result.wasSuccessful() and result.testsRun else 1


if __name__ == "__main__":
    sys.exit(main())
