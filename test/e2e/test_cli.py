#!/usr/bin/env python3
"""The command line: what people and scripts are shown, exit statuses, and that two runs at once do no harm."""

import base64
import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import termios
import threading
import time
import unittest

import psycopg2
from confluent_kafka import Consumer

from harness import Database, Installation, PrivatePostgres, RevealKey, Standin, Subscription, Worker, main, say
from harness.process import WITH_US, at_end, environment, eventually, source_dir
from harness.stage import new_secrets
from harness.worker import SANITIZER

TOPICS = {"events": "cli.events", "dead_letters": "cli.dlq", "outcomes": "cli.outcomes"}
JOB_MEMBERS = {"id", "subscription_uuid", "organization_slug", "runtime_name", "kind", "state", "step", "attempts",
               "next_attempt_at", "error_class", "error", "updated_at"}
RFC3339 = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$")
COMMANDS = ["run", "migrate", "submit", "jobs", "orders", "backfill", "show", "replay", "cancel", "pause", "resume", "retention",
            "dead-letters", "doctor", "config",
            "graph", "version", "help"]


def program(*argv, env=None, stdin=None, timeout=120):
    """(status, standard output, standard error)"""
    done = subprocess.run([environment("PROVISIONER"), *argv], input=stdin, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=timeout, env={**os.environ, **(env or {})})
    assert not SANITIZER.search(done.stderr), done.stderr
    return done.returncode, done.stdout, done.stderr


def header(name, value):
    """As the worker keeps it."""
    return {"name": name, "value_base64": None if value is None else base64.b64encode(value).decode()}


class Base(unittest.TestCase):
    def usage(self, *argv, says, status=2, env=None):
        got, out, err = program(*argv, env=env)
        self.assertEqual((got, out), (status, ""), err)
        self.assertEqual(err.count("\n"), 1, err)
        self.assertTrue(err.startswith("provisioner: "), err)
        self.assertIn(says, err)


class Help(Base):
    """Needs no server at all."""

    def test_every_command_explains_itself(self):
        status, overview, _ = program("help")
        self.assertEqual(status, 0)
        self.assertEqual(program("--help")[:2], (0, overview))
        for command in COMMANDS:
            self.assertRegex(overview, rf"(?m)^  {command} ")
            status, text, err = program(command, "--help")
            self.assertEqual((status, err), (0, ""))
            self.assertEqual(program("help", command)[:2], (0, text))
            for part in ("usage: provisioner " + command, "options", "examples", "exit status", "--config FILE"):
                self.assertIn(part, text)
            self.assertLessEqual(max(map(len, text.splitlines())), 100)

    def test_wrong_usage(self):
        self.usage(says="no command was given")
        self.usage("jbos", says='did you mean "jobs"?')
        self.usage("retentoin", says='did you mean "retention"?')
        self.usage("xyzzy", says='there is no command "xyzzy"')
        self.usage("\x1b[31mred", says="\\x1b[31mred")
        self.usage("jobs", "--stae", "failed", says='did you mean "--state"?')
        self.usage("jobs", "-x", says='"-x"')
        self.usage("jobs", "--limit", says="needs a value")
        self.usage("jobs", "--json=1", says="takes no value")
        self.usage("jobs", "--limit", "0", says="--limit takes a number")
        self.usage("jobs", "--since", "yesterday", says="--since takes a time")
        self.usage("jobs", "--state", "failed,lost", says="queued, running")
        self.usage("jobs", "extra", says='does not take "extra"')
        self.usage("orders", "--state", "left,lost", says='does not know "lost"')
        self.usage("orders", "--limit", "0", says="--limit takes a number")
        self.usage("backfill", says="say since when")
        self.usage("backfill", "--since", "yesterday", says="--since takes a time")
        self.usage("show", says="show needs SUBSCRIPTION")
        self.usage("submit", says="submit needs FILE")
        self.usage("submit", "x", "--timeout", "soon", says="takes a duration")
        self.usage("replay", says="say which")
        self.usage("replay", "--state", "queued", says="only jobs that failed or were cancelled")
        self.usage("pause", "--reason", "x", says="say what")
        self.usage("resume", says="say what")
        self.usage("cancel", says="cancel needs JOB")
        self.usage("cancel", "first", says="is no job")
        self.usage("replay", "x", "--state", "failed", says="exclude each other")
        self.usage("replay", "x", "--from-step", "nowhere", says="no step")
        self.usage("replay", "x", "--rate", "0/s", says="--rate takes")
        self.usage("retention", "--now", "soon", says="--now takes a time")
        self.usage("dead-letters", says="dead-letters needs list")
        self.usage("dead-letters", "bury", says="takes list, show, replay or discard")
        self.usage("doctor", "--timeout", "0", says="--timeout takes")
        self.usage("help", "jbos", says='did you mean "jobs"?')
        self.usage("config", "--config", "/nowhere/provisioner.yaml", says="/nowhere/provisioner.yaml")
        self.usage("--config", "/nowhere/provisioner.yaml", "config", says="/nowhere/provisioner.yaml")

    def test_version(self):
        status, out, _ = program("version", "--json")
        version = json.loads(out)
        self.assertEqual((status, version.keys()), (0, {"version", "schema", "libraries"}))
        self.assertLessEqual({"librdkafka", "libcurl", "libpq", "libsodium", "libmicrohttpd"},
                             version["libraries"].keys())
        self.assertIn(version["version"], program("--version")[1])

    def test_graph(self):
        status, out, _ = program("graph")
        self.assertEqual(status, 0)
        self.assertIn("stateDiagram-v2", out)

    def test_manual_and_completions_are_those_in_deploy(self):
        for form, path in (("man", "deploy/man/provisioner.1"), ("bash", "deploy/completions/provisioner.bash")):
            with open(os.path.join(source_dir(), path)) as f:
                self.assertEqual(program("help", "--format", form)[1], f.read(),
                                 f"{path} is old; write it with `provisioner help --format {form}`")

    def test_completion(self):
        script = os.path.join(source_dir(), "deploy/completions/provisioner.bash")
        ask = ('source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); compopt() { :; }; _provisioner; '
               'echo "${COMPREPLY[*]}"')

        def complete(*words):
            return subprocess.run(["bash", "-c", ask, "-", script, "provisioner", *words], check=True,
                                  stdout=subprocess.PIPE, text=True).stdout.split()

        self.assertEqual(complete(""), COMMANDS)
        self.assertEqual(complete("--config", "x", "dead"), ["dead-letters"])
        self.assertEqual(complete("jobs", "--state", "f"), ["failed"])
        self.assertIn("--dry-run", complete("retention", "--"))
        self.assertEqual(complete("doctor", "k"), ["kafka"])

    def test_full_disk(self):
        with open("/dev/full", "w") as full:
            done = subprocess.run([environment("PROVISIONER"), "help"], stdout=full, stderr=subprocess.PIPE, text=True)
        self.assertEqual(done.returncode, 1)
        self.assertIn("cannot be written", done.stderr)


