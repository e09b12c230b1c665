"""Keys, passwords and tokens of accounts at the products stand nowhere in clear."""

import json
import re
import urllib.parse

from harness import Expected, Subscription, main, say
from harness.native import PROVIDER_KEY
from test_secrets import Searching

TOKEN = "eyJhbGciOiJIUzI1NiJ9."  # how every token of the stand-in Langflow begins


class NativeSecrets(Searching):
    def planted(self, stage):
        secrets = super().planted(stage)
        secrets["a Langflow token"] = TOKEN
        secrets["the provider's key"] = PROVIDER_KEY
        for o in stage.langflow.objects():
            for key in o["keys"]:
                secrets[f"the Langflow key of {o['object']['username']}"] = key["api_key"]
        for tenant in stage.ragflow.tenants():
            for i, key in enumerate(tenant["keys"]):
                secrets[f"RAGFlow key {i} of {tenant['email']}"] = key
        for entry in stage.langflow.log():
            for i, password in enumerate(self.passwords(entry)):
                secrets[f"password {i} in Langflow's request {entry['n']}"] = password
        for entry in stage.ragflow.log():
            for i, password in enumerate(re.findall(r'"password": ?"([^"]+)"', entry["body"])):
                secrets[f"password {i} in RAGFlow's request {entry['n']}"] = password
        return secrets

    @staticmethod
    def passwords(entry):
        found = re.findall(r'"password": ?"([^"]+)"', entry["body"])
        return found + urllib.parse.parse_qs(entry["body"]).get("password", [])

    def live(self, stage, n):
        subs = [Subscription("secret", i) for i in range(n)]
        stage.producer.send(*(s.created() for s in subs))
        stage.promise({s.uuid: Expected.of(s) for s in subs})
        return subs

    def test_nothing_leaks(self):
        stage = self.stage(dialect="native", tenancy="subscription", overrides={
            "log.level": "debug", "worker.probe_settle": "300ms", "runtimes.0.langflow.timeout": "3s",
            "runtimes.0.ragflow.timeout": "3s"})
        letters, outcomes = self.readers(stage)
        subs = self.live(stage, 3)
        say("servers fail in every way")
        more = [Subscription("secret", 10 + i) for i in range(8)]
        for standin in (stage.langflow, stage.ragflow):
            for kind in ("lose_reply", "malformed", "truncate", "fail_before"):
                standin.fault(kind, method="POST")
            # FastAPI repeats what it was sent when it doesn't like it.
            standin.fault("fail_before", method="POST", nth=9, count=2, status=422, echo=True)
            standin.fault("fail_before", method="PATCH", status=422, echo=True)
            standin.fault("status", method="POST", nth=20, count=3, act=True, status=500, echo=True)
        stage.producer.send(*(s.created() for s in more))
        stage.settled(120)
        failed = [s for s in more if stage.db.jobs(s.uuid)[-1]["state"] == "failed"]
        say(f"{len(failed)} of {len(more)} jobs failed")
        stage.producer.send(*(s.terminated() for s in subs[:2]))
        stage.settled(90)
        places = self.search(stage, letters, outcomes)
        self.assertIn("********", places["config"])
        sent = [e for s in (stage.langflow, stage.ragflow) for e in s.log()]
        for entry in sent:
            self.assertEqual(entry["headers"].get("cookie"), None)
            for name in ("path", "query"):
                self.assertNotIn("planted", str(entry[name]), "a credential travels in its header alone")
        say("each account has a password of its own")
        made = {(p, json.loads(e["body"])["username"]) for e in stage.langflow.log()
                if e["method"] == "POST" and e["path"].endswith("/users/") for p in self.passwords(e)}
        self.assertEqual(len(made), len({password for password, _ in made}))
        self.assertTrue(all(len(password) >= 32 for password, _ in made))

    def test_a_server_that_repeats_the_tenants_key(self):
        stage = self.stage(dialect="native")
        letters, outcomes = self.readers(stage)
        sub, = self.live(stage, 1)
        key = stage.runtime_key(sub.uuid)
        stage.langflow.fault("fail_before", every=True, path_prefix="/api/v1/variables/", status=400,
                             headers={"X-Request-Id": key}, body={"detail": f"Invalid API key: {key}"})
        stage.producer.send(sub.created(variables={"agent_name": "another"}))
        stage.settled(60)
        say(stage.db.jobs(sub.uuid)[-1]["error"])
        self.search(stage, letters, outcomes)


if __name__ == "__main__":
    main()
