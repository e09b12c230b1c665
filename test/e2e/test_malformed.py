"""What can't be decoded ends in the dead-letter topic and table, and the good event behind it is handled."""

import copy
import json

from harness import Case, Expected, Subscription, eventually, main, say

CLOUDEVENT = [("content-type", b"application/cloudevents+json"), ("x-kept", b"\x00\xffbytes")]


def changed(event, path, *value):
    """The event's document with one member set, or without it."""
    document = copy.deepcopy(event.document)
    *parents, last = path.strip("/").split("/")
    at = document
    for name in parents:
        at = at[name]
    if value:
        at[last] = value[0]
    else:
        del at[last]
    return json.dumps(document).encode()


def kinds(sub):
    """(what, value, what pointer and reason together must name)"""
    event = sub.created()
    good = event.body()
    slug = b'"slug": "' + sub.organization["slug"].encode() + b'"'
    assert slug in good
    nested = b"[" * 10000 + b"]" * 10000
    yield "empty", b"", ""
    yield "a tombstone", None, ""
    yield "not JSON", b"this is not JSON", ""
    yield "half of it", good[:len(good) // 2], ""
    yield "something behind it", good + b"{}", ""
    yield "not UTF-8", good.replace(slug, b'"slug": "acme\xff\xfe"'), "/data/organization/slug"
    yield "a NUL as an escape", good.replace(slug, b'"slug": "ac\\u0000me"'), "/data/organization/slug"
    yield "a NUL byte", good.replace(slug, b'"slug": "ac\x00me"'), "/data/organization/slug"
    yield "a lone surrogate", good.replace(slug, b'"slug": "\\ud800"'), "/data/organization/slug"
    yield "a member twice", good.replace(slug, slug + b", " + slug), "/data/organization/slug"
    yield "5 MB", good[:-1] + b', "padding": "' + b"x" * (5 * 1024 * 1024) + b'"}', ""
    yield "10,000 deep", changed(event, "/data/variables", 0).replace(b'"variables": 0', b'"variables": ' + nested), \
        "/data/variables"
    yield "an array", b"[]", ""
    yield "a string", b'"text"', ""
    yield "an unknown type", changed(event, "/type", "subscription.exploded"), "/type"
    yield "a type that is a number", changed(event, "/type", 7), "/type"
    yield "another specversion", changed(event, "/specversion", "0.3"), "/specversion"
    yield "an empty id", changed(event, "/id", ""), "/id"
    yield "a time that is none", changed(event, "/time", "2026-02-30T10:00:00Z"), "/time"
    yield "data that is a string", changed(event, "/data", "text"), "/data"
    for path, value in (("/data/order_uuid", "not-a-uuid"), ("/data/subscription/uuid", 7),
                        ("/data/organization", []), ("/data/organization/uuid", "2f1c9a52"),
                        ("/data/project/slug", {}), ("/data/offering/type", 1), ("/data/plan/tier", "platinum"),
                        ("/data/capabilities", "rag"), ("/data/variables", ["x"]),
                        ("/data/knowledge_base/chunk_size", "512"), ("/data/knowledge_base/chunk_size", -1),
                        ("/data/api_key", {"rate_limit": "many"}), ("/data/runtime", {"mode": "quantum"})):
        named = {"/data/api_key": "/data/api_key/rate_limit", "/data/runtime": "/data/runtime/mode"}.get(path, path)
        yield f"{path} = {value!r}", changed(event, path, value), named
    for path in ("/id", "/source", "/type", "/specversion", "/data", "/data/order_uuid", "/data/subscription",
                 "/data/subscription/uuid", "/data/organization", "/data/organization/uuid",
                 "/data/organization/slug", "/data/project", "/data/project/uuid", "/data/project/slug",
                 "/data/offering", "/data/offering/uuid", "/data/offering/type", "/data/plan", "/data/plan/tier"):
        yield f"without {path}", changed(event, path), path.rsplit("/", 1)[1]


class Malformed(Case):
    partitions = 1

    def headers(self, message):
        return dict(message.headers() or [])

    def check_letter(self, stage, what, key, value, named, offset, row, message):
        text = row["pointer"] + " " + row["reason"]
        self.assertTrue(row["reason"], what)
        self.assertIn(named, text, what)
        self.assertLess(len(row["reason"]), 600)
        self.assertEqual((row["kafka_topic"], row["kafka_partition"], row["state"]),
                         (stage.topics["events"], 0, "new"))
        self.assertIsNotNone(row["published_at"], what)
        self.assertEqual(row["value_bytes"], len(value or b""), what)
        if value is not None and len(value) <= 1024 * 1024:
            self.assertEqual(bytes(row["value"]), value, what)
        self.assertEqual(message.value() or b"", value or b"", what)
        self.assertEqual(message.key(), key)
        self.assertEqual(message.timestamp()[1], 1700000000000 + offset, "the original timestamp is kept")
        headers = self.headers(message)
        self.assertEqual(headers["x-kept"], b"\x00\xffbytes")
        self.assertEqual(headers["__connect.errors.topic"].decode(), stage.topics["events"])
        self.assertEqual(headers["__connect.errors.partition"].decode(), "0")
        self.assertEqual(headers["__connect.errors.offset"].decode(), str(row["kafka_offset"]))
        self.assertTrue(headers["__connect.errors.exception.class.name"])
        self.assertIn(named, headers["__connect.errors.exception.message"].decode())

    def test_every_kind(self):
        stage = self.stage()
        letters = stage.reader("dead_letters")
        sent, expected = [], {}
        for number, (what, value, named) in enumerate(kinds(Subscription("bad", 0))):
            key = f"key-{number}".encode()
            stage.producer.raw(key, value, CLOUDEVENT, timestamp=1700000000000 + number)
            sent.append((what, key, value, named))
            good = Subscription("good", number)
            stage.producer.send(good.created(), flush=False)
            expected[good.uuid] = Expected(True, name=good.name)
        stage.producer.flush()
        say(f"{len(sent)} malformed events, a good one behind each")
        stage.promise(expected, timeout=120)
        rows = eventually(lambda: self.all_published(stage, len(sent)), 60, "all dead letters are published",
                          describe=stage.describe)
        eventually(lambda: len(letters.poll()) >= len(sent), 60, "all dead letters are in the topic")
        self.assertEqual((len(rows), len(letters.messages)), (len(sent), len(sent)))
        by_key = {m.key(): m for m in letters.messages}
        for number, ((what, key, value, named), row) in enumerate(zip(sent, rows)):
            with self.subTest(what):
                self.assertEqual(bytes(row["key"]), key)
                self.check_letter(stage, what, key, value, named, number, row, by_key[key])
        self.check_survives_a_restart(stage, len(sent), expected)

    def all_published(self, stage, n):
        rows = stage.db.rows("SELECT * FROM dead_letter ORDER BY kafka_partition, kafka_offset")
        return rows if len(rows) >= n and all(r["published_at"] for r in rows) else None

    def check_survives_a_restart(self, stage, n, expected):
        say("killed and started again: nothing is taken in twice")
        worker = stage.workers[0]
        worker.kill()
        worker.start()
        more = Subscription("after", 1)
        stage.producer.send(more.created())
        stage.promise({**expected, more.uuid: Expected(True)}, timeout=120)
        self.assertEqual(stage.db.value("SELECT count(*) FROM dead_letter"), n)

    def test_binary_mode(self):
        stage = self.stage()
        sub, good = Subscription("binary", 1), Subscription("binary", 2)
        key, value, headers = sub.created().message(binary=True)
        headers = dict(headers)
        bad = [({**headers, "ce_type": b"subscription.exploded"}, value, "/type"),
               ({k: v for k, v in headers.items() if k != "ce_id"}, value, "id"),
               ({**headers, "ce_time": b"yesterday"}, value, "/time"),
               ({**headers, "ce_source": b"\xff"}, value, "/source"),
               ({**headers, "content-type": b"text/plain"}, value, ""),
               (headers, b"{}", "order_uuid"),
               (headers, b"nothing", "/data")]
        for header, body, _ in bad:
            stage.producer.raw(key, body, list(header.items()))
        stage.producer.send(good.created(), binary=True)
        stage.promise({good.uuid: Expected(True)})
        rows = eventually(lambda: self.all_published(stage, len(bad)), 60, "all dead letters are published")
        for row, (_, _, named) in zip(rows, bad):
            self.assertIn(named, row["pointer"] + " " + row["reason"])

    def test_listed_and_discarded(self):
        stage = self.stage()
        stage.producer.raw(b"k", b"nonsense", CLOUDEVENT)
        stage.producer.flush()
        eventually(lambda: self.all_published(stage, 1), 60, "the dead letter is kept", describe=stage.describe)
        listed = json.loads(stage.installation.command("dead-letters", "list", "--json"))
        self.assertEqual(len(listed), 1)
        id = str(listed[0]["id"])
        self.assertIn("nonsense", stage.installation.command("dead-letters", "show", id))
        stage.installation.command("dead-letters", "discard", id)
        self.assertEqual(stage.db.value("SELECT state FROM dead_letter"), "discarded")


if __name__ == "__main__":
    main()
