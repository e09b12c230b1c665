"""Generates events, valid and broken, as text: what the two validators are shown.

Nothing here reads a schema, so that a mistake in one is not repeated in the other.
"""

import copy
import json
import random


class Raw:
    """A number as it is to be written: JSON has more spellings than Python's floats."""

    def __init__(self, text):
        self.text = text


NUMBERS = [
    "0", "-0", "1", "-1", "0.0", "1.0", "1.5", "0.5", "512", "512.0", "5.12e2", "1e3", "1E+3", "1e-3", "2047",
    "2047.0000001", "2048", "2048.0", "2049", "2.048e3", "-1e3", "4294967297", "9007199254740991",
    "9007199254740992", "9007199254740993", "-9007199254740991", "-9007199254740992", "1e300", "-1e300",
    "12345678901234567890", "0.1", "1e-320", "100e-2",
]
ODD_STRINGS = [
    "", " ", "0", "null", "1.0", "2.0", "free", "FREE", "Free", "pro", "shared", "dedicated", "é", "日本語",
    "😀", "a\u0301", "\u200b", "\ufeff", "\uffff", "a\tb", "a\nb", "\u007f", "\u2028", "%s%n", "../..", "a" * 10,
    "subscription.created", "subscription.terminated", "subscription.updated", "Subscription.created",
    "subscription.suspended", "subscription.resumed", "subscription.paused", "subscription.renamed",
    "application/json", "Application/JSON; charset=utf-8", "application/json;", "application/json ; x=é",
    "application/jsonx", "text/plain", "application/json\n", "application/vnd.x+json",
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "00-0-0-0",
    "2f1c9a526a0e4c558f1e5d2f0c9b7a01", "2F1C9A52-6A0E-4C55-8F1E-5D2F0C9B7A01",
    "2f1c9a52-6a0e-4c55-8f1e5d2f0c9b7a01", "2f1c9a52-6a0e-4c55-8f1e-5d2f0c9b7a0", "{2f1c9a526a0e4c558f1e5d2f0c9b7a01}",
    "2f1c9a526a0e4c558f1e5d2f0c9b7a0g", "2f1c9a526a0e4c558f1e5d2f0c9b7a01\n", "urn:uuid:2f1c9a52-6a0e-4c55-8f1e-5d2f0c9b7a01",
    "example.com", "*.example.com", "*", "*.", "*.*.com", "exa_mple.com", "-a.com", "a-.com", "a..b", ".a", "a.",
    "a.b\n", "EXAMPLE.com", "xn--bcher-kva.example", "bücher.example", "https://a.b", "a.b:80", "127.0.0.1", "a" * 63,
    "a" * 64, "a" * 63 + ".com", "*." + "a" * 64, ".".join(["a" * 63] * 4), ".".join(["a" * 63] * 4) + ".b",
    "*." + ".".join(["a" * 60] * 4), "*." + ".".join(["a" * 63] * 4),
    "1/second", "100/minute", "0/minute", "01/minute", "-1/hour", "999999999/day", "1000000000/day", "1/week",
    "1/minutes", "1 /minute", "1/Minute", "/minute", "1/", "1.5/hour", "1/minute\n", "٣/minute",
]
TIMES = [
    "2026-11-21T10:00:00Z", "2026-11-21t10:00:00z", "2026-11-21T10:00:00+00:00", "2026-11-21T10:00:00-00:00",
    "2026-11-21T10:00:00.1Z", "2026-11-21T10:00:00.123456Z", "2026-11-21T10:00:00.123456789Z",
    "2026-11-21T10:00:00.1234567891Z", "2026-11-21T10:00:00.Z", "2026-11-21T10:00:00,5Z", "2026-11-21 10:00:00Z",
    "2026-11-21T10:00Z", "2026-11-21T10:00:00", "2026-11-21", "2026-02-29T00:00:00Z", "2028-02-29T00:00:00Z",
    "2100-02-29T00:00:00Z", "2000-02-29T00:00:00Z", "2026-13-01T00:00:00Z", "2026-00-01T00:00:00Z",
    "2026-04-31T00:00:00Z", "2026-01-00T00:00:00Z", "2026-01-32T00:00:00Z", "2026-01-01T24:00:00Z",
    "2026-01-01T23:60:00Z", "2026-01-01T23:59:60Z", "2016-12-31T23:59:60Z", "2016-12-31T23:59:61Z",
    "2026-01-01T00:00:00+23:59", "2026-01-01T00:00:00-23:59", "2026-01-01T00:00:00+24:00",
    "2026-01-01T00:00:00+01:60", "2026-01-01T00:00:00+0100", "2026-01-01T00:00:00+01", "0000-01-01T00:00:00Z",
    "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59-01:00",
    "10000-01-01T00:00:00Z", "+2026-01-01T00:00:00Z", "2026-1-1T00:00:00Z", "2026-01-01T00:00:00Z\n",
    " 2026-01-01T00:00:00Z", "٢٠٢٦-01-01T00:00:00Z", "1969-12-31T23:59:59.5Z",
]
LENGTHS = [0, 1, 2, 39, 40, 41, 63, 64, 65, 127, 128, 129, 255, 256, 257, 511, 512, 513, 1024, 1025, 2048, 2049, 4097]
COUNTS = [0, 1, 31, 32, 33, 63, 64, 65, 255, 256, 257]
LETTERS = ["a", "Z", "7", "-", "_", "é", "日", "😀"]