class WithDatabase(Base):
    @classmethod
    def setUpClass(cls):
        cls.postgres = PrivatePostgres(f"postgres-{cls.__name__}")
        cls.secrets = new_secrets()
        cls.langflow = Standin("workspaces", cls.secrets["langflow"])
        cls.ragflow = Standin("collections", cls.secrets["ragflow"])
        cls.broker = subprocess.Popen(
            [*WITH_US, os.path.join(os.path.dirname(environment("PROVISIONER")), "mockbroker"), "1",
             *(f"{t}:2" for t in TOPICS.values())], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        at_end(cls.broker.kill)
        cls.bootstrap = cls.broker.stdout.readline().strip()

    @classmethod
    def tearDownClass(cls):
        cls.broker.kill()
        cls.broker.wait()
        cls.broker.stdout.close()
        cls.langflow.close()
        cls.ragflow.close()
        cls.postgres.close()

    def setUp(self):
        self.url = self.postgres.create_database()
        self.db = Database(self.url)
        self.addCleanup(self.db.close)
        self.installation = self.install()
        self.command("migrate")

    def install(self, **overrides):
        overrides = {"retention.chat_history": "30d", **{k.replace("__", "."): v for k, v in overrides.items()}}
        return Installation(self.url, self.bootstrap, TOPICS, self.langflow.url, self.ragflow.url, self.secrets,
                            RevealKey(), overrides)

    # ---- running commands ----

    def command(self, *argv, status=0, stdin=None, timeout=120):
        """(standard output, standard error)"""
        config = self.installation.config_file("command", "127.0.0.1:0")
        got, out, err = program(*argv, stdin=stdin, timeout=timeout,
                                env={**self.installation.env, "PROVISIONER_CONFIG": config})
        self.assertEqual(got, status, f"{argv}\n{out}{err}")
        for secret in (*self.secrets.values(), self.url):
            self.assertNotIn(secret, out + err)
        return out, err

    def json(self, *argv, **options):
        return json.loads(self.command(*argv, "--json", **options)[0])

    def terminal(self, *argv, columns=80, answer=b""):
        """What a terminal of that width is sent."""
        config = self.installation.config_file("command", "127.0.0.1:0")
        leader, follower = pty.openpty()
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        done = subprocess.Popen([environment("PROVISIONER"), *argv], stdin=follower, stdout=follower, stderr=follower,
                                env={**os.environ, **self.installation.env, "PROVISIONER_CONFIG": config})
        os.close(follower)
        os.write(leader, answer)
        text = b""
        while True:
            try:
                part = os.read(leader, 65536)
            except OSError:
                break
            if not part:
                break
            text += part
        os.close(leader)
        return done.wait(60), text.decode()

    # ---- rows ----

    def file(self, name, text):
        path = os.path.join(self.installation.dir, name)
        with open(path, "w") as f:
            f.write(text)
        return path

    def events(self, name, *events):
        return self.file(name, "".join(json.dumps(e.document) + "\n" for e in events))

    def subscription(self, number, organization=None):
        """A created event in the inbox."""
        s = Subscription(self.id(), number, organization=organization)
        self.command("submit", "--direct", self.events("created.ndjson", s.created()))
        return s

    def fail_job(self, uuid, step="collection", error="the server said no", error_class="refused"):
        self.db.rows("UPDATE provisioning_job SET state = 'running', lease_owner = gen_random_uuid(), step = %s "
                     "WHERE subscription_uuid = %s", step, uuid)
        self.db.rows("UPDATE provisioning_job SET state = 'failed', lease_owner = NULL, error_class = %s, error = %s, "
                     "finished_at = now() WHERE subscription_uuid = %s", error_class, error, uuid)

    def agent_config(self, s, status="archived", days=31, workspace=None):
        self.db.rows(
            "INSERT INTO agent_config (subscription_uuid, organization_uuid, organization_slug, project_uuid, "
            "project_slug, offering_uuid, offering_type, plan_tier, variables, runtime, runtime_name, name, "
            "runtime_workspace_id, status, archived_at) VALUES (%s, %s, %s, %s, %s, %s, 'csa', 'pro', %s, 'shared', "
            "'shared-eu', %s, %s, %s, now() - make_interval(days => %s))",
            s.uuid, s.organization["uuid"], s.organization["slug"], s.project["uuid"], s.project["slug"],
            "0d5f0d0f-7f0c-4a8e-9a66-6a5d4c1b2e10", json.dumps({"tone": "calm", "api_token": "hidden-value"}), s.name,
            workspace, status, days)

    def archived(self, number, days=31):
        """A terminated subscription whose workspace exists and keeps its chat history."""
        s = self.subscription(number)
        self.command("submit", "--direct", self.events("terminated.ndjson", s.terminated()))
        self.db.rows("UPDATE provisioning_job SET state = 'cancelled', finished_at = now() "
                     "WHERE subscription_uuid = %s AND state = 'queued'", s.uuid)
        marker = "waldur-subscription:" + s.uuid
        workspace, = self.langflow.plant([{"name": s.name, "flow_id": "f", "description": marker,
                                           "variables": {"waldur_subscription": marker}}])
        self.agent_config(s, days=days, workspace=workspace)
        s.workspace = workspace
        return s

    def dead_letter(self, offset, value=b"not json", headers=(), key=b"k", days=0, replays=0, value_bytes=None):
        return self.db.value(
            "INSERT INTO dead_letter (kafka_topic, kafka_partition, kafka_offset, message_time, key, value, "
            "value_bytes, headers, pointer, reason, received_at, replays) VALUES ('cli.events', 0, %s, "
            "'2026-11-21T10:00:00Z', %s, %s, %s, %s, '', 'is not JSON', now() - make_interval(days => %s), %s) "
            "RETURNING id", offset, key, value, len(value) if value_bytes is None else value_bytes,
            json.dumps(list(headers)), days, replays)

    def exists_upstream(self, s):
        return any(o["object"]["id"] == s.workspace for o in self.langflow.objects())


class Migrate(WithDatabase):
    def setUp(self):
        self.url = self.postgres.create_database()
        self.db = Database(self.url)
        self.addCleanup(self.db.close)
        self.installation = self.install()

    def test_migrate(self):
        _, err = self.command("jobs", status=1)
        self.assertIn("run `provisioner migrate`", err)
        self.assertGreater(self.json("migrate", "--check", status=1)["pending"], 0)
        out, _ = self.command("migrate")
        self.assertIn("applied 0001_schema.sql\n", out)
        report = self.json("migrate", "--check")
        self.assertEqual((report["pending"], report["applied"], report["files"]), (0, 0, []))
        self.assertEqual(report["current"], report["wanted"])
        self.db.rows("INSERT INTO schema_migration SELECT (jsonb_populate_record(m, '{\"version\": 9999}')).* "
                     "FROM schema_migration m WHERE version = 1")
        _, err = self.command("jobs", status=1)
        self.assertIn("9999", err)

    def test_unreachable(self):
        self.installation.env["DATABASE_URL"] = "postgresql://u:planted-password@127.0.0.1:1/x"
        for command in (["migrate"], ["jobs"], ["submit", "--direct", "/dev/null"]):
            _, err = self.command(*command, status=1)
            self.assertNotIn("planted-password", err)


class Submit(WithDatabase):
    def test_direct(self):
        a, b = Subscription("d", 1), Subscription("d", 2)
        first = a.created()
        array = self.file("array.json", json.dumps([first.document, b.created().document], indent=2))
        counts = self.json("submit", "--direct", array)
        self.assertEqual((counts["submitted"], counts["applied"]), (2, 2))
        counts = self.json("submit", "--direct", "-", stdin=first.body().decode())
        self.assertEqual((counts["duplicate"], counts["applied"]), (1, 0))
        old = a.terminated(time=a.clock.replace(year=2020))
        self.assertEqual(self.json("submit", "--direct", self.events("old", old))["stale"], 1)
        self.assertEqual(self.db.value("SELECT count(*) FROM provisioning_job"), 2)

    def test_many_direct(self):
        events = [Subscription("many", i).created() for i in range(3000)]
        began = time.monotonic()
        counts = self.json("submit", "--direct", self.events("many.ndjson", *events))
        say(f"3000 events into the inbox in {time.monotonic() - began:.1f} s")
        self.assertEqual(counts["applied"], 3000)

    def test_invalid(self):
        good = Subscription("i", 1).created()
        bad = Subscription("i", 2).created()
        del bad.document["data"]["plan"]["tier"]
        path = self.events("mixed.ndjson", good, bad)
        with open(path, "a") as f:
            f.write('{"specversion": "\x1b[31m"\n')
        out, err = self.command("submit", "--direct", path, status=1)
        self.assertEqual(out, "")
        self.assertIn(f"{path}:2: /data/plan/tier ", err)
        self.assertIn(f"{path}:3: ", err)
        self.assertIn("nothing was sent", err)
        self.assertNotIn("\x1b", err)
        self.assertEqual(self.db.events(), 0)
        counts = self.json("submit", "--direct", "--skip-invalid", path, status=3)
        self.assertEqual((counts["applied"], counts["invalid"]), (1, 2))

    def test_files(self):
        _, err = self.command("submit", "/nowhere.json", status=1)
        self.assertIn("/nowhere.json: cannot be opened", err)
        _, err = self.command("submit", "-", status=1, stdin=" \n")
        self.assertIn("standard input: is empty", err)
        _, err = self.command("submit", "-", status=1, stdin="[]")
        self.assertIn("holds no event", err)

    def test_kafka(self):
        events = [Subscription("k", i).created() for i in range(5000)]
        path = self.events("kafka.ndjson", *events)
        began = time.monotonic()
        counts = self.json("submit", path)
        took = time.monotonic() - began
        say(f"5000 events to Kafka in {took:.1f} s")
        self.assertEqual(counts, {"submitted": 5000, "invalid": 0})
        messages = self.consume(5000)
        self.assertEqual({m.key().decode() for m in messages}, {e.key for e in events})
        self.assertEqual({m.value() for m in messages}, {e.body() for e in events})
        self.assertEqual({tuple(m.headers()) for m in messages},
                         {(("content-type", b"application/cloudevents+json"),)})

    def consume(self, n):
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": self.id(),
                             "auto.offset.reset": "earliest", "log_level": 2})
        consumer.subscribe([TOPICS["events"]])
        messages, end = [], time.monotonic() + 60
        while len(messages) < n and time.monotonic() < end:
            messages += [m for m in consumer.consume(1000, 1) if not m.error()]
        consumer.close()
        self.assertEqual(len(messages), n)
        return messages

    def test_no_broker(self):
        self.installation = self.install(kafka__bootstrap_servers="127.0.0.1:1")
        path = self.events("e.ndjson", Subscription("n", 1).created())
        _, err = self.command("submit", "--timeout", "1s", path, status=1)
        self.assertIn("no broker answers at 127.0.0.1:1", err)


