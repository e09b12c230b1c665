"""Known secrets are planted, everything that can go wrong goes wrong, and then every place is searched."""

import base64
import json
import os
import subprocess
import time
import urllib.parse

from harness import Case, Expected, Subscription, main, say

TABLES = """SELECT c.oid::regclass::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname = 'agent_marketplace' AND c.relkind IN ('r', 'p', 'm')"""


def forms(secret):
    """The secret as it might be written: plain, URL-encoded, base64, hexadecimal. Parts of it give it away too."""
    raw = secret.encode()
    found = {secret, urllib.parse.quote(secret, safe=""), base64.b64encode(raw).decode().rstrip("="), raw.hex()}
    if len(secret) >= 32:
        found.add(secret[len(secret) - 20:])
    return found


class Searching(Case):
    """Looks everywhere for everything that must stand nowhere."""

    def planted(self, stage):
        secrets = {f"the {name} secret": value for name, value in stage.secrets.items()}
        secrets["the database password"] = urllib.parse.urlsplit(stage.database_url).password
        secrets["the master key's bytes"] = base64.b64decode(stage.secrets["master"]).hex()
        for i, row in enumerate(stage.db.rows("SELECT sealed_key FROM agent_api_key")):
            secrets[f"API key {i}"] = stage.reveal.open(row["sealed_key"])
        return secrets

    def places(self, stage, letters, outcomes):
        """{where: text}"""
        worker = stage.workers[0]
        found = {"the log": worker.text()}
        for path in ("/metrics", "/readyz", "/healthz", "/nonsense"):
            found[path] = worker.get(path)[1]
        with open(f"/proc/{worker.pid}/cmdline", errors="replace") as f:
            found["the process list"] = f.read()
        for table in stage.db.rows(TABLES):
            rows = stage.db.rows(f"SELECT t::text AS line FROM {table['name']} t")
            found[f"table {table['name']}"] = "\n".join(r["line"] for r in rows)
        for name, reader in (("dead letters", letters), ("outcomes", outcomes)):
            messages = reader.poll(1)
            found[name] = "\n".join(f"{m.key()} {m.value()} {m.headers()}" for m in messages)
        uuid = str(stage.db.value("SELECT subscription_uuid FROM agent_config ORDER BY created_at LIMIT 1"))
        for argv in (["config"], ["config", "--json"], ["jobs"], ["jobs", "--json"], ["show", uuid],
                     ["show", uuid, "--json"], ["dead-letters", "list", "--json"]):
            found[" ".join(argv)] = stage.installation.command(*argv)
        return found

    def search(self, stage, letters, outcomes):
        secrets, places = self.planted(stage), self.places(stage, letters, outcomes)
        self.assertGreater(len(secrets), 4)
        for where, text in places.items():
            for what, secret in secrets.items():
                for form in forms(secret):
                    # Not assertNotIn: its message would be the whole text.
                    if form in text:
                        at = text.index(form)
                        self.fail(f"{what} stands in {where}: {text[max(0, at - 200):at + 60]!r}")
        say(f"searched {len(places)} places of {sum(map(len, places.values()))} characters for {len(secrets)} secrets")
        return places

    def readers(self, stage):
        return stage.reader("dead_letters"), stage.reader("outcomes")


class Secrets(Searching):
    def test_nothing_leaks(self):
        stage = self.stage(overrides={"log.level": "debug"})
        letters, outcomes = self.readers(stage)
        subs = [Subscription("secret", i) for i in range(5)]
        stage.producer.send(*(s.created() for s in subs))
        stage.producer.raw(b"k", b'{"not": "an event"', [("content-type", b"application/cloudevents+json")])
        stage.producer.flush()
        stage.promise({s.uuid: Expected(True) for s in subs})
        say("upstreams fail in every way")
        more = [Subscription("secret", 10 + i) for i in range(7)]
        for kind, fault in (("lose_reply", {}), ("malformed", {}), ("truncate", {}), ("fail_before", {"status": 500})):
            stage.langflow.fault(kind, method="POST", **fault)
        stage.langflow.fault("fail_before", method="POST", nth=5, status=422, body={"detail": "no"})
        stage.langflow.down(1000, refuse=True)
        stage.producer.send(*(s.created() for s in more))
        stage.settled(90)
        say("PostgreSQL and Kafka go away")
        self.postgres.stop()
        time.sleep(2)
        self.postgres.start()
        self.kafka.restart()
        stage.workers[0].wait_ready()
        stage.producer.send(*(s.terminated() for s in subs[:2]))
        stage.settled(90)
        places = self.search(stage, letters, outcomes)
        self.assertIn("********", places["config"])
        for entry in stage.langflow.log() + stage.ragflow.log():
            self.assertNotIn("planted", json.dumps(entry), "a credential travels in its header alone")

    def test_an_upstream_that_repeats_the_credential(self):
        stage = self.stage()
        letters, outcomes = self.readers(stage)
        good, bad = Subscription("echo", 1), Subscription("echo", 2)
        stage.producer.send(good.created())
        stage.promise({good.uuid: Expected(True)})
        secret = stage.secrets["langflow"]
        stage.langflow.fault("fail_before", method="POST", every=True, status=400,
                             headers={"X-Request-Id": secret},
                             body={"detail": f"Incorrect API key provided: {secret}"})
        stage.producer.send(bad.created())
        stage.settled()
        self.assertEqual(stage.db.jobs(bad.uuid)[-1]["state"], "failed")
        self.search(stage, letters, outcomes)

    def test_a_wrong_configuration(self):
        stage = self.stage(workers=0)
        installation = stage.installation
        installation.env["DATABASE_URL"] = stage.database_url.replace("@127.0.0.1", "@127.0.0.1:1:2:3")
        for argv in (["migrate"], ["jobs"], ["config"]):
            done = subprocess.run([os.environ["PROVISIONER"], *argv], env={**os.environ, **installation.env,
                                  "PROVISIONER_CONFIG": installation.config_file("broken", "127.0.0.1:0")},
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
            password = urllib.parse.urlsplit(stage.database_url).password
            self.assertFalse(password in done.stdout, f"{argv} tells the database password")


if __name__ == "__main__":
    main()
