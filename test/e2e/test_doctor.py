#!/usr/bin/env python3
"""provisioner doctor: what is well, what is not, what to do about it, and that no credential is ever shown."""

import fcntl
import json
import os
import pty
import re
import socket
import struct
import subprocess
import termios
import time
import unittest
import urllib.parse

import psycopg2
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from harness import Database, Installation, PrivateKafka, PrivatePostgres, RevealKey, Standin, Worker, main
from harness.process import WITH_US, at_end, environment, eventually
from harness.stage import new_secrets
from harness.worker import SANITIZER

LEVELS = ["ok", "note", "warn", "bad"]
LANGFLOW, RAGFLOW = "runtime shared-eu langflow", "runtime shared-eu ragflow"


class Silence:
    """A server that takes connections and never says a word."""

    def __init__(self):
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.socket.getsockname()[1]

    def close(self):
        self.socket.close()


def kafka_that_makes_topics():
    """Whoever asks for a topic gets one, unless he says that he only looks: as brokers are by default."""
    kafka = PrivateKafka()
    path = os.path.join(kafka.dir, "server.properties")
    with open(path) as f:
        text = f.read()
    changed = text.replace("auto.create.topics.enable=false", "auto.create.topics.enable=true")
    assert changed != text
    with open(path, "w") as f:
        f.write(changed)
    kafka.restart()
    return kafka


def setUpModule():
    """One of each server for all cases; none of them changes what another looks at."""
    Doctor.postgres = PrivatePostgres()
    Doctor.kafka = kafka_that_makes_topics()
    Doctor.secrets = new_secrets()
    Doctor.langflow = Standin("workspaces", Doctor.secrets["langflow"])
    Doctor.ragflow = Standin("collections", Doctor.secrets["ragflow"])
    Doctor.kafka.create_topics({"doctor.events": 4, "doctor.outcomes": 1})
    Doctor.kafka.create_topics({"doctor.dlq": 1}, **{"max.message.bytes": "10000000", "retention.ms": "-1"})
    Doctor.url = Doctor.postgres.create_database()
    Doctor.install_at(Doctor.url).command("migrate")


def tearDownModule():
    Doctor.langflow.close()
    Doctor.ragflow.close()
    Doctor.kafka.close()
    Doctor.postgres.close()


class Doctor(unittest.TestCase):
    topics = {"events": "doctor.events", "dead_letters": "doctor.dlq", "outcomes": "doctor.outcomes"}

    @classmethod
    def install_at(cls, url, **overrides):
        return Installation(url, cls.kafka.bootstrap, dict(cls.topics), cls.langflow.url, cls.ragflow.url, cls.secrets,
                            RevealKey(), {k.replace("__", "."): v for k, v in overrides.items()})

    def setUp(self):
        self.planted = [*self.secrets.values()]
        self.installation = self.install_at(self.url)

    # ---- running it ----

    def doctor(self, *argv, status=0, timeout=60, stdout=subprocess.PIPE):
        """(standard output, standard error)"""
        config = self.installation.config_file("command", "127.0.0.1:0")
        done = subprocess.run([environment("PROVISIONER"), "doctor", *argv], stdout=stdout, stderr=subprocess.PIPE,
                              text=True, timeout=timeout,
                              env={**os.environ, **self.installation.env, "PROVISIONER_CONFIG": config})
        out = done.stdout or ""
        self.assertIsNone(SANITIZER.search(done.stderr), done.stderr)
        for secret in self.planted:
            self.assertNotIn(secret, out + done.stderr)
        if status is not None:
            self.assertEqual(done.returncode, status, out + done.stderr)
        return out, done.stderr

    def report(self, *argv, status=0):
        """The JSON document, after a look at its shape."""
        out, err = self.doctor(*argv, "--json", status=status)
        self.assertEqual(err, "")
        report = json.loads(out)
        self.assertEqual(report.keys(), {"findings", "worst"})
        levels = [f["level"] for f in report["findings"]]
        self.assertEqual(report["worst"], max(levels, key=LEVELS.index))
        self.assertEqual(status, 3 if {"warn", "bad"} & set(levels) else 0, out)
        for f in report["findings"]:
            self.assertEqual(f.keys(), {"level", "server", "subject", "what", "mend"})
            self.assertIn(f["level"], LEVELS)
            self.assertTrue(f["server"] and f["subject"] and f["what"], f)
            if f["level"] in ("warn", "bad"):
                self.assertTrue(f["mend"], f)
        return report

    def finding(self, report, server, subject, level, what="", mend=""):
        """One of that server and subject has this level and says this."""
        of = [f for f in report["findings"] if (f["server"], f["subject"]) == (server, subject)]
        for f in of:
            if f["level"] == level and what in f["what"] and mend in (f["mend"] or ""):
                return f
        self.fail(f"{server}, {subject}: not {level} {what!r} {mend!r}:\n{json.dumps(of or report, indent=1)}")

    def servers(self, report):
        return list(dict.fromkeys(f["server"] for f in report["findings"]))