class Listings(WithDatabase):
    def test_jobs(self):
        a, b, c = (self.subscription(i, organization=o) for i, o in ((1, "acme"), (2, "acme"), (3, "globex")))
        self.fail_job(b.uuid)
        self.fail_job(c.uuid, error="\x1b]0;title\x07 bad \u202e \n token", error_class="conflict")
        self.db.rows("UPDATE provisioning_job SET updated_at = now() - interval '3 hours' WHERE subscription_uuid = %s",
                     a.uuid)

        def found(*filters):
            return {j["subscription_uuid"] for j in self.json("jobs", *filters)}

        jobs = self.json("jobs")
        self.assertEqual([set(j) for j in jobs], [JOB_MEMBERS] * 3)
        for j in jobs:
            self.assertRegex(j["updated_at"], RFC3339)
            self.assertRegex(j["next_attempt_at"], RFC3339)
        self.assertEqual(jobs[-1]["subscription_uuid"], a.uuid)
        self.assertEqual(found("--state", "failed"), {b.uuid, c.uuid})
        self.assertEqual(found("--state", "failed,queued"), {a.uuid, b.uuid, c.uuid})
        self.assertEqual(found("--state", "failed", "--state", "queued"), {a.uuid, b.uuid, c.uuid})
        self.assertEqual(found("--organization", "acme"), {a.uuid, b.uuid})
        self.assertEqual(found("--error", "conflict"), {c.uuid})
        self.assertEqual(found("--error", "SERVER SAID"), {b.uuid})
        self.assertEqual(found("--since", "1h"), {b.uuid, c.uuid})
        self.assertEqual(found("--since", "2030-01-01T00:00:00Z"), set())
        self.assertEqual(len(found("--limit", "1")), 1)
        self.assertEqual(found("--organization", "' OR true --"), set())
        out, _ = self.command("jobs", "--organization", "globex")
        self.assertIn("\\x1b]0;title\\x07 bad \\u{202e} \\n token", out)
        self.assertEqual(len(out.splitlines()), 2)

    def test_terminal(self):
        s = self.subscription(1)
        self.fail_job(s.uuid, error="very " * 100 + "long \x1b[2J")
        for columns in (60, 80, 100, 200):
            status, text = self.terminal("jobs", columns=columns)
            lines = text.replace("\r", "").splitlines()
            self.assertEqual((status, len(lines)), (0, 2), text)
            self.assertLessEqual(max(map(len, lines)), columns)
            self.assertNotIn("\x1b", text)
            if columns >= 80:
                self.assertIn(s.uuid, text)
        out, _ = self.command("jobs")
        self.assertIn("very " * 100, out)

    def test_orders(self):
        self.assertEqual(self.json("orders"), [])
        for phase, reason in (("hinted", None), ("left", "quota"), ("dropped", "gone")):
            self.db.rows("INSERT INTO waldur_order (order_uuid, source, phase, reason, detail, organization_slug) VALUES "
                         "(gen_random_uuid(), 'webhook', %s, %s, 'it is\x1b[31m why', 'acme')", phase, reason)
        self.assertEqual({(o["phase"], o["reason"]) for o in self.json("orders")},
                         {("hinted", None), ("left", "quota"), ("dropped", "gone")})
        self.assertEqual([o["reason"] for o in self.json("orders", "--state", "left,taken", "--organization", "acme")],
                         ["quota"])
        self.assertEqual(self.json("orders", "--organization", "other"), [])
        self.assertEqual(len(self.json("orders", "--limit", "2")), 2)
        self.assertNotIn("\x1b", self.command("orders")[0])

    def test_show(self):
        s = self.subscription(1)
        self.fail_job(s.uuid)
        self.agent_config(s, status="provisioning")
        self.db.rows("INSERT INTO agent_api_key (subscription_uuid, organization_uuid, prefix, key_hash, sealed_key, "
                     "permissions, rate_limit) VALUES (%s, %s, 'pk_live_abcdefgh', %s, %s, '{chat}', '60/minute')",
                     s.uuid, s.organization["uuid"], b"h" * 32, b"s" * 60)
        job = self.db.value("SELECT id FROM provisioning_job")
        self.db.rows("INSERT INTO provisioning_effect (subscription_uuid, job_id, fence, step, runtime_name, product, "
                     "operation, method, target, name, marker, body_sha256, request_id) VALUES (%s, %s, 1, 'collection', "
                     "'shared-eu', 'ragflow', 'collection.create', 'POST', '/c', 'n', 'm', 'x', 'r-1')", s.uuid, job)
        whole = self.json("show", s.uuid)
        self.assertEqual(set(whole), {"subscription", "agent_config", "pauses", "events", "jobs", "effects", "orders",
                                      "waldur_effects", "api_keys", "history"})
        self.assertEqual(whole["subscription"]["uuid"], s.uuid)
        self.assertEqual(whole["agent_config"]["name"], s.name)
        self.assertEqual(whole["agent_config"]["variables"], {"tone": "calm", "api_token": "********"})
        self.assertEqual(whole["events"][0]["verdict"], "applied")
        self.assertEqual((whole["jobs"][0]["state"], whole["jobs"][0]["error"]), ("failed", "the server said no"))
        self.assertEqual(whole["effects"][0]["operation"], "collection.create")
        self.assertEqual((whole["api_keys"][0]["prefix"], whole["api_keys"][0]["permissions"]),
                         ("pk_live_abcdefgh", ["chat"]))
        self.assertFalse({"key_hash", "sealed_key"} & set(whole["api_keys"][0]))
        self.assertEqual([h["action"] for h in whole["history"]], ["event.applied", "job.queued"])
        self.assertEqual(self.json("show", s.uuid.replace("-", "").upper()), whole)
        self.assertEqual(self.json("show", s.name), whole)
        out, _ = self.command("show", s.name)
        for part in ("AgentConfig", "Events", "Jobs", "Changes upstream", "API keys", "History", "the server said no"):
            self.assertIn(part, out)
        self.assertNotIn("hidden-value", out)
        _, err = self.command("show", "no-such-name", status=1)
        self.assertIn('there is no subscription "no-such-name"', err)
        self.assertEqual(err.count("\n"), 1)

    def test_config(self):
        out, _ = self.command("config")
        self.assertIn("group_id", out)
        self.assertEqual(self.json("config")["kafka"]["topics"]["events"], TOPICS["events"])