def other_types():
    return [None, True, False, Raw("0"), Raw("1"), Raw("1.5"), "text", "", [], ["x"], [None], {}, {"uuid": "x"}]


def uuid(rng):
    text = "%032x" % rng.getrandbits(128)
    if rng.random() < 0.6:
        text = "-".join([text[:8], text[8:12], text[12:16], text[16:20], text[20:]])
    return text.upper() if rng.random() < 0.2 else text


def text(rng, low, high):
    return "".join(rng.choice(LETTERS) for _ in range(rng.choice([low, high, rng.randint(low, min(high, 30))])))


def some(rng, members, chance=0.6):
    """Those members that are to be there; a member is (name, value, required)."""
    return {name: value for name, value, required in members if required or rng.random() < chance}


def envelope(rng, kind, data, chance):
    return some(rng, [
        ("specversion", "1.0", True), ("id", text(rng, 1, 256), True), ("source", text(rng, 1, 512), True),
        ("type", kind, True), ("time", rng.choice(["2026-11-21T10:00:00Z", "2026-11-21T10:00:00.25+01:00", None]), False),
        ("subject", rng.choice([uuid(rng), None]), False),
        ("datacontenttype", rng.choice(["application/json", "application/json; charset=utf-8", None]), False),
        ("traceparent", rng.choice(["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "x", None]), False),
        ("data", data, True), ("extension", "ignored", False)], chance)


def party(rng, required=True, chance=0.6):
    return some(rng, [("uuid", uuid(rng), required), ("slug", rng.choice(["", "acme-corp", text(rng, 0, 255)]), required),
                      ("name", text(rng, 0, 255), False), ("unknown", {"deep": [1, None]}, False)], chance)


def subscription(rng, chance=0.6):
    return some(rng, [("uuid", uuid(rng), True), ("id", rng.choice(["", "1", "001", text(rng, 0, 40)]), False),
                      ("name", text(rng, 0, 255), False)], chance)


def variables(rng, chance):
    values = ["", text(rng, 0, 4097), True, False, None, Raw("1"), Raw("-1.25"), Raw("1e3"), Raw("9007199254740991")]
    names = ["agent_name", "tone", "é", "", text(rng, 1, 128)]
    return {name: rng.choice(values) for name in names if rng.random() < chance}


def created(rng, chance=0.6):
    key = some(rng, [
        ("permissions", [text(rng, 1, 64) for _ in range(rng.choice([0, 2, 32]))], False),
        ("allowed_domains", [rng.choice(["example.com", "*.example.com", "a"]) for _ in range(rng.choice([0, 2, 64]))], False),
        ("rate_limit", rng.choice(["100/minute", "1/day", "999999999/second"]), False),
        ("expires_at", rng.choice([None, "2027-01-01T00:00:00Z"]), False)], chance)
    base = some(rng, [("embedding_model", text(rng, 1, 255), False), ("chunk_size", Raw(rng.choice(["1", "512", "2048", "5e2", "512.0"])), False),
                      ("chunk_overlap", Raw(rng.choice(["0", "50", "2047", "0.0", "-0"])), False)], chance)
    offering = some(rng, [("uuid", uuid(rng), True), ("type", rng.choice(["csa", "A", "7", "a" * 40, "éa"]), True),
                          ("flow_id", text(rng, 1, 255), False)], chance)
    data = some(rng, [
        ("order_uuid", uuid(rng), True), ("subscription", subscription(rng, chance), True),
        ("organization", party(rng, True, chance), True), ("project", party(rng, True, chance), True), ("offering", offering, True),
        ("plan", {"tier": rng.choice(["free", "plus", "pro", "enterprise"])}, True),
        ("capabilities", [text(rng, 1, 64) for _ in range(rng.choice([0, 1, 32]))], False),
        ("variables", variables(rng, chance), False), ("knowledge_base", base, False), ("api_key", key, False),
        ("runtime", some(rng, [("mode", rng.choice(["shared", "dedicated"]), False)], chance), False),
        ("unknown", [{"uuid": 1}], False)], chance)
    return envelope(rng, "subscription.created", data, chance)


def updated(rng, chance=0.6):
    return {**created(rng, chance), "type": "subscription.updated"}


def short(rng, kind, chance, more=()):
    data = some(rng, [("order_uuid", uuid(rng), True), ("subscription", subscription(rng, chance), True),
                      ("organization", party(rng, False, chance), False), ("plan", 7, False), *more], chance)
    return envelope(rng, kind, data, chance)


def terminated(rng, chance=0.6):
    return short(rng, "subscription.terminated", chance)


def reason(rng):
    return [("reason", rng.choice([None, text(rng, 0, 1024)]), False)]


def suspended(rng, chance=0.6):
    return short(rng, "subscription.suspended", chance, reason(rng))


def resumed(rng, chance=0.6):
    return short(rng, "subscription.resumed", chance, reason(rng))


def outcome(rng, kind, chance=0.6):
    """ready, paused, failed, archived or purged."""
    data = some(rng, [
        ("subscription_uuid", uuid(rng), True), ("order_uuid", uuid(rng), True), ("name", text(rng, 1, 128), True),
        ("status", "suspended" if kind == "paused" else kind, True), ("runtime_name", text(rng, 1, 63), True), ("workspace_id", text(rng, 1, 255), True),
        ("knowledge_base_id", rng.choice([None, text(rng, 0, 255)]), False),
        ("api_key_prefix", rng.choice([None, text(rng, 0, 64)]), False),
        ("error_class", "conflict", kind == "failed"), ("error", text(rng, 1, 2048), kind == "failed"),
        ("step", text(rng, 1, 64), kind == "failed")], chance)
    event = envelope(rng, "subscription." + kind, data, chance)
    event["time"] = "2026-11-21T10:00:00Z"
    return event


def places(value, at=()):
    """Every place in a value, as a tuple of names and indices."""
    yield at
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, child in children:
        yield from places(child, at + (name,))


def lookup(value, at):
    for name in at:
        value = value[name]
    return value


def replaced(event, at, value):
    if not at:
        return value
    event = copy.deepcopy(event)
    lookup(event, at[:-1])[at[-1]] = value
    return event


def string_changes(value):
    for change in ODD_STRINGS + TIMES:
        yield change
    for n in LENGTHS:
        for letter in ("a", "😀"):
            yield letter * n
    yield value + "\n"
    yield "\n" + value
    yield " " + value
    yield value + " "
    yield value.upper()
    yield value.lower()
    yield value.replace("-", "")
    yield value[:-1]
    yield value[1:]
    yield value + value


def object_changes(value):
    for name in list(value):
        yield {k: v for k, v in value.items() if k != name}
        yield {(k.upper() if k == name else k): v for k, v in value.items()}
        yield {(k + " " if k == name else k): v for k, v in value.items()}
        if name.upper() not in value:
            yield {name.upper(): [], **value}
    for extra in ("unknown", "", "/~", "é" * 128, "é" * 129, "a" * 128, "a" * 129, "data", "$ref"):
        for v in ("x", Raw("1e300"), None, {"nested": [{"x": [[]]}]}, ["x"]):
            yield {**value, extra: value.get(extra, v)}
    for n in COUNTS:
        yield {**value, **{"v%d" % i: "x" for i in range(n - len(value))}}


def list_changes(value):
    sample = value[0] if value else "x"
    for n in COUNTS:
        yield [sample] * n
        yield ["a"] * n
    for n in LENGTHS:
        yield ["a" * n]
    for v in other_types():
        yield value + [v]
        yield [v] + value


def changes(value):
    """What one value may be turned into: other types first, then what is odd for its own."""
    yield from other_types()
    if isinstance(value, dict):
        yield from object_changes(value)
    elif isinstance(value, list):
        yield from list_changes(value)
    elif isinstance(value, str) or value is None:
        yield from string_changes(value or "text")
    for number in NUMBERS if not isinstance(value, (dict, list)) else NUMBERS[:2]:
        yield Raw(number)


def sweep(event):
    """Each change at each place, one at a time; of a list's elements, at the first."""
    for at in list(places(event)):
        if any(isinstance(step, int) and step > 0 for step in at):
            continue
        for change in changes(lookup(event, at)):
            yield replaced(event, at, change)
        if at:
            parent = copy.deepcopy(event)
            del lookup(parent, at[:-1])[at[-1]]
            yield parent


def long_variables(event):
    """Strings at the longest that is taken, and one more."""
    for letter in ("a", "😀"):
        for n in (65536, 65537):
            yield replaced(event, ("data", "variables", "v"), letter * n)


def shaken(rng, event):
    """None to three random changes."""
    for _ in range(rng.choice([0, 1, 1, 1, 2, 3])):
        at = rng.choice(list(places(event)))
        event = replaced(event, at, rng.choice(list(changes(lookup(event, at)))))
        if not isinstance(event, dict):
            break
    return event


def write_string(rng, s):
    if rng.random() < 0.2:
        return json.dumps(s)
    if rng.random() < 0.05:
        units = s.encode("utf-16-be")
        return '"%s"' % "".join("\\u%02X%02x" % (units[i], units[i + 1]) for i in range(0, len(units), 2))
    return json.dumps(s, ensure_ascii=False)


def write(rng, value):
    """JSON text with spaces and escapes at random."""
    gap = rng.choice(["", "", "", " ", "\r\n\t"])
    if isinstance(value, Raw):
        return value.text
    if isinstance(value, str):
        return write_string(rng, value)
    if isinstance(value, list):
        return "[" + gap + ("," + gap).join(write(rng, v) for v in value) + gap + "]"
    if isinstance(value, dict):
        members = (write_string(rng, k) + gap + ":" + gap + write(rng, v) for k, v in value.items())
        return "{" + gap + ("," + gap).join(members) + gap + "}"
    return json.dumps(value)
