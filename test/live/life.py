#!/usr/bin/python3
"""Whole lives of subscriptions on a real Langflow, with the real worker.

test/live/langflow runs it, after the contract suite. By hand it wants what the harness wants (PROVISIONER, STANDIN) and
LANGFLOW_URL with LANGFLOW_SUPERUSER and LANGFLOW_SUPERUSER_PASSWORD (or LANGFLOW_API_KEY of a superuser); LANGFLOW_ROWS,
the URL of its database (SQLite or PostgreSQL), so that rows can be counted that no request shows, and LANGFLOW_DATA, the
directory above its config directory.

PostgreSQL, Kafka and RAGFlow's stand-in are private. Between worker and Langflow stands a proxy that counts requests
and, where a test says so, loses answers. LIFE_SEED, LIFE_KILLS, LIFE_SUBSCRIPTIONS, LIFE_CONCURRENCY: another batch.
An argument chooses the cases whose names hold it."""

import base64
import collections
import copy
import glob
import http.client
import http.server
import json
import os
import random
import re
import secrets
import sqlite3
import subprocess
import sys
import threading
import time
import unittest
import urllib.parse

import psycopg2

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "../e2e"), os.path.join(HERE, "../contract")]

import langflow as contract  # noqa: E402
from harness import (Database, Installation, MARKER, MODELS, PrivateKafka, PrivatePostgres, Producer,  # noqa: E402
                     Ragflow, RevealKey, Subscription, Worker, eventually, flow_uuid, process, say, unseal)

SEED = int(os.environ.get("LIFE_SEED") or secrets.randbelow(1 << 31))
KILLS = int(os.environ.get("LIFE_KILLS", "6"))
SUBSCRIPTIONS = int(os.environ.get("LIFE_SUBSCRIPTIONS", "10"))
# On SQLite one writer waits for the other, up to 30 s: on a busy machine many of them get nowhere.
CONCURRENCY = int(os.environ.get("LIFE_CONCURRENCY", "4"))
PATIENCE_S = 300
WORK_S = 10
PROVISION_BAR, STEADY_BAR = 10, 3
OWN_FLOW, FILE_FLOW = "customer-support-agent-v1", "faq-assistant-v1"
NEWER_NAMES = {"ASTRA_TOKEN", "COMPONENT_ID", "FIELD_NAME", "FLOW_ID"}  # which a login leaves from 1.12 on
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.I)
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "content-length", "host"}


# ---- between the worker and Langflow ----

class Proxy:
    """Hands on every request, notes it, and loses answers with a probability (after the server has acted)."""

    def __init__(self, server):
        self.target, self.superuser_key = (server.host, server.port), server.key
        self.entries, self.lost, self.probability = [], 0, 0.0
        self.rng, self.lock = random.Random(SEED), threading.Lock()
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one(self):
                proxy.hand_on(self)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = handle_one

            def log_message(self, *_):
                pass

        class Listener(http.server.ThreadingHTTPServer):
            def handle_error(self, request, client_address):  # a worker that was killed says no goodbye
                pass

        self.listener = Listener(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.listener.server_port}"
        threading.Thread(target=self.listener.serve_forever, daemon=True).start()

    def who(self, headers):
        if headers.get("Authorization"):
            return "token"
        key = headers.get("x-api-key")
        return "superuser" if key == self.superuser_key else "tenant" if key else "nobody"

    def hand_on(self, handler):
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        sent = {k: v for k, v in handler.headers.items() if k.lower() not in HOP_BY_HOP}
        upstream = http.client.HTTPConnection(*self.target, timeout=120)
        try:
            upstream.request(handler.command, handler.path, body or None, sent)
            answer = upstream.getresponse()
            content = answer.read()
        finally:
            upstream.close()
        with self.lock:
            lose = handler.command != "GET" and self.rng.random() < self.probability
            self.lost += lose
            self.entries.append({"method": handler.command, "path": UUID.sub("{id}", handler.path),
                                 "who": self.who(handler.headers), "status": answer.status, "lost": lose})
        if lose:
            handler.close_connection = True
            return
        handler.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in HOP_BY_HOP:
                handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    def take(self):
        """What was asked since the last time."""
        with self.lock:
            taken, self.entries = self.entries, []
        return taken

    def close(self):
        self.listener.shutdown()
        self.listener.server_close()