class DeadLetters(WithDatabase):
    def test_list_show_discard(self):
        text = self.dead_letter(1, headers=[header("h", b"v\x1b")])
        binary = self.dead_letter(2, value=b"\xff\x00\x1b" * 10,
                                  headers=[header("b", b"\xff\x00"), header("n", None)])
        listed = self.json("dead-letters", "list")
        self.assertEqual([x["id"] for x in listed], [binary, text])
        shown = self.json("dead-letters", "show", str(text), str(binary))
        self.assertEqual((shown[0]["key"], shown[0]["value"]), ("k", "not json"))
        self.assertEqual(shown[0]["headers"], [{"name": "h", "value": "v\x1b"}])
        self.assertEqual((shown[1]["value"], shown[1]["value_hex"]), (None, "ff001b" * 10))
        self.assertEqual(shown[1]["headers"], [{"name": "b", "value": None, "value_hex": "ff00"},
                                               {"name": "n", "value": None}])
        out, _ = self.command("dead-letters", "show", str(text), str(binary))
        self.assertIn("h: v\\x1b", out)
        self.assertIn("hex ff001b", out)
        self.assertNotIn("\x1b", out)
        self.assertEqual(self.json("dead-letters", "discard", str(text)), {"discarded": 1})
        self.assertEqual([x["id"] for x in self.json("dead-letters", "list")], [binary])
        self.assertEqual(len(self.json("dead-letters", "list", "--state", "all")), 2)
        self.assertEqual(self.json("dead-letters", "list", "--state", "discarded")[0]["id"], text)
        self.command("dead-letters", "discard", str(text), status=1)
        _, err = self.command("dead-letters", "show", "999", status=1)
        self.assertIn("no dead letter 999", err)
        self.command("dead-letters", "show", "x; DROP TABLE", status=1)
        self.command("dead-letters", "discard", status=2)
        self.command("dead-letters", "discard", "--all", "1", status=2)
        _, err = self.command("dead-letters", "discard", "--all", status=1)
        self.assertIn("--yes", err)
        status, text = self.terminal("dead-letters", "discard", "--all", answer=b"no\n")
        self.assertEqual(status, 1, text)
        self.assertIn("discard all 1 new dead letters? [y/N]", text)
        self.assertEqual(len(self.json("dead-letters", "list")), 1)
        status, text = self.terminal("dead-letters", "discard", "--all", answer=b"y\n")
        self.assertEqual(status, 0, text)
        self.dead_letter(3)
        self.assertEqual(self.json("dead-letters", "discard", "--all", "--yes"), {"discarded": 1})

    def test_replay(self):
        value, key = b"\x00\xffraw", f"key-{self.id()}".encode()
        one = self.dead_letter(1, value=value, key=key, replays=4, headers=[
            header("traceparent", b"t"), header("null", None), header("raw", b"\x00\xfe"),
            header("__connect.errors.topic", b"x"), header("provisioner.dlq.reason", b"x"),
            header("provisioner.replays", b"4")])
        cut = self.dead_letter(2, value=b"cut", value_bytes=5000000)
        self.assertEqual(self.json("dead-letters", "replay", str(one)), {"replayed": 1})
        row = self.db.one("SELECT state, resolved_at FROM dead_letter WHERE id = %s", one)
        self.assertEqual(row["state"], "replayed")
        _, err = self.command("dead-letters", "replay", str(cut), status=1)
        self.assertIn("5000000 bytes", err)
        poor = self.dead_letter(3, headers=[header("provisioner.dlq.headers_left_out", b"2")])
        _, err = self.command("dead-letters", "replay", str(poor), status=1)
        self.assertIn("too large to be kept whole", err)
        self.assertEqual(self.db.value("SELECT state FROM dead_letter WHERE id = %s", cut), "new")
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": self.id(),
                             "auto.offset.reset": "earliest", "log_level": 2})
        consumer.subscribe([TOPICS["events"]])
        found, end = None, time.monotonic() + 60
        while found is None and time.monotonic() < end:
            m = consumer.poll(1)
            found = m if m and not m.error() and m.key() == key else None
        consumer.close()
        self.assertIsNotNone(found)
        self.assertEqual(found.value(), value)
        self.assertEqual(found.timestamp()[1], 1795255200000)
        self.assertEqual(found.headers(), [("traceparent", b"t"), ("null", None), ("raw", b"\x00\xfe"),
                                           ("provisioner.replays", b"5")])