class AllWell(Doctor):
    def test_all_well(self):
        worker = Worker(self.installation).start()
        try:
            eventually(lambda: " 1 reading" in self.doctor("kafka")[0], 30, "the worker is in its group", every=0.5)
            report = self.report()
            self.finding(report, "database", "workers", "ok", f"process {worker.pid}")
            self.finding(report, "kafka", "group", "ok", "1 reading")
        finally:
            worker.stop()
        self.assertEqual(report["worst"], "ok", json.dumps(report, indent=1))
        self.assertEqual(self.servers(report), ["configuration", "database", "kafka", LANGFLOW, RAGFLOW])
        self.finding(report, "configuration", "reveal key", "ok")
        self.finding(report, "configuration", "master key", "ok")
        self.finding(report, "database", "version", "ok", "PostgreSQL ")
        self.finding(report, "database", "schema", "ok", "as this program needs it")
        self.finding(report, "database", "rights", "ok")
        self.finding(report, "database", "clock", "ok", "0.")
        self.finding(report, "kafka", "brokers", "ok", "1 at ")
        self.finding(report, "kafka", "events", "ok", "doctor.events: 4 partitions, 1 replica")
        self.finding(report, "kafka", "dead letters", "ok")
        self.finding(report, "kafka", "outcomes", "ok")
        self.finding(report, LANGFLOW, "address", "ok", "api: workspaces")
        self.finding(report, LANGFLOW, "credential", "ok")
        self.finding(report, RAGFLOW, "address", "ok", "tenancy: shared")
        self.finding(report, RAGFLOW, "credential", "ok")

    def test_text(self):
        out, err = self.doctor()
        self.assertEqual(err, "")
        self.assertTrue(out.endswith("\nnothing is to be mended\n"), out)
        for line in ("configuration", "database", "kafka", LANGFLOW, RAGFLOW):
            self.assertIn(f"{line}\n", out)
        # Without a worker: a note, which does not count.
        self.assertRegex(out, r"(?m)^  note  workers +none holds a lease.*\n +mend: start one with `provisioner run`$")

    def test_changes_nothing(self):
        self.langflow.clear_log()
        self.ragflow.clear_log()
        self.report()
        for standin in (self.langflow, self.ragflow):
            self.assertTrue(standin.log())
            self.assertEqual(standin.mutations(), [])

    def test_restricted(self):
        self.assertEqual(self.servers(self.report("kafka")), ["kafka"])
        self.assertEqual(self.servers(self.report("database", "configuration")), ["configuration", "database"])
        self.assertEqual(self.servers(self.report("shared-eu")), [LANGFLOW, RAGFLOW])

    def test_terminal(self):
        self.installation = self.install_at(self.url, kafka__topics__events="doctor.nowhere")
        config = self.installation.config_file("command", "127.0.0.1:0")
        for columns in (60, 80, 132):
            leader, follower = pty.openpty()
            fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
            done = subprocess.Popen([environment("PROVISIONER"), "doctor"], stdin=follower, stdout=follower,
                                    stderr=subprocess.DEVNULL,
                                    env={**os.environ, **self.installation.env, "PROVISIONER_CONFIG": config})
            os.close(follower)
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
            self.assertEqual(done.wait(60), 3)
            lines = text.decode().replace("\r", "").splitlines()
            # What has no blanks stands in a line of its own, however long.
            wide = [x for x in lines if len(x) > columns and " " in re.split(" {2,}", x)[-1]]
            self.assertEqual(wide, [], "\n".join(lines))
            self.assertIn("  bad ", "\n".join(lines))

    def test_usage(self):
        out, err = self.doctor("shared-us", status=2)
        self.assertEqual(out, "")
        self.assertIn('"shared-us" is neither a runtime', err)
        for bad in ("0", "2h", "soon"):
            self.assertIn("--timeout takes", self.doctor("--timeout", bad, status=2)[1])
        self.installation.settings["kafak"] = {}
        self.assertIn('did you mean "kafka"?', self.doctor(status=2)[1])

    def test_full_disk(self):
        with open("/dev/full", "w") as full:
            self.assertIn("cannot be written", self.doctor("configuration", status=1, stdout=full)[1])


