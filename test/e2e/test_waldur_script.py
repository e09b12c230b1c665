"""The script that sites run in Waldur itself: what it sends is what the worker carries out."""

import json
import os
import subprocess
import tempfile

from harness import MarketCase, dashed, environment, eventually, main

SCRIPT = os.path.join(environment("SOURCE_DIR"), "deploy", "waldur", "subscription-event")


class Script(MarketCase):
    def setUp(self):
        super().setUp()
        # Waldur's orders are of a script's offering: the worker itself is told of no Waldur.
        self.m = self.market(workers=0, hooks=False, overrides={"waldur": None})
        self.m.stage.start_workers(1)

    def run_script(self, order, *argv, status=0, **environ):
        given = {"PATH": os.environ["PATH"], "ORDER_UUID": order.order, "RESOURCE_UUID": order.resource,
                 "WALDUR_URL": self.m.waldur.api, "WALDUR_TOKEN": self.m.waldur.token, "AGENT_OFFERING_TYPE": "csa",
                 "AGENT_VARIABLES": "tone, greeting", "AGENT_TIMEOUT": "20",
                 "KAFKA_BOOTSTRAP_SERVERS": self.m.stage.kafka.bootstrap, "KAFKA_TOPIC": self.m.stage.topics["events"],
                 **environ}
        done = subprocess.run(["/usr/bin/python3", SCRIPT, *argv], env={k: v for k, v in given.items() if v is not None},
                              capture_output=True, text=True, timeout=120, check=False)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        self.assertNotIn(self.m.waldur.token, done.stdout + done.stderr)
        return done

    def status(self, order, wanted):
        eventually(lambda: (self.m.config(order) or {}).get("status") == wanted, 60, f"it is {wanted}",
                   describe=self.m.stage.describe)

    def test_a_life(self):
        m = self.m
        order = m.waldur.order(m.catalogue, attributes={"name": "bot", "tone": "calm", "password": "not-ours"})
        told = self.run_script(order)
        self.assertEqual(told.stdout.splitlines()[-1], dashed(order.resource))
        self.status(order, "ready")
        config = m.config(order)
        self.assertEqual((config["plan_tier"], config["variables"]["tone"]), ("pro", "calm"))
        self.assertNotIn("not-ours", json.dumps(config["variables"]))
        self.run_script(order)  # again: the same event
        self.assertEqual(m.stage.db.value("SELECT count(*) FROM subscription_event"), 1)
        # As Waldur does where the script has ended well.
        m.waldur.act(order.order, "execute")
        m.waldur.do("POST", f"marketplace-orders/{order.order}/set_state_done/")
        self.run_script(m.waldur.terminate(order.resource))
        self.status(order, "purged")

    def test_with_kcat(self):
        """Where the image has no Python client."""
        order = self.m.waldur.order(self.m.catalogue)
        with tempfile.TemporaryDirectory() as hiding:
            with open(os.path.join(hiding, "confluent_kafka.py"), "w", encoding="ascii") as f:
                f.write("raise ImportError('not here')\n")
            self.run_script(order, PYTHONPATH=hiding)
        self.status(order, "ready")

    def test_what_is_wrong_is_said(self):
        m = self.m
        order = m.waldur.order(m.catalogue)
        event = json.loads(self.run_script(order, "--print").stdout)
        self.assertEqual((event["type"], event["subject"]), ("subscription.created", dashed(order.resource)))
        for environ, says in (({"KAFKA_BOOTSTRAP_SERVERS": None}, "KAFKA_BOOTSTRAP_SERVERS is not set"),
                              ({"AGENT_TIERS": '{"Pro": "gold"}'}, "has no tier"),
                              ({"AGENT_TIERS": "gold"}, "AGENT_TIERS is not JSON"),
                              ({"WALDUR_TOKEN": "wrong-" + m.waldur.token[:3]}, "Waldur answered 401"),
                              ({"ORDER_UUID": "f" * 32}, "Waldur answered 404")):
            self.assertIn(says, self.run_script(order, status=2, **environ).stderr)
        for environ, says in (({"WALDUR_URL": "http://127.0.0.1:9/api/", "AGENT_TIMEOUT": "2"}, "cannot be reached"),
                              ({"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9", "AGENT_TIMEOUT": "2"}, "did not acknowledge")):
            self.assertIn(says, self.run_script(order, status=1, **environ).stderr)
        self.assertEqual(m.stage.db.value("SELECT count(*) FROM subscription_event"), 0)


if __name__ == "__main__":
    main()