class Replay(WithDatabase):
    def test_without_a_worker(self):
        s = self.subscription(1)
        self.fail_job(s.uuid)
        preview, = self.json("replay", s.uuid, "--dry-run")
        self.assertEqual((preview["verdict"], preview["from_step"], preview["state"]), ("queued", "collection", None))
        self.assertEqual(self.db.value("SELECT state FROM provisioning_job"), "failed")
        began = time.monotonic()
        out, err = self.command("replay", s.uuid, "--from-step", "name", status=3)
        self.assertLess(time.monotonic() - began, 10)
        self.assertIn("no worker is running", err)
        self.assertIn("waits for a worker", out)
        self.assertEqual(self.db.one("SELECT state, step FROM provisioning_job"), {"state": "queued", "step": "name"})

    def test_verdicts(self):
        fine, failed, older = (self.subscription(i) for i in range(3))
        self.fail_job(failed.uuid)
        self.fail_job(older.uuid)
        self.db.rows("UPDATE subscription SET generation = generation + 1 WHERE uuid = %s", older.uuid)

        def note(status, *argv):
            row, = self.json("replay", *argv, status=status)
            return row["verdict"], row["note"]

        self.assertEqual(note(1, fine.uuid), ("none", "it has no failed or cancelled job"))
        self.assertEqual(note(1, older.uuid)[0], "superseded")
        self.assertEqual(note(1, failed.uuid, "--from-step", "report")[0], "bad step")
        self.command("replay", "nobody", status=1)

    def test_many_need_a_yes(self):
        for i in range(3):
            self.fail_job(self.subscription(i, organization=f"org{i % 2}").uuid)
        _, err = self.command("replay", "--state", "failed", status=1)
        self.assertIn("--yes", err)
        self.assertEqual(len(self.json("replay", "--state", "failed", "--dry-run")), 3)
        self.assertEqual(len(self.json("replay", "--state", "failed", "--organization", "org0", "--dry-run")), 2)
        self.assertEqual(self.json("replay", "--state", "failed", "--organization", "none"), [])
        # A worker that lives, and does nothing.
        self.db.rows("INSERT INTO worker VALUES (gen_random_uuid(), 'h', 1, 'v', now(), now() + interval '1 hour')")
        began = time.monotonic()
        rows = self.json("replay", "--state", "failed", "--yes", "--rate", "4/s", "--no-wait")
        self.assertGreaterEqual(time.monotonic() - began, 0.5)
        self.assertEqual({r["state"] for r in rows}, {"queued"})

    def test_waits(self):
        self.db.rows("INSERT INTO worker VALUES (gen_random_uuid(), 'h', 1, 'v', now(), now() + interval '1 hour')")
        good, bad, slow = (self.subscription(i) for i in range(3))
        for s in (good, bad, slow):
            self.fail_job(s.uuid)

        def work():
            eventually(lambda: self.db.value("SELECT count(*) FROM provisioning_job WHERE state = 'queued'") == 3, 30,
                       "all are queued")
            self.fail_job(bad.uuid, error="failed again")
            self.db.rows("UPDATE provisioning_job SET state = 'running', lease_owner = gen_random_uuid() "
                         "WHERE subscription_uuid = %s", good.uuid)
            self.db.rows("UPDATE provisioning_job SET state = 'succeeded', lease_owner = NULL, finished_at = now() "
                         "WHERE subscription_uuid = %s", good.uuid)

        thread = threading.Thread(target=work)
        thread.start()
        rows = self.json("replay", good.uuid, bad.uuid, slow.uuid, good.uuid, "--yes", "--wait", "3s", status=3)
        thread.join()
        self.assertEqual({r["subscription_uuid"]: (r["state"], r["error"]) for r in rows},
                         {good.uuid: ("succeeded", None), bad.uuid: ("failed", "failed again"),
                          slow.uuid: ("queued", None)})