class Configuration(Doctor):
    def test_keys(self):
        del self.installation.settings["secrets"]
        report = self.report("configuration", status=3)
        self.finding(report, "configuration", "reveal key", "bad", "does not start", "README.md")
        self.finding(report, "configuration", "master key", "note", mend="openssl rand -base64 32")
        self.finding(report, "configuration", "products", "ok")

    def test_products(self):
        self.installation.set("runtimes.0.ragflow.api", "ragflow")
        self.installation.set("runtimes.0.ragflow.tenancy", "subscription")
        self.finding(self.report("configuration", status=3), "configuration", "products", "bad", "ragflow.",
                     "deploy/provisioner.yaml")

    def test_no_shared_runtime(self):
        self.installation.set("runtimes.0.mode", "dedicated")
        self.installation.set("runtimes.0.organization", "acme")
        self.finding(self.report("configuration"), "configuration", "runtimes", "note", "none is shared")


class Postgres(Doctor):
    def role(self, name, *grants, database=None):
        """A role that may log in; returns the URL with which it does."""
        parts = urllib.parse.urlsplit(database or self.url)
        admin = urllib.parse.urlsplit(self.postgres.admin_url())
        conn = psycopg2.connect(urllib.parse.urlunsplit(admin._replace(path=parts.path)))
        conn.autocommit = True
        with conn.cursor() as c:
            c.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'planted-{name}'")
            for grant in grants:
                c.execute(f"{grant} TO {name}")
        conn.close()
        self.planted.append(f"planted-{name}")
        where = parts.netloc.rpartition("@")[2]
        return urllib.parse.urlunsplit(parts._replace(netloc=f"{name}:planted-{name}@{where}"))

    def seen_by(self, url, status=3):
        self.installation.env["DATABASE_URL"] = url
        return self.report("database", status=status)

    def test_down(self):
        self.planted.append("planted-password")
        report = self.seen_by("postgresql://u:planted-password@127.0.0.1:1/x")
        self.finding(report, "database", "connection", "bad", "Connection refused", "database.url")
        self.assertEqual(len(report["findings"]), 1)

    def test_wrong_password(self):
        where = urllib.parse.urlsplit(self.url)
        url = urllib.parse.urlunsplit(where._replace(netloc="nobody:planted-word@" + where.netloc.rpartition("@")[2]))
        self.planted.append("planted-word")
        self.finding(self.seen_by(url), "database", "connection", "bad", "nobody", "pg_hba.conf")

    def test_unreadable_url(self):
        self.planted.append("planted-piece")
        self.finding(self.seen_by("postgresql://u:planted-piece%zz@127.0.0.1/x"), "database", "connection", "bad",
                     "%-encoding", "database.url")

    def test_not_migrated(self):
        report = self.seen_by(self.postgres.create_database())
        self.finding(report, "database", "schema", "bad", "version 0 of ", "provisioner migrate")

    def test_other_schema(self):
        url = self.postgres.create_database()
        self.install_at(url).command("migrate")
        db = Database(url)
        self.addCleanup(db.close)
        newest = db.value("SELECT max(version) FROM schema_migration")
        db.rows("DELETE FROM schema_migration WHERE version = %s", newest)
        before = db.value("SELECT max(version) FROM schema_migration")
        self.finding(self.seen_by(url), "database", "schema", "bad", f"version {before} of {newest}: 1 migration is")
        db.rows("INSERT INTO schema_migration SELECT 9999, name, checksum FROM schema_migration WHERE version = 1")
        db.rows("UPDATE schema_migration SET version = %s WHERE version = 9999", newest + 1)
        self.finding(self.seen_by(url), "database", "schema", "bad", "newer than this program's")
        db.rows("DELETE FROM schema_migration WHERE version > %s", newest)
        db.rows("UPDATE schema_migration SET checksum = 'x' WHERE version = 1")
        self.finding(self.seen_by(url), "database", "schema", "bad", "was changed after it was applied")

    def test_rights(self):
        worker = "GRANT provisioner_worker"
        tables = "ON ALL TABLES IN SCHEMA agent_marketplace"
        schema = "GRANT USAGE ON SCHEMA agent_marketplace"
        self.finding(self.seen_by(self.role("stranger")), "database", "rights", "bad", "may not use schema", worker)
        report = self.seen_by(self.role("reader", schema, f"GRANT SELECT {tables}"))
        self.finding(report, "database", "rights", "bad", "UPDATE on agent_config", worker)
        self.finding(report, "database", "schema", "ok")
        no_calls = self.role("typist", schema, f"GRANT SELECT, INSERT, UPDATE, DELETE {tables}")
        self.finding(self.seen_by(no_calls), "database", "rights", "bad", "may not call", worker)
        blind = self.role("blind", schema, f"GRANT SELECT, INSERT, UPDATE, DELETE {tables}",
                          "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA agent_marketplace")
        self.finding(self.seen_by(blind), "database", "rights", "bad", "row-level security", worker)
        member = self.seen_by(self.role("member", worker), status=0)
        self.finding(member, "database", "rights", "ok")
        self.finding(member, "database", "workers", "note")

    def test_read_only(self):
        url = self.role("careful", "GRANT provisioner_worker")
        conn = psycopg2.connect(self.postgres.admin_url())
        conn.autocommit = True
        conn.cursor().execute("ALTER ROLE careful SET default_transaction_read_only = on")
        conn.close()
        self.finding(self.seen_by(url), "database", "writing", "bad", "read-only", "primary")

    def test_what_waits(self):
        db = Database(self.url)
        self.addCleanup(db.close)
        letter = db.value("INSERT INTO dead_letter (kafka_topic, kafka_partition, kafka_offset, value_bytes, pointer, "
                          "reason) VALUES ('t', 0, 1, 0, '', 'is not JSON') RETURNING id")
        report = self.seen_by(self.url, status=0)
        db.rows("DELETE FROM dead_letter WHERE id = %s", letter)
        self.finding(report, "database", "dead letters", "note", "1 new", "provisioner dead-letters list")


