"""A stage: a database, topics, both stand-ins and any number of replicas, on servers that a test file shares."""

import base64
import functools
import os
import secrets as random_secrets
import time
import unittest

from . import process
from .events import Producer, Reader
from .native import MODELS, PROVIDER_KEY, Langflow, Ragflow, flow_data
from .native_promise import Native, Setup, unseal
from .process import eventually
from .promise import Facade, check_promise
from .servers import Database, PrivateKafka, PrivatePostgres
from .standin import Standin
from .worker import Installation, RevealKey, Worker


def new_secrets():
    """Unlike anything else, so that finding one somewhere is proof."""
    return {"langflow": "planted-langflow-" + random_secrets.token_hex(16),
            "ragflow": "planted-ragflow-" + random_secrets.token_hex(16),
            "master": base64.b64encode(os.urandom(32)).decode()}


# What the offerings of a stage run, and where the superuser's account has it as a template.
FLOWS = {"csa": "customer-support-agent-v1", "faq": "faq-assistant-v1"}


class Stage:
    """
    dialect: "facade", the platform's own, or "native", the products themselves; of those, profiles say which version
    the stand-ins play. login_limit: the native Langflow's, a minute; 0: none. models: where RAGFlow's new tenants have
    theirs from, "shared" or a "provider" of their own.
    """

    def __init__(self, postgres, kafka, name, partitions=4, overrides=None, database_url=None, dialect="facade",
                 profiles=(None, None), login_limit=0, tenancy="shared", models="shared"):
        self.postgres, self.kafka = postgres, kafka
        self.secrets = new_secrets()
        self.reveal = RevealKey()
        self.world = Facade
        if dialect == "native":
            overrides = {**self._start_native(profiles, login_limit, tenancy, models), **(overrides or {})}
        else:
            self.langflow = Standin("workspaces", self.secrets["langflow"])
            self.ragflow = Standin("collections", self.secrets["ragflow"])
        self.topics = {"events": f"{name}.events", "dead_letters": f"{name}.dlq", "outcomes": f"{name}.outcomes"}
        kafka.create_topics({self.topics["events"]: partitions, self.topics["dead_letters"]: 1,
                             self.topics["outcomes"]: 1}, **{"max.message.bytes": "10000000"})
        self.database_url = database_url or postgres.create_database()
        self.db = Database(self.database_url)
        self.installation = Installation(self.database_url, kafka.bootstrap, self.topics, self.langflow.url,
                                         self.ragflow.url, self.secrets, self.reveal, overrides)
        self.installation.command("migrate")
        self.producer = Producer(kafka.bootstrap, self.topics["events"])
        self.workers = []
        self._readers = []

    def _start_native(self, profiles, login_limit, tenancy, equip):
        """Returns the settings that differ from the facade's."""
        self.langflow = Langflow(self.secrets["langflow"], profiles[0])
        self.ragflow = Ragflow(self.secrets["ragflow"], profiles[1])
        self.langflow.settings(login_limit=login_limit, new_user_is_active=True)
        templates = {offering: flow_data(name) for offering, name in FLOWS.items()}
        for offering, name in FLOWS.items():
            self.langflow.template(name, templates[offering])
        runtime = {"langflow.api": "langflow", "ragflow.api": "ragflow", "ragflow.tenancy": tenancy}
        models = MODELS
        if tenancy != "shared":
            self.secrets["admin"] = "planted-admin-" + random_secrets.token_hex(16)
            self.secrets["models"] = "planted-models-" + random_secrets.token_hex(16)
            if equip == "shared":
                models = self.ragflow.share_models(self.secrets["models"])
                runtime["ragflow.models_key"] = "env:RAGFLOW_MODELS_KEY"
            else:
                runtime["ragflow.provider"] = {"name": "OpenAI", "instance": "main", "api_key": PROVIDER_KEY}
            runtime.update({"ragflow.admin": {
                "url": self.ragflow.url, "email": "admin@ragflow.io", "password": "env:RAGFLOW_ADMIN_PASSWORD",
                "public_key": self.ragflow.public_key_file()}})
        runtime["ragflow.embedding_models"] = MODELS
        self.setup = Setup(self.langflow, self.ragflow, base64.b64decode(self.secrets["master"]), templates, models,
                           tenancy)
        self.world = functools.partial(Native, self.setup)
        return {"runtimes.0." + path: value for path, value in runtime.items()}

    def start_workers(self, n=1, wrapper=()):
        started = [Worker(self.installation, f"worker-{len(self.workers) + i}", wrapper) for i in range(n)]
        for worker in started:
            worker.start(ready=False)
        self.workers += started
        for worker in started:
            worker.wait_ready()
        return started[0] if n == 1 else started

    def reader(self, topic):
        reader = Reader(self.kafka.bootstrap, self.topics[topic])
        self._readers.append(reader)
        return reader

    def retention(self, days, *more):
        """What is due that many days from now."""
        later = self.db.value("SELECT to_char((now() + make_interval(days => %s)) AT TIME ZONE 'UTC', "
                              "'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')", days)
        self.installation.command("retention", "--now", later, *more)

    def requests(self, subscription):
        """(Langflow's, RAGFlow's) log entries of what was sent with the subscription's traceparent."""
        return tuple([e for e in s.log() if subscription.trace in e["headers"].get("traceparent", "")]
                     for s in (self.langflow, self.ragflow))

    def runtime_key(self, uuid, product="langflow"):
        """The key of the subscription's own account at the product, as it is kept."""
        sealed = self.db.value("SELECT sealed FROM agent_runtime_key WHERE subscription_uuid = %s AND product = %s",
                               uuid, product)
        return unseal(self.setup.master, uuid, product, sealed)

    def describe(self):
        jobs = self.db.rows("SELECT kind, state, step, error_class, count(*) AS n, max(error) AS error "
                            "FROM provisioning_job GROUP BY 1, 2, 3, 4 ORDER BY n DESC LIMIT 12")
        lines = [f"{j['n']} x {j['kind']} {j['state']} at {j['step']} {j['error_class'] or ''} {j['error'] or ''}"
                 for j in jobs]
        return "\n".join(["--- jobs ---", *lines, *(w.tail() for w in self.workers)])

    def taken_in(self, timeout=60):
        """Waits until every event sent so far stands in the inbox."""
        wanted = len(self.producer.sent)
        eventually(lambda: self.db.events() >= wanted, timeout, f"{wanted} events are taken in",
                   describe=self.describe)

    def settled(self, timeout=60):
        """Waits until all is taken in, no job is live and every outcome is published."""
        end = time.monotonic() + timeout
        self.taken_in(timeout)
        eventually(lambda: self.db.live_jobs() == 0 and self.db.value("SELECT count(*) FROM outbox") == 0,
                   max(1, end - time.monotonic()), "everything settles", every=0.2, describe=self.describe)

    def promise(self, expected, foreign=None, timeout=60):
        self.settled(timeout)
        check_promise(self.db, self.langflow, self.ragflow, expected, foreign, self.world)

    def plant_foreign(self, n, names=()):
        """Objects of others; returns them as check_promise wants them. names: some names to use."""
        if self.world is not Facade:
            planted = self.langflow.plant_foreign(n, names), self.ragflow.plant_foreign(n, names)
            self.setup.tenants = {t["id"]: t for t in self.ragflow.tenants()}
            return planted
        planted = []
        for standin, extra in ((self.langflow, {"flow_id": "theirs", "variables": {"owner": "somebody else"}}),
                               (self.ragflow, {"embedding_model": "theirs", "chunk_size": 64, "chunk_overlap": 0,
                                               "description": "somebody else's"})):
            standin.plant([{"name": name, **extra} for name in [*names, *(f"foreign-{i}" for i in range(n))]])
            planted.append({o["object"]["id"]: o["object"] for o in standin.objects() if o["planted"]})
        return tuple(planted)

    def close(self):
        """Every replica must drain and be clean; also when the test has failed already."""
        failures = []
        for worker in self.workers:
            try:
                if worker.alive():
                    worker.stop()
                worker.assert_clean()
            except AssertionError as e:
                failures.append(str(e))
            worker.kill()
        for reader in self._readers:
            reader.close()
        self.db.close()
        self.langflow.close()
        self.ragflow.close()
        assert not failures, "\n".join(failures)


class Case(unittest.TestCase):
    """A test file's servers, started once; stage() makes one and ends it with the test."""

    partitions = 4

    @classmethod
    def setUpClass(cls):
        cls.postgres = PrivatePostgres(f"postgres-{cls.__name__}")
        cls.kafka = PrivateKafka(f"kafka-{cls.__name__}")

    @classmethod
    def tearDownClass(cls):
        cls.kafka.close()
        cls.postgres.close()

    def stage(self, workers=1, **options):
        name = f"{self._testMethodName}-{random_secrets.token_hex(3)}"
        stage = Stage(self.postgres, self.kafka, name, partitions=options.pop("partitions", self.partitions), **options)
        self.addCleanup(stage.close)
        if workers:
            stage.start_workers(workers)
        return stage


def say(text):
    """Tests narrate."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


def main():
    program = unittest.main(module="__main__", exit=False, verbosity=2)
    if not program.result.wasSuccessful():
        process.keep_workdir()
        print(f"logs are kept in {process.workdir()}", flush=True)
    raise SystemExit(0 if program.result.wasSuccessful() else 1)