class RetentionRows(WithDatabase):
    """Old rows, and what is due; no job runs."""

    def age(self, table, days, where="true"):
        self.db.rows(f"UPDATE {table} SET received_at = now() - make_interval(days => {days}) WHERE {where}")

    def test_dry_run_changes_nothing(self):
        s = self.archived(1)
        self.archived(2, days=29)
        self.dead_letter(1, days=91)
        self.age("subscription_event", 91)
        before = self.tables()
        report = self.json("retention", "--dry-run")
        self.assertEqual(before, self.tables())
        self.assertTrue(report["dry_run"])
        self.assertEqual([i["subscription_uuid"] for i in report["subscriptions"]["items"]], [s.uuid])
        self.assertEqual(report["subscriptions"]["items"][0]["result"], "due")
        # Of four events two are the current wish of their subscriptions.
        self.assertEqual((report["events"]["due"], report["events"]["deleted"]), (2, 0))
        self.assertEqual((report["dead_letters"]["due"], report["dead_letters"]["deleted"]), (1, 0))
        self.assertEqual(self.json("retention", "--dry-run", "--now", "2020-01-01T00:00:00Z")["events"]["due"], 0)
        self.assertEqual(self.json("retention", "--dry-run", "--now", "2099-01-01T00:00:00Z")["subscriptions"]["due"], 2)
        self.assertEqual(len(self.json("retention", "--dry-run", "--now", "2099-01-01T00:00:00Z", "--limit",
                                       "1")["subscriptions"]["items"]), 1)
        out, _ = self.command("retention", "--dry-run")
        self.assertIn("nothing was changed", out)

    def tables(self):
        return [self.db.rows(f"SELECT * FROM {t} ORDER BY 1") for t in
                ("subscription", "subscription_event", "provisioning_job", "agent_config", "dead_letter", "audit_log")]

    def test_old_rows(self):
        self.subscription(1)
        for i, days in enumerate((91, 91, 89)):
            self.dead_letter(i, days=days)
        self.db.rows("UPDATE dead_letter SET state = 'discarded', resolved_at = now() WHERE kafka_offset = 0")
        self.db.rows("INSERT INTO subscription_event (source, event_id, type, subscription_uuid, order_uuid, event_time, "
                     "received_at, verdict, data) SELECT '/s', 'e' || i, 'subscription.created', gen_random_uuid(), "
                     "gen_random_uuid(), now(), now() - interval '100 days' + make_interval(secs => i % 7), 'stale', '{}' "
                     "FROM generate_series(1, 2500) i")
        self.age("subscription_event", 200, "source <> '/s'")
        report = self.json("retention")
        self.assertEqual(report["events"], {"due": 2500, "deleted": 2500, "left": 0})
        self.assertEqual(report["dead_letters"], {"due": 2, "deleted": 2, "left": 0})
        self.assertEqual(self.db.events(), 1)
        self.assertEqual(self.db.rows("SELECT kafka_offset FROM dead_letter"), [{"kafka_offset": 2}])
        report = self.json("retention")
        self.assertEqual((report["events"]["deleted"], report["dead_letters"]["deleted"]), (0, 0))

    def test_rows_in_other_hands_are_left(self):
        self.dead_letter(1, days=91)
        self.dead_letter(2, days=91)
        other = psycopg2.connect(self.url)
        other.cursor().execute("SELECT FROM agent_marketplace.dead_letter WHERE kafka_offset = 1 FOR UPDATE")
        self.assertEqual(self.json("retention")["dead_letters"], {"due": 2, "deleted": 1, "left": 1})
        other.rollback()
        other.close()
        self.assertEqual(self.json("retention")["dead_letters"], {"due": 1, "deleted": 1, "left": 0})


