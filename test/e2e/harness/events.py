"""Subscriptions, their events, and Kafka as Waldur's side sees it."""

import hashlib
import json
import random
import time
import uuid as uuids
from datetime import datetime, timedelta, timezone

from confluent_kafka import Consumer, KafkaError, Producer as KafkaProducer

SOURCE = "/waldur/marketplace"
STRUCTURED = [("content-type", b"application/cloudevents+json")]
START = datetime(2026, 11, 21, 10, 0, 0, tzinfo=timezone.utc)


def _uuid(*parts):
    digest = hashlib.sha256("/".join(str(p) for p in parts).encode()).digest()
    return str(uuids.UUID(bytes=digest[:16], version=4))


class Event:
    """One CloudEvent. body() is what Kafka carries in structured mode."""

    def __init__(self, document, key):
        self.document = document
        self.key = key

    @property
    def id(self):
        return self.document["id"]

    def body(self):
        return json.dumps(self.document).encode()

    def message(self, binary=False):
        """(key, value, headers)"""
        if not binary:
            return self.key, self.body(), STRUCTURED
        headers = [("content-type", b"application/json")]
        headers += [("ce_" + k, v.encode()) for k, v in self.document.items() if k != "data"]
        return self.key, json.dumps(self.document["data"]).encode(), headers


class Subscription:
    """A subscription that a seed makes: the same seed, the same everything."""

    def __init__(self, seed, number, offering="csa", organizations=20, organization=None, project=None, id=None,
                 rag=None, variables=None):
        self.rng = random.Random(f"{seed}/{number}")
        self.seed, self.number = seed, number
        self.uuid = _uuid(seed, "subscription", number)
        n = self.rng.randrange(organizations)
        self.organization = {"uuid": _uuid(seed, "organization", organization or n),
                             "slug": organization or f"org-{n}", "name": f"Organization {n}"}
        project = project or f"project-{self.rng.randrange(5)}"
        self.project = {"uuid": _uuid(seed, "project", self.organization["slug"], project), "slug": project,
                        "name": project.title()}
        self.offering = offering
        self.rag = offering == "csa" if rag is None else rag
        self.id = id or str(number)
        self.variables = variables or {"agent_name": f"Agent {number}", "tone": "professional"}
        digest = hashlib.sha256(f"trace/{seed}/{number}".encode()).hexdigest()
        self.trace = digest[:32]  # of all requests that are made for its events, where those carry the traceparent
        self.traceparent = f"00-{self.trace}-{digest[32:48]}-01"
        self.orders = 0
        self.clock = START + timedelta(seconds=number % 1000)
        self.order = None

    @property
    def name(self):
        """What the naming rule makes of these plain slugs."""
        return f"{self.organization['slug']}-{self.project['slug']}-{self.offering}-{int(self.id):03d}"

    def _event(self, kind, data, traceparent=None, time=None):
        self.clock += timedelta(seconds=10)
        when = time or self.clock
        document = {"specversion": "1.0", "id": f"order-{self.order.replace('-', '')}-{kind}", "source": SOURCE,
                    "type": f"subscription.{kind}", "subject": self.uuid,
                    "time": when.strftime("%Y-%m-%dT%H:%M:%SZ"), "data": data}
        if traceparent:
            document["traceparent"] = traceparent
        return Event(document, self.uuid)

    def _new_order(self):
        self.orders += 1
        self.order = _uuid(self.seed, "order", self.number, self.orders)

    def _whole(self, kind, traceparent, time, data):
        self._new_order()
        body = {"order_uuid": self.order,
                "subscription": {"uuid": self.uuid, "id": self.id, "name": f"Agent {self.number}"},
                "organization": self.organization, "project": self.project,
                "offering": {"uuid": _uuid("offering", self.offering), "type": self.offering},
                "plan": {"tier": "pro"}, "variables": self.variables}
        if self.rag:
            body["capabilities"] = ["rag"]
            body["knowledge_base"] = {"embedding_model": "text-embedding-3-small", "chunk_size": 512,
                                      "chunk_overlap": 50}
        body.update(data)
        return self._event(kind, body, traceparent, time)

    def _short(self, kind, traceparent, time, **data):
        self._new_order()
        return self._event(kind, {"order_uuid": self.order, "subscription": {"uuid": self.uuid}, **data}, traceparent, time)

    def created(self, traceparent=None, time=None, **data):
        return self._whole("created", traceparent, time, data)

    def updated(self, traceparent=None, time=None, rag=None, variables=None, **data):
        """The whole state as it is now; rag, variables: what changes of it."""
        self.rag = self.rag if rag is None else rag
        self.variables = self.variables if variables is None else variables
        return self._whole("updated", traceparent, time, {"capabilities": ["rag"] if self.rag else [], **data})

    def suspended(self, traceparent=None, time=None):
        return self._short("suspended", traceparent, time, reason="payment overdue")

    def resumed(self, traceparent=None, time=None):
        return self._short("resumed", traceparent, time)

    def terminated(self, traceparent=None, time=None):
        return self._short("terminated", traceparent, time)


class Producer:
    def __init__(self, bootstrap, topic):
        self.topic = topic
        self.errors = []
        self.sent = {}  # (source, id): how often
        self._producer = KafkaProducer({"bootstrap.servers": bootstrap, "acks": "all", "enable.idempotence": True,
                                        "message.max.bytes": 12000000, "linger.ms": 5, "log_level": 2,
                                        "reconnect.backoff.max.ms": 1000})

    def _delivered(self, error, message):
        if error:
            self.errors.append(error)

    def raw(self, key, value, headers=None, partition=None, timestamp=None):
        more = {} if partition is None else {"partition": partition}
        while True:
            try:
                self._producer.produce(self.topic, value, key, headers=headers, on_delivery=self._delivered,
                                       **({"timestamp": timestamp} if timestamp else {}), **more)
                break
            except BufferError:
                self._producer.poll(0.1)
        self._producer.poll(0)

    def send(self, *events, binary=False, flush=True):
        for event in events:
            self.raw(*event.message(binary))
            identity = (event.document["source"], event.id)
            self.sent[identity] = self.sent.get(identity, 0) + 1
        if flush:
            self.flush()

    def flush(self, timeout=60):
        left = self._producer.flush(timeout)
        assert left == 0 and not self.errors, f"{left} messages not acknowledged, errors: {self.errors[:3]}"


class Reader:
    """Everything in one topic from its beginning on."""

    def __init__(self, bootstrap, topic):
        self.messages = []
        self._consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": f"reader-{uuids.uuid4()}",
                                   "auto.offset.reset": "earliest", "enable.auto.commit": False,
                                   "fetch.message.max.bytes": 12000000, "log_level": 2})
        self._consumer.subscribe([topic])

    def poll(self, timeout=0.2):
        """Reads what is there; returns all messages so far."""
        end = time.monotonic() + timeout
        while True:
            message = self._consumer.poll(0.1)
            if message is None:
                if time.monotonic() > end:
                    return self.messages
            elif message.error() is None:
                self.messages.append(message)
            elif message.error().code() != KafkaError._PARTITION_EOF and message.error().fatal():
                raise AssertionError(str(message.error()))

    def events(self):
        return [json.loads(m.value()) for m in self.poll()]

    def close(self):
        self._consumer.close()