def show_cost(what, entries):
    said = [f"{e['method']} {e['path'].replace('/api/v1', '')} ({e['who']}) {e['status']}" for e in entries]
    say(f"COST {what}: {len(entries)} requests\n" + "\n".join("      " + s for s in said))


# ---- what Langflow keeps that no request shows ----

class Rows:
    def __init__(self, url, data):
        self.url, self.config = url, os.path.join(data, "config")
        self.sqlite = url.startswith("sqlite:///")

    def all(self, sql, *args):
        if self.sqlite:
            conn = sqlite3.connect(f"file:{self.url[len('sqlite:///'):]}?mode=ro", uri=True, timeout=30)
        else:
            conn = psycopg2.connect(self.url)
            sql = sql.replace("?", "%s")
        try:
            cursor = conn.cursor()
            cursor.execute(sql, args)
            return cursor.fetchall()
        finally:
            conn.close()

    def of(self, what, table, column, id):
        """Identifiers stand there with or without dashes."""
        return self.all(f"SELECT {what} FROM \"{table}\" WHERE lower(replace(CAST({column} AS text), '-', '')) = ?",
                        id.replace("-", ""))

    def count(self, table, column, ids):
        return sum(self.of("count(*)", table, column, id)[0][0] for id in ids)

    def tables_with(self, column):
        if self.sqlite:
            names = [n for n, in self.all("SELECT name FROM sqlite_master WHERE type = 'table'")]
            return [n for n in names if column in [c[1] for c in self.all(f'PRAGMA table_info("{n}")')]]
        return [n for n, in self.all("SELECT table_name FROM information_schema.columns WHERE table_schema = 'public' "
                                     "AND column_name = ?", column)]

    def left_of(self, user, flows):
        """{table: rows} of a user and its flows, in every table that names either. A job is what was once run, and
        stays from 1.10 until 1.12 whatever one does."""
        found = {"user": self.count("user", "id", [user]), "flow.id": self.count("flow", "id", flows)}
        for column, ids in (("user_id", [user]), ("flow_id", flows)):
            for table in self.tables_with(column):
                found[f"{table}.{column}"] = self.count(table, column, ids)
        return {k: v for k, v in found.items() if v and not k.startswith("job.")}

    def files_of(self, ids):
        return [f for f in glob.glob(self.config + "/**", recursive=True)
                if os.path.isfile(f) and any(i in f for i in ids)]


# ---- one installation on it ----