class ZEngine(WithDatabase):
    """Cases that need the engine: retention's purges, and replay with a worker. They come last."""

    def test_purge(self):
        due, young = self.archived(1), self.archived(2, days=29)
        report = self.json("retention")
        item, = report["subscriptions"]["items"]
        self.assertEqual((item["subscription_uuid"], item["result"], report["subscriptions"]["purged"]),
                         (due.uuid, "purged", 1), report)
        self.assertFalse(self.exists_upstream(due))
        self.assertTrue(self.exists_upstream(young))
        config = self.db.config(due.uuid)
        self.assertEqual((config["status"], config["runtime_workspace_id"]), ("purged", None))
        self.assertEqual(self.db.config(young.uuid)["status"], "archived")
        self.assertEqual(self.json("retention")["subscriptions"]["due"], 0)

    def test_what_is_left_behind_is_told(self):
        s = self.archived(1)
        self.db.rows("UPDATE agent_config SET residue = 'dataset d1: 2 chunks' WHERE subscription_uuid = %s", s.uuid)
        item, = self.json("retention", status=3)["subscriptions"]["items"]
        self.assertEqual((item["result"], item["error"]), ("purged", "dataset d1: 2 chunks"))
        self.assertFalse(self.exists_upstream(s))
        self.assertIn("dataset d1: 2 chunks", self.command("show", s.uuid)[0])

    def test_two_at_once(self):
        due = [self.archived(i) for i in range(10)]
        self.db.rows("INSERT INTO dead_letter (kafka_topic, kafka_partition, kafka_offset, value_bytes, pointer, reason, "
                     "received_at) SELECT 't', 0, i, 0, '', 'r', now() - interval '100 days' "
                     "FROM generate_series(1, 5000) i")
        self.langflow.clear_log()
        reports = []
        threads = [threading.Thread(target=lambda: reports.append(self.json("retention"))) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(len(reports), 2)
        self.assertEqual(sum(r["dead_letters"]["deleted"] for r in reports), 5000)
        for s in due:
            self.assertEqual(self.db.config(s.uuid)["status"], "purged")
            self.assertFalse(self.exists_upstream(s))
            self.assertEqual(self.db.value("SELECT count(*) FROM provisioning_job WHERE subscription_uuid = %s "
                                           "AND kind = 'purge'", s.uuid), 1)

    def test_what_cannot_be_purged(self):
        s = self.archived(1)
        self.langflow.fault("status", method="DELETE", path_prefix="/api/v1/workspaces/" + s.workspace, status=422,
                            every=True, body={"detail": "not today"})
        self.addCleanup(self.langflow.clear_faults)
        report = self.json("retention", status=3)
        item, = report["subscriptions"]["items"]
        self.assertEqual(item["result"], "failed", report)
        self.assertIn("not today", item["error"])
        # It stays due, and the next run tries again.
        self.assertEqual(self.json("retention", status=3)["subscriptions"]["failed"], 1)
        self.assertTrue(self.exists_upstream(s))
        self.langflow.clear_faults()
        worker = Worker(self.installation, "worker").start(ready=False)
        eventually(lambda: self.db.value("SELECT count(*) FROM worker WHERE lease_until > now()"), 30, "a lease",
                   describe=worker.tail)
        row, = self.json("replay", s.uuid)
        self.assertEqual((row["verdict"], row["state"]), ("queued", "succeeded"), row)
        worker.stop()
        self.assertFalse(self.exists_upstream(s))
        self.assertEqual(self.db.config(s.uuid)["status"], "purged")

    def test_bounded_wait_and_next_run(self):
        s = self.archived(1)
        self.langflow.fault("hang", method="GET", path_prefix="/api/v1/workspaces", every=True)
        self.addCleanup(self.langflow.clear_faults)
        began = time.monotonic()
        report = self.json("retention", "--wait", "1s", status=3)
        self.assertLess(time.monotonic() - began, 20)
        self.assertEqual(report["subscriptions"]["unsettled"], 1, report)
        self.langflow.clear_faults()
        self.assertEqual(self.json("retention")["subscriptions"]["purged"], 1)
        self.assertFalse(self.exists_upstream(s))


if __name__ == "__main__":
    main()