class Kafka(Doctor):
    def test_topics_missing(self):
        self.installation = self.install_at(self.url, kafka__topics__outcomes="doctor.nowhere")
        report = self.report("kafka", status=3)
        self.finding(report, "kafka", "outcomes", "bad", "there is no topic doctor.nowhere", "--create --topic doctor.nowhere")
        self.finding(report, "kafka", "events", "ok")
        topics = AdminClient({"bootstrap.servers": self.kafka.bootstrap}).list_topics(timeout=20).topics
        self.assertNotIn("doctor.nowhere", topics, "looking has made it")

    def test_lag(self):
        self.kafka.create_topics({"doctor.lag": 2})
        producer = Producer({"bootstrap.servers": self.kafka.bootstrap})
        for i in range(5):
            producer.produce("doctor.lag", b"x", partition=i % 2)
        self.assertEqual(producer.flush(20), 0)
        self.installation = self.install_at(self.url, kafka__topics__events="doctor.lag")
        self.finding(self.report("kafka"), "kafka", "group", "note", "5 events not yet taken in", "provisioner run")

    def test_topics_that_lose(self):
        self.kafka.create_topics({"doctor.small": 1}, **{"max.message.bytes": "1048588", "retention.ms": "3600000"})
        self.kafka.create_topics({"doctor.compact": 1}, **{"cleanup.policy": "compact"})
        self.installation = self.install_at(self.url, kafka__topics__dead_letters="doctor.small",
                                            kafka__topics__events="doctor.compact")
        report = self.report("kafka", status=3)
        self.finding(report, "kafka", "dead letters", "warn", "max.message.bytes is 1048588",
                     "--topic doctor.small --add-config max.message.bytes=8388608")
        self.finding(report, "kafka", "dead letters", "note", "for 1h", "retention.ms=")
        self.finding(report, "kafka", "events", "warn", "compacted", "cleanup.policy=delete")

    def test_unreachable(self):
        self.installation = self.install_at(self.url, kafka__bootstrap_servers="127.0.0.1:1")
        began = time.monotonic()
        report = self.report("kafka", status=3)
        self.assertLess(time.monotonic() - began, 15, "refused connections are not waited out")
        self.finding(report, "kafka", "brokers", "bad", "Connection refused", "kafka.bootstrap_servers")
        self.assertEqual(len(report["findings"]), 1)

    def test_properties(self):
        self.planted.append("planted-passphrase")
        self.installation = self.install_at(self.url)
        # librdkafka quotes what it does not take; what came by env: is not for everybody's eyes.
        self.installation.env["PASSPHRASE"] = "planted-passphrase"
        self.installation.settings["kafka"]["properties"] = {"security.protocol": "env:PASSPHRASE"}
        self.finding(self.report("kafka", status=3), "kafka", "properties", "bad", "security.protocol",
                     "kafka.properties")
        # A broker without SASL hangs up on who begins with it.
        self.installation.settings["kafka"]["properties"] = {
            "security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN", "sasl.username": "worker",
            "sasl.password": "planted-passphrase"}
        self.finding(self.report("kafka", "--timeout", "15s", status=3), "kafka", "brokers", "bad", "SASL",
                     "sasl.*")

    def mock(self, *topics):
        """librdkafka's mock cluster, as in the quickstart: its address."""
        broker = subprocess.Popen(
            [*WITH_US, os.path.join(os.path.dirname(environment("PROVISIONER")), "mockbroker"), "1",
             *(f"{t}:2" for t in topics)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

        def end():
            broker.kill()
            broker.wait()
            broker.stdout.close()

        at_end(broker.kill)
        self.addCleanup(end)
        return broker.stdout.readline().strip()

    def test_settings_that_cannot_be_read(self):
        """The mock cluster answers nothing about them."""
        self.installation = self.install_at(self.url, kafka__bootstrap_servers=self.mock(*self.topics.values()))
        report = self.report("kafka")
        self.finding(report, "kafka", "events", "ok", "2 partitions")
        self.finding(report, "kafka", "dead letters", "note", "settings cannot be read", "DescribeConfigs")


class Products(Doctor):
    def setUp(self):
        super().setUp()
        self.addCleanup(self.langflow.clear_faults)
        self.addCleanup(self.ragflow.clear_faults)

    def test_wrong_credential(self):
        self.planted.append("planted-wrong-token")
        self.installation.env["LANGFLOW_API_KEY"] = "planted-wrong-token"
        report = self.report("shared-eu", status=3)
        self.finding(report, LANGFLOW, "credential", "bad", "refused: HTTP 401", "langflow.api_key")
        self.finding(report, RAGFLOW, "credential", "ok")

    def test_a_server_that_repeats_the_credential(self):
        words = f"who is {self.secrets['langflow']}? And {self.secrets['langflow'][:30]}..."
        self.langflow.fault("status", status=403, every=True, body={"detail": words})
        report = self.report("shared-eu", status=3)
        f = self.finding(report, LANGFLOW, "credential", "bad", "who is ***", "langflow.api_key")
        self.assertNotIn(self.secrets["langflow"][:30], f["what"])

    def test_down(self):
        self.installation.set("runtimes.0.ragflow.url", "http://127.0.0.1:1")
        report = self.report("shared-eu", status=3)
        self.finding(report, LANGFLOW, "credential", "ok")
        self.finding(report, RAGFLOW, "reach", "bad", "connect", "ragflow.url")
        self.ragflow.fault("drop_before", every=True)
        self.installation.set("runtimes.0.ragflow.url", self.ragflow.url)
        self.finding(self.report("shared-eu", status=3), RAGFLOW, "reach", "bad", mend="ragflow.url")

    def test_trouble(self):
        self.ragflow.fault("status", status=500, every=True, body={"detail": "no space left"})
        self.finding(self.report("shared-eu", status=3), RAGFLOW, "answer", "bad", "no space left", "log")

    def test_another_protocol(self):
        """The product itself, or a page, where the facade is expected."""
        self.langflow.fault("status", status=404, every=True, body={"detail": "Not Found"})
        self.ragflow.fault("status", status=200, every=True, body="<html>hello</html>")
        report = self.report("shared-eu", status=3)
        self.finding(report, LANGFLOW, "answer", "bad", "does not speak workspaces", "api: langflow is the product itself")
        self.finding(report, RAGFLOW, "answer", "bad", "does not speak collections", "api: ragflow is the product itself")

    def test_without_credential(self):
        del self.installation.settings["runtimes"][0]["langflow"]["api_key"]
        self.finding(self.report("shared-eu", status=3), LANGFLOW, "credential", "bad", "refused", "langflow.api_key")

    def test_unencrypted(self):
        self.installation.set("runtimes.0.langflow.url", "http://langflow.invalid:7860")
        report = self.report("shared-eu", status=3)
        self.finding(report, LANGFLOW, "address", "note", "unencrypted", "https://")
        self.assertFalse([f for f in report["findings"] if f["server"] == RAGFLOW and f["level"] == "note"])

    def test_silence_everywhere(self):
        """All at the same time, and within the bound."""
        silence = Silence()
        self.addCleanup(silence.close)
        there = f"127.0.0.1:{silence.port}"
        self.planted.append("planted-silence")
        self.installation = self.install_at(f"postgresql://u:planted-silence@{there}/x",
                                            kafka__bootstrap_servers=there, runtimes__0__langflow__url=f"http://{there}",
                                            runtimes__0__ragflow__url=f"http://{there}")
        began = time.monotonic()
        report = self.report("--timeout", "3s", status=3)
        self.assertLess(time.monotonic() - began, 10)
        self.finding(report, "configuration", "reveal key", "ok")
        for server in ("database", "kafka", LANGFLOW, RAGFLOW):
            self.assertIn("bad", [f["level"] for f in report["findings"] if f["server"] == server], server)
        self.finding(report, "database", "answer", "bad", "within 3s", "--timeout")

    def test_many_runtimes_at_once(self):
        """A slow one does not keep the others waiting."""
        first = self.installation.settings["runtimes"][0]
        self.installation.settings["runtimes"] = [{**first, "name": f"r-{i}"} for i in range(20)]
        for standin in (self.langflow, self.ragflow):
            standin.fault("delay", every=True, ms=1500)
        began = time.monotonic()
        report = self.report()
        self.assertLess(time.monotonic() - began, 15, "40 answers that take 1.5 s each")
        self.assertEqual(len([f for f in report["findings"] if f["subject"] == "credential"]), 40)


class NativeProducts(Doctor):
    """By the drivers of the products themselves."""

    def test_langflow(self):
        native = Standin("langflow", self.secrets["langflow"], profile="1.13")
        self.addCleanup(native.close)
        self.installation = self.install_at(self.url, runtimes__0__langflow__api="langflow",
                                            runtimes__0__langflow__url=native.url)
        self.look(LANGFLOW, "LANGFLOW_API_KEY", "1.13")

    def test_ragflow(self):
        native = Standin("ragflow", self.secrets["ragflow"], profile="0.27-python")
        self.addCleanup(native.close)
        self.installation = self.install_at(self.url, runtimes__0__ragflow__api="ragflow",
                                            runtimes__0__ragflow__url=native.url)
        self.look(RAGFLOW, "RAGFLOW_API_KEY", "0.27")

    def look(self, server, variable, version):
        out, _ = self.doctor("shared-eu", "--json", status=None)
        report = json.loads(out)
        self.finding(report, server, "version", "ok", version)
        self.finding(report, server, "credential", "ok")
        self.planted.append("planted-wrong-key")
        self.installation.env[variable] = "planted-wrong-key"
        report = self.report("shared-eu", status=3)
        self.finding(report, server, "credential", "bad")


if __name__ == "__main__":
    main()