class World:
    """A database, topics, a RAGFlow and a worker of its own, all on the one Langflow."""

    def __init__(self, case, **overrides):
        self.case, self.server, self.proxy, self.rows = case, case.server, case.proxy, case.rows
        self.baseline = set(self.server.users())
        tokens = {"langflow": self.server.key, "ragflow": "planted-ragflow-" + secrets.token_hex(16)}
        self.master = os.urandom(32)
        tokens["master"] = base64.b64encode(self.master).decode()
        self.ragflow = Ragflow(tokens["ragflow"])
        case.addCleanup(self.ragflow.close)
        name = f"life-{secrets.token_hex(3)}"
        topics = {k: f"{name}.{k}" for k in ("events", "dead_letters", "outcomes")}
        case.kafka.create_topics({topics["events"]: 2, topics["dead_letters"]: 1, topics["outcomes"]: 1})
        url = case.postgres.create_database()
        self.db = Database(url)
        case.addCleanup(self.db.close)
        self.installation = Installation(
            url, case.kafka.bootstrap, topics, self.proxy.url, self.ragflow.url, tokens, RevealKey(),
            {"runtimes.0.langflow": {"api": "langflow", "url": self.proxy.url, "api_key": "env:LANGFLOW_API_KEY"},
             "runtimes.0.ragflow": {"api": "ragflow", "url": self.ragflow.url, "api_key": "env:RAGFLOW_API_KEY",
                                    "tenancy": "shared", "embedding_models": MODELS},
             "offerings": {"csa": {"flow": OWN_FLOW, "capabilities": ["rag"]},
                           "faq": {"flow": FILE_FLOW, "capabilities": []}},
             "flows": {FILE_FLOW: "faq.json"},
             "retention.chat_history": "30d", **overrides})
        with open(os.path.join(self.installation.dir, "faq.json"), "w") as f:
            json.dump({"name": "FAQ", "description": "out of a file", "data": case.template_data}, f)
        self.installation.command("migrate")
        self.producer = Producer(case.kafka.bootstrap, topics["events"])
        self.worker = Worker(self.installation)
        case.addCleanup(self.stop)

    def stop(self):
        if self.worker.alive():
            self.worker.stop()
        self.worker.assert_clean()

    def describe(self):
        jobs = self.db.rows("SELECT kind, state, step, error_class, error, subscription_uuid FROM provisioning_job "
                            "WHERE state NOT IN ('succeeded', 'superseded') ORDER BY id DESC LIMIT 12")
        return "\n".join(["--- jobs ---", *(str(dict(j)) for j in jobs), "--- the last requests ---",
                          *(str(e) for e in self.proxy.entries[-12:]), self.worker.tail()])

    def settled(self):
        wanted = len(self.producer.sent)
        # No event gets old enough here to be deleted.
        eventually(lambda: self.db.events() >= wanted and self.db.live_jobs() == 0
                   and self.db.value("SELECT count(*) FROM outbox") == 0,
                   PATIENCE_S, "everything settles", every=0.2, describe=self.describe)

    def status(self, sub):
        config = self.db.config(sub.uuid)
        return config and config["status"]

    def sealed(self, sub):
        return [bytes(r["sealed"]) for r in self.db.rows(
            "SELECT sealed FROM agent_runtime_key WHERE subscription_uuid = %s AND product = 'langflow'", sub.uuid)]

    def key_of(self, sub):
        sealed, = self.sealed(sub)
        return unseal(self.master, sub.uuid, "langflow", sealed)

    def running(self):
        return self.db.value("SELECT count(*) FROM provisioning_job WHERE state = 'running'")

    def begin_retention(self, days):
        """A process that does what is due that many days from now."""
        when = self.db.value("SELECT to_char((now() + make_interval(days => %s)) AT TIME ZONE 'UTC', "
                             "'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')", days)
        config = self.installation.config_file("retention", "127.0.0.1:0")
        with open(os.path.join(self.installation.dir, "retention.log"), "ab") as log:
            return subprocess.Popen(
                [*process.WITH_US, process.environment("PROVISIONER"), "retention", "--now", when, "--config", config],
                env={**os.environ, **self.installation.env}, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def retention(self, days):
        self.case.assertEqual(self.begin_retention(days).wait(PATIENCE_S), 0,
                              f"see retention.log in {self.installation.dir}")
        self.settled()

    # ---- what should be ----

    def ours(self):
        """Users of this world, {id: user}: everyone who came after it began."""
        return {i: u for i, u in self.server.users().items() if i not in self.baseline}

    def expect_ready(self, sub):
        """Everything that a ready subscription has, seen by the superuser and by the tenant; its config and key."""
        case, config = self.case, self.db.config(sub.uuid)
        case.assertEqual((config["status"], config["status_reason"]), ("ready", None), self.describe())
        user = config["runtime_workspace_id"]
        mine = [u for u in self.ours().values() if sub.uuid in json.dumps(u["optins"]) or u["id"] == user]
        case.assertEqual([u["id"] for u in mine], [user], "one user")
        case.assertTrue(mine[0]["is_active"])
        case.assertFalse(mine[0]["is_superuser"])
        case.assertEqual(mine[0]["username"], config["name"])
        case.assertIn(MARKER + sub.uuid, json.dumps(mine[0]["optins"]))
        key = self.key_of(sub)
        case.assertEqual(self.tenant("GET", "/users/whoami", key)["id"], user)
        keys = self.tenant("GET", "/api_key/", key)
        case.assertEqual([k["name"] for k in keys["api_keys"]], ["provisioner"])
        flows = self.tenant("GET", "/flows/?header_flows=true", key)
        case.assertEqual([f["id"] for f in flows], [flow_uuid(sub.uuid)], "one flow")
        case.assertEqual(str(config["runtime_flow_id"]), flow_uuid(sub.uuid))
        flow = self.tenant("GET", f"/flows/{flows[0]['id']}", key)
        case.assertEqual((flow["access_type"], flow["user_id"]), ("PRIVATE", user))
        case.assertEqual([n["id"] for n in flow["data"]["nodes"]], ["ChatInput-a1b2c"])
        case.assertIn(config["runtime_flow_id"], config["runtime_run_url"])
        self.expect_variables(sub, key)
        collections_ = self.ragflow.marked(sub.uuid)
        case.assertEqual([c["id"] for c in collections_], [config["knowledge_base_id"]] if sub.rag else [])
        return config, key

    def expect_variables(self, sub, key):
        case, config = self.case, self.db.config(sub.uuid)
        found = [v for v in self.tenant("GET", "/variables/", key) if v["name"] not in NEWER_NAMES]
        wanted = dict(sub.variables)
        if sub.rag:
            wanted.update(ragflow_collection_id=config["knowledge_base_id"], ragflow_url=self.ragflow.url)
        case.assertEqual(sorted(v["name"] for v in found if v["name"] not in ("ragflow_api_key",)),
                         sorted(wanted), "each variable once")
        case.assertEqual({v["name"]: v["value"] for v in found if v["type"] == "Generic"}, wanted)

    def tenant(self, method, path, key, body=None, status=200):
        answer = self.server.request(method, "/api/v1" + path, body, key=key)
        self.case.assertEqual(answer.status, status, f"{method} {path}: {answer}")
        return answer.json

    def upload(self, path, key):
        """A file, as browsers send it."""
        conn = http.client.HTTPConnection(self.server.host, self.server.port, timeout=60)
        try:
            conn.request("POST", path, b"--B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\n"
                         b"Content-Type: text/plain\r\n\r\nhello\r\n--B--\r\n",
                         {"x-api-key": key, "Content-Type": "multipart/form-data; boundary=B"})
            self.case.assertEqual(conn.getresponse().status, 201, path)
        finally:
            conn.close()

    def run(self, config, key, text, session):
        """A chat message, sent where the record says."""
        path = urllib.parse.urlsplit(config["runtime_run_url"]).path
        return self.server.request("POST", path + "?stream=false", {"input_value": text, "session_id": session},
                                   key=key)

    def chat(self, config, key, text, session="chat"):
        """Runs, and waits for the message. False where this server cannot run a flow."""
        ran = self.run(config, key, text, session)
        if ran.status == 500 and not self.case.runs:
            return False
        self.case.assertEqual(ran.status, 200, ran)
        eventually(lambda: text in [m["text"] for m in self.messages(config, key)], 20, f"message {text!r} is kept")
        return True

    def messages(self, config, key):
        return self.tenant("GET", f"/monitor/messages?flow_id={config['runtime_flow_id']}", key)

    def expect_closed(self, sub, config, keys):
        """No key is any good, the user is shut out, its flows are nobody else's, and everything is still there."""
        case, server = self.case, self.server
        now = self.db.config(sub.uuid)
        case.assertEqual((now["status"], now["runtime_workspace_id"]), ("archived", config["runtime_workspace_id"]),
                         self.describe())
        case.assertEqual(self.sealed(sub), [], "no key is kept")
        user = self.ours()[config["runtime_workspace_id"]]
        case.assertFalse(user["is_active"])
        for key in keys:
            case.assertEqual(server.get("/users/whoami", key=key).status, 403)
            case.assertEqual(self.run(config, key, "let me in", "closed").status, 403)
        public = server.get(f"/flows/public_flow/{config['runtime_flow_id']}")
        case.assertIn(public.status, (403, 404), public)
        case.assertEqual(self.ragflow.marked(sub.uuid), [])
        if self.rows:
            access = self.rows.of("CAST(access_type AS text)", "flow", "user_id", user["id"])
            case.assertLessEqual({a for a, in access}, {"PRIVATE"})  # one that ended early may have no flow yet
            case.assertEqual(self.rows.count("apikey", "user_id", [user["id"]]), 0)

    def expect_purged(self, sub, config, flows):
        case = self.case
        now = self.db.config(sub.uuid)
        case.assertEqual((now["status"], now["runtime_workspace_id"]), ("purged", None), self.describe())
        case.assertNotIn(config["runtime_workspace_id"], self.ours())
        if self.rows:
            eventually(lambda: not self.rows.left_of(config["runtime_workspace_id"], flows), 30, "no row is left",
                       describe=lambda: str(self.rows.left_of(config["runtime_workspace_id"], flows)))
            case.assertEqual(self.rows.files_of([config["runtime_workspace_id"], *flows]), [])

    def message_rows(self, flow):
        return self.rows.count("message", "flow_id", [flow]) if self.rows else None


# ---- the cases ----

class Life(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        env = os.environ.get
        cls.server = contract.Server(env("LANGFLOW_URL"), env("LANGFLOW_SUPERUSER"), env("LANGFLOW_SUPERUSER_PASSWORD"),
                                     env("LANGFLOW_API_KEY"))
        cls.addClassCleanup(cls.server.close)
        cls.rows = Rows(env("LANGFLOW_ROWS"), env("LANGFLOW_DATA")) if env("LANGFLOW_ROWS") else None
        cls.proxy = Proxy(cls.server)
        cls.addClassCleanup(cls.proxy.close)
        say(f"Langflow {'.'.join(map(str, cls.server.version))} at port {cls.server.port}, seed {SEED}")
        cls.template_data = cls.make_template()
        cls.runs = cls.can_run()
        cls.postgres = PrivatePostgres("postgres-life")
        cls.addClassCleanup(cls.postgres.close)
        cls.kafka = PrivateKafka("kafka-life")
        cls.addClassCleanup(cls.kafka.close)

    @classmethod
    def make_template(cls):
        """The superuser's flow. Whoever speaks in it is called what the tenant's variable agent_name says."""
        everything = cls.server.get("/all", key=cls.server.key).json
        component = next(c["ChatInput"] for c in everything.values() if isinstance(c, dict) and "ChatInput" in c)
        component = copy.deepcopy(component)
        component["template"].setdefault("sender_name", {}).update(value="agent_name", load_from_db=True)
        data = {"nodes": [{"id": "ChatInput-a1b2c", "type": "genericNode", "position": {"x": 0, "y": 0},
                           "data": {"type": "ChatInput", "id": "ChatInput-a1b2c", "node": component}}], "edges": []}
        flow = contract.derived_id(f"life/{SEED}")
        made = cls.server.put("/flows/" + flow, {"name": "Customer support", "endpoint_name": OWN_FLOW, "data": data,
                                                 "access_type": "PUBLIC"}, key=cls.server.key)
        assert made.status == 201, made
        cls.addClassCleanup(cls.server.delete, "/flows/" + flow, key=cls.server.key)
        return data

    @classmethod
    def can_run(cls):
        """Some versions' packages do not fit together, and every run of theirs that leaves a message fails."""
        tenant = contract.Tenant(cls.server)
        try:
            made = cls.server.post("/variables/", {"name": "agent_name", "value": "x", "type": "Generic",
                                                   "default_fields": []}, key=tenant.key)
            assert made.status == 201, made
            flow = tenant.flow("chat", cls.template_data)
            ran = cls.server.post(f"/run/{flow}?stream=false", {"input_value": "x"}, key=tenant.key)
            if ran.status != 200:
                say(f"this server cannot run a flow that leaves messages; they are left out: {ran}")
            return ran.status == 200
        finally:
            tenant.close()

    def tearDown(self):
        self.proxy.probability = 0.0
        self.proxy.take()

    def send(self, world, *events):
        world.producer.send(*events)
        world.settled()

    def test_one_life(self):
        world = World(self)
        world.worker.start()
        first = Subscription(SEED, 1, organization="acme-corp", project="website-support")
        self.send(world, first.created())
        world.expect_ready(first)
        show_cost("the first provision of a worker", self.proxy.take())

        sub = Subscription(SEED, 2, organization="acme-corp", project="website-support")
        self.send(world, sub.created())
        cost = self.proxy.take()
        show_cost("a provision", cost)
        config, key = world.expect_ready(sub)
        self.proxy.take()
        self.assert_cost("provision", cost, PROVISION_BAR)

        flow = str(config["runtime_flow_id"])
        chatted = world.chat(config, key, "hello")
        if chatted and self.rows:  # the stand-in runs nothing
            self.assertEqual([m["sender_name"] for m in world.messages(config, key)], [sub.variables["agent_name"]],
                             "the flow sees the tenant's variable")
        say("the tenant edits its flow; a second order comes")
        edited = world.tenant("GET", f"/flows/{flow}", key)["data"]
        edited["viewport"] = {"x": 7, "y": 8, "zoom": 0.5}
        world.tenant("PATCH", f"/flows/{flow}", key, {"data": edited})
        self.send(world, sub.created())
        cost = self.proxy.take()
        show_cost("a steady re-run", cost)
        again, key_again = world.expect_ready(sub)
        self.assertEqual((again["runtime_workspace_id"], again["runtime_flow_id"], key_again),
                         (config["runtime_workspace_id"], config["runtime_flow_id"], key))
        self.assertEqual(world.tenant("GET", f"/flows/{flow}", key)["data"], edited, "the edit survives")
        self.assert_cost("steady re-run", cost, STEADY_BAR)

        say("a third order brings a variable; the tenant has changed two, of which one is the platform's")
        listed = {v["name"]: v for v in world.tenant("GET", "/variables/", key)}
        for name, value in (("tone", "Gr\u00fc\u00dfe,\nin two lines"), ("ragflow_url", "http://elsewhere.invalid")):
            variable = {"id": listed[name]["id"], "name": name, "value": value, "type": "Generic", "default_fields": []}
            world.tenant("PATCH", "/variables/" + variable["id"], key, variable)
        sub.variables = {**sub.variables, "tone": "another", "greeting": "new"}
        self.proxy.take()
        self.send(world, sub.created())
        show_cost("a re-run that adds a variable and puts one right", self.proxy.take())
        sub.variables["tone"] = "Gr\u00fc\u00dfe,\nin two lines"
        world.expect_ready(sub)

        say("the tenant opens doors of its own, and leaves files")
        for path in (f"/api/v1/files/upload/{flow}", "/api/v2/files"):
            world.upload(path, key)
        if self.rows:
            self.assertEqual(len(self.rows.files_of([config["runtime_workspace_id"], flow])), 2)
        own_key = world.tenant("POST", "/api_key/", key, {"name": "mine"})["api_key"]
        own_flow = contract.derived_id("own" + sub.uuid)
        world.tenant("PUT", "/flows/" + own_flow, key, {"name": "own", "data": contract.EMPTY, "access_type": "PUBLIC",
                                                        "endpoint_name": "own"}, status=201)
        world.tenant("PATCH", f"/flows/{flow}", key, {"access_type": "PUBLIC", "mcp_enabled": True})
        self.assertEqual(self.server.get(f"/flows/public_flow/{flow}").status, 200)
        project = world.tenant("GET", "/projects/", key)[0]["id"]
        world.tenant("PATCH", "/projects/" + project, key, {"auth_settings": {"auth_type": "none"}})
        self.assertIsNotNone(self.server.mcp_tools(project), "no key is wanted there")
        own_locked = contract.derived_id("locked" + sub.uuid)
        world.tenant("PUT", "/flows/" + own_locked, key, {"name": "locked", "data": contract.EMPTY, "locked": True,
                                                          "access_type": "PUBLIC"}, status=201)
        self.proxy.take()

        say("terminated")
        self.send(world, sub.terminated())
        show_cost("closing", self.proxy.take())
        world.expect_closed(sub, config, [key, own_key])
        if self.rows:
            locked, = self.rows.of("locked, CAST(access_type AS text)", "flow", "id", own_locked)
            self.assertEqual(locked, (True, "PRIVATE"))
        for door in (own_flow, own_locked):
            self.assertIn(self.server.get(f"/flows/public_flow/{door}").status, (403, 404))
        self.assertFalse(self.server.mcp_tools(project), "nobody runs anything by MCP")
        if chatted and self.rows:
            self.assertEqual(world.message_rows(flow), 1, "the chat history waits")
        world.expect_ready(first)

        say("restored")
        self.proxy.take()
        self.send(world, sub.created())
        show_cost("a restore", self.proxy.take())
        restored = world.db.config(sub.uuid)
        self.assertEqual((restored["status"], restored["runtime_workspace_id"], str(restored["runtime_flow_id"])),
                         ("ready", config["runtime_workspace_id"], flow), world.describe())
        new_key = world.key_of(sub)
        self.assertEqual(world.tenant("GET", "/users/whoami", new_key)["id"], config["runtime_workspace_id"])
        for old in (key, own_key):
            self.assertEqual(self.server.get("/users/whoami", key=old).status, 403)
        names = [k["name"] for k in world.tenant("GET", "/api_key/", new_key)["api_keys"]]
        self.assertEqual(names, ["provisioner"])
        self.assertEqual(world.tenant("GET", f"/flows/{flow}", new_key)["data"], edited, "the edit is still there")
        world.expect_variables(sub, new_key)
        if chatted:
            self.assertEqual([m["text"] for m in world.messages(restored, new_key)], ["hello"])
            world.chat(restored, new_key, "hello again")

        say("terminated again, and purged when its day has come")
        self.send(world, sub.terminated())
        world.expect_closed(sub, restored, [key, own_key, new_key])
        world.retention(days=29)
        world.expect_closed(sub, restored, [key, own_key, new_key])
        if chatted and self.rows:
            self.assertEqual(world.message_rows(flow), 2)
        self.proxy.take()
        world.retention(days=31)
        show_cost("a purge", self.proxy.take())
        world.expect_purged(sub, config, [flow, own_flow, own_locked])
        self.assertEqual(self.server.login(sub.name, "whatever-it-was").status, 401)
        first_config, _ = world.expect_ready(first)

        say("and the other one")
        self.send(world, first.terminated())
        world.retention(days=31)
        world.expect_purged(first, first_config, [str(first_config["runtime_flow_id"])])
        self.assertEqual(world.ours(), {})

    def assert_cost(self, what, entries, bar):
        """Repeats of a read that came before its commit are not counted, nor is what activates a user that is made
        inactive by the server's setting."""
        counted = [e for e in entries if "/version" not in e["path"] and "/health" not in e["path"]]
        activations = sum(e["method"] == "PATCH" and "/users/" in e["path"] for e in counted)
        self.assertLessEqual(len(counted) - activations, bar, f"{what}: {len(counted)} requests")

    def test_ten_lives_killed_and_answers_lost(self):
        """SIGKILL while work is under way, and answers that never come: the promise holds on the real thing."""
        rng = random.Random(SEED)
        world = World(self, **{"worker.lease": "3s", "worker.probe_settle": "500ms",
                               "runtimes.0.langflow.concurrency": CONCURRENCY})
        world.worker.start()
        self.proxy.probability = 0.05
        subs = [Subscription(SEED, 100 + i, organization="acme-corp", offering="faq" if i % 2 else "csa")
                for i in range(SUBSCRIPTIONS)]
        say(f"{len(subs)} subscriptions, {KILLS} kills, {CONCURRENCY} requests at once, answers lost with probability "
            f"{self.proxy.probability}")
        world.producer.send(*(s.created() for s in subs))
        ended = {s.uuid for s in subs[::3]}
        self.kill(world, rng, KILLS // 2)
        world.producer.send(*(s.terminated() if s.uuid in ended else s.created() for s in subs))
        self.kill(world, rng, KILLS - KILLS // 2)
        world.settled()
        self.proxy.probability = 0.0
        say(f"settled; {self.proxy.lost} answers were lost")
        configs = {s.uuid: world.db.config(s.uuid) for s in subs}
        for sub in subs:
            if sub.uuid not in ended:
                world.expect_ready(sub)
            elif configs[sub.uuid] and configs[sub.uuid]["runtime_workspace_id"]:
                world.expect_closed(sub, configs[sub.uuid], [])
        recorded = {c["runtime_workspace_id"] for c in configs.values() if c} - {None}
        self.assertEqual(set(world.ours()), recorded, "nobody is there whom no record leads to")

        say("all are terminated and purged, under kills")
        self.proxy.probability = 0.05
        flows = {s.uuid: [str(configs[s.uuid]["runtime_flow_id"])] for s in subs
                 if configs[s.uuid] and configs[s.uuid]["runtime_flow_id"]}
        world.producer.send(*(s.terminated() for s in subs if s.uuid not in ended))
        self.kill(world, rng, 1)
        world.settled()
        for _ in range(2):
            begun = world.begin_retention(days=31)
            self.kill(world, rng, 1)
            begun.kill()
            begun.wait()
        self.proxy.probability = 0.0
        world.retention(days=31)
        for sub in subs:
            if configs[sub.uuid] and configs[sub.uuid]["runtime_workspace_id"]:
                world.expect_purged(sub, configs[sub.uuid], flows.get(sub.uuid, []))
        self.assertEqual(world.ours(), {})
        self.assertEqual([o for o in world.ragflow.objects() if (o["marker"] or "").startswith(MARKER)], [])
        say(f"{self.proxy.lost} answers lost in all")

    def kill(self, world, rng, times):
        """Each time in the middle of work, where there is some left."""
        at_work = 0
        for _ in range(times):
            end = time.monotonic() + WORK_S
            while not world.running() and time.monotonic() < end:
                time.sleep(0.02)
            time.sleep(rng.uniform(0, 0.8))
            at_work += world.running() > 0
            world.worker.kill()
            world.worker.start()
        say(f"killed {times} times, {at_work} of them at work")

    def test_doctor(self):
        world = World(self)
        if not re.search(r"^\s+doctor\b", world.installation.command("help"), re.M):
            self.skipTest("this program has no doctor yet")
        report = json.loads(world.installation.command("doctor", "--json", check=None))
        text = json.dumps(report)
        say("doctor says: " + text)
        self.assertRegex(text, r"Langflow {}\.{}\.\d".format(*self.server.version))
        self.assertNotIn(self.server.key, text)
        found = collections.Counter()
        for finding in self.findings(report):
            found[finding.get("subject") or finding.get("check")] += 1
        self.assertGreaterEqual(found["version"], 1, text)
        self.assertGreaterEqual(found["credential"], 1, text)
        world.installation.env["LANGFLOW_API_KEY"] = "sk-wrong"
        wrong = world.installation.command("doctor", "--json", check=None)
        self.assertNotEqual(wrong, text)
        self.assertIn("credential", wrong)

    def findings(self, tree):
        if isinstance(tree, dict):
            if "subject" in tree or "check" in tree:
                yield tree
            tree = list(tree.values())
        if isinstance(tree, list):
            for one in tree:
                yield from self.findings(one)


def main():
    if "--help" in sys.argv:
        print(__doc__)
        return 0
    if not os.environ.get("LANGFLOW_URL"):
        sys.exit("LANGFLOW_URL is not set; run this through test/live/langflow")
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    suite = unittest.TestSuite(t for t in unittest.defaultTestLoader.loadTestsFromTestCase(Life) if wanted in t.id())
    result = unittest.TextTestRunner(verbosity=2).run(suite)
    if not result.wasSuccessful():
        process.keep_workdir()
        say(f"seed {SEED}; logs are kept in {process.workdir()}")
    return 0 if result.wasSuccessful() and result.testsRun else 1


if __name__ == "__main__":
    sys.exit(main())
