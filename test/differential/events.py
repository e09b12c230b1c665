#!/usr/bin/python3
"""Shows the same inputs to the decoder and to python3-jsonschema: both must take or refuse each, and what is
taken must be decoded as this file says. usage: events.py EVENT_DECODE SCHEMAS_DIRECTORY

SEEDS: comma-separated, default 1; the first also sweeps every change over every place. COUNT: random events a seed.
"""

import base64
import datetime
import glob
import json
import os
import random
import re
import subprocess
import sys
import time

import jsonschema

import inputs

INCOMING = ("subscription.created", "subscription.updated", "subscription.suspended", "subscription.resumed",
            "subscription.terminated")
OUTCOMES = ("ready", "paused", "failed", "archived", "purged")
ASSERTIONS = ("type", "const", "enum", "required", "minItems", "maxItems", "minLength", "maxLength", "minimum",
              "maximum", "maxProperties", "pattern", "format")
SUFFIX = ".schema.json"


def ecma_pattern(validator, pattern, instance, schema):
    """ECMA's `$` is the very end; Python's also stands before a last newline."""
    if isinstance(instance, str) and not re.search(pattern.replace("$", r"\Z"), instance):
        yield jsonschema.ValidationError("%r does not match %r" % (instance, pattern))


def is_date_time(value):
    """RFC 3339, years 0001 to 9999; unlike the schemas' pattern it knows leap seconds and longer fractions."""
    if not isinstance(value, str):
        return True
    m = re.fullmatch(r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt]([0-9]{2}):([0-9]{2}):([0-9]{2})(\.[0-9]+)?"
                     r"([Zz]|[+-][0-9]{2}:[0-9]{2})", value)
    if not m:
        return False
    try:
        datetime.date(*map(int, m.group(1, 2, 3)))
    except ValueError:
        return False
    hour, minute, second = map(int, m.group(4, 5, 6))
    zone = m.group(8)
    return (hour < 24 and minute < 60 and (second < 60 or (second == 60 and minute == 59)) and
            (zone in "Zz" or (int(zone[1:3]) < 24 and int(zone[4:]) < 60)))


def microseconds(value):
    """Since 1970, cut; None for what is no date-time."""
    m = re.fullmatch(r"(.{19})(?:\.(\d+))?(Z|[+-].....)", value.upper())
    zone = 0 if m.group(3) == "Z" else int(m.group(3)[1:3]) * 60 + int(m.group(3)[4:])
    whole = datetime.datetime.strptime(m.group(1), "%Y-%m-%dT%H:%M:%S") - datetime.datetime(1970, 1, 1)
    seconds = whole.days * 86400 + whole.seconds - (-zone if m.group(3)[0] == "-" else zone) * 60
    return seconds * 1000000 + int((m.group(2) or "0").ljust(6, "0")[:6])


def load_schemas(directory):
    checker = jsonschema.FormatChecker(formats=())
    checker.checkers = {"date-time": (is_date_time, ())}
    kind = jsonschema.validators.extend(jsonschema.Draft202012Validator, {"pattern": ecma_pattern})
    schemas = {}
    for path in sorted(glob.glob(os.path.join(directory, "*" + SUFFIX))):
        with open(path, encoding="utf-8") as file:
            schema = json.load(file)
        kind.check_schema(schema)
        name = os.path.basename(path)[:-len(SUFFIX)]
        schemas[name] = kind(schema, format_checker=checker)
        for example in schema["examples"]:
            schemas[name].validate(example)
    return schemas


def same_definitions(schemas):
    """Each file stands alone; what they share must not drift apart."""
    seen = {}
    for name, validator in schemas.items():
        for key, value in validator.schema["$defs"].items():
            if seen.setdefault(key, value) != value:
                raise SystemExit("%s: $defs/%s differs from another file's" % (name, key))


def same_data(schemas):
    """An update tells what a creation tells: the two differ in their type and in words alone."""
    def bare(value):
        if isinstance(value, dict):
            return {k: bare(v) for k, v in value.items() if k not in ("title", "description", "examples")}
        return [bare(v) for v in value] if isinstance(value, list) else value
    created, updated = (bare(schemas[name].schema) for name in ("subscription.created", "subscription.updated"))
    if updated["properties"].pop("type") == created["properties"].pop("type") or updated != created:
        raise SystemExit("subscription.updated does not tell what subscription.created tells")


# ---- which keyword refused what ----


def resolve(schema, ref):
    return schema["$defs"][ref.rsplit("/", 1)[1]]


def keywords(schema, at=()):
    """The place of every assertion, `required` once for each name."""
    for key, value in schema.items():
        if key == "required":
            for name in value:
                yield at + (key, name)
        elif key in ASSERTIONS:
            yield at + (key,)
        elif key in ("properties", "$defs"):
            for name, sub in value.items():
                yield from keywords(sub, at + (key, name))
        elif key in ("items", "additionalProperties", "propertyNames"):
            yield from keywords(value, at + (key,))


def keyword_of(schema, error):
    """An error's keyword by its place in the document; jsonschema leaves `$ref` out of the path."""
    path = list(error.absolute_schema_path)
    at, here = (), schema
    for i, step in enumerate(path):
        last = i + 1 == len(path)
        while step not in here or (last and here != error.schema):
            at, here = ("$defs", here["$ref"].rsplit("/", 1)[1]), resolve(schema, here["$ref"])
        at, here = at + (step,), here[step]
    return at + (error.message.split("'")[1],) if at[-1] == "required" else at


# ---- what a taken event must be decoded into ----


def canonical(value):
    digits = value.replace("-", "").lower()
    return "-".join([digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]])


def normalised(root, schema, value):
    if "$ref" in schema:
        if schema["$ref"] == "#/$defs/uuid":
            return canonical(value)
        return normalised(root, resolve(root, schema["$ref"]), value)
    if isinstance(value, dict) and "properties" in schema:
        known = schema["properties"]
        return {k: normalised(root, known[k], v) for k, v in value.items() if k in known}
    if isinstance(value, list) and "items" in schema:
        return [normalised(root, schema["items"], v) for v in value]
    return value


def expected(schema, event):
    data = normalised(schema, schema["properties"]["data"], event["data"])
    trace = event.get("traceparent") or ""
    return {
        "ok": True, "type": event["type"], "id": event["id"], "source": event["source"],
        "time_us": microseconds(event["time"]) if event.get("time") else 0,
        "traceparent": trace if re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", trace) else "",
        "order_uuid": data["order_uuid"], "subscription_uuid": data["subscription"]["uuid"],
        "organization_uuid": data.get("organization", {}).get("uuid", ""), "data": data}


# ---- the comparison ----


def b64(data):
    return base64.b64encode(data.encode("utf-8")).decode("ascii")


def binary_message(rng, event, data_text):
    """The event in binary mode, or None where headers can't say it."""
    if not isinstance(event, dict) or "specversion" not in event or data_text is None:
        return None
    headers = []
    for name, value in event.items():
        if name == "data":
            continue
        if not (value is None or isinstance(value, str)) or not re.fullmatch("[a-z0-9]+", name):
            return None
        key = "content-type" if name == "datacontenttype" else "ce_" + name
        if key == "content-type" and value and value.lower().startswith("application/cloudevents"):
            return None
        if rng.random() < 0.2:
            key = key.title()
        headers.append([key, None if value is None else b64(value)])
    rng.shuffle(headers)
    return {"body": b64(data_text), "headers": headers}


class Comparison:
    def __init__(self, program, schemas):
        self.program = program
        self.schemas = schemas
        self.lines = []
        self.wanted = []  # for each line: (expected decoding or True, or None for refused; the input's text)
        self.taken = 0
        self.alone = {name: set() for name in schemas}

    def verdict(self, name, event):
        """True when the schema takes it. Notes a keyword that alone refuses."""
        errors = list(self.schemas[name].iter_errors(event))
        if len(errors) == 1:
            self.alone[name].add(keyword_of(self.schemas[name].schema, errors[0]))
        return not errors

    def add(self, rng, value):
        """One input of the decoder, in structured mode and, where it can be said, in binary mode."""
        text = inputs.write(rng, value)
        event = json.loads(text)
        kind = event.get("type") if isinstance(event, dict) else None
        known = isinstance(kind, str) and kind in INCOMING
        ok = [self.verdict(name, event) for name in ([kind] if known else INCOMING)]
        want = expected(self.schemas[kind].schema, event) if known and ok[0] else None
        if any(ok) and want is None:
            raise SystemExit("a schema takes an event whose type is not its own: " + text)
        headers = rng.choice([[], [["content-type", b64("application/cloudevents+json; charset=UTF-8")]],
                              [["Content-Type", b64("Application/CloudEvents+JSON")], ["ce_id", b64("other")]]])
        self.put({"body": b64(text), "headers": headers}, want, text)
        data_text = inputs.write(rng, value["data"]) if isinstance(value, dict) and "data" in value else None
        message = binary_message(rng, event, data_text)
        if message:
            self.put(message, want, "(binary) " + text)

    def add_outcome(self, rng, name, value):
        text = inputs.write(rng, value)
        ok = self.verdict(name, json.loads(text))
        self.put({"schema": name + SUFFIX, "body": b64(text)}, {"ok": True} if ok else None, name + ": " + text)

    def put(self, message, want, text):
        self.lines.append(json.dumps(message))
        self.wanted.append((want, text))
        self.taken += want is not None

    def run(self):
        """The inputs on which the two differ, as lines of text."""
        done = subprocess.run([self.program], input="\n".join(self.lines) + "\n", stdout=subprocess.PIPE,
                              encoding="utf-8", check=False)
        answers = done.stdout.split("\n")[:-1]
        if done.returncode != 0 or len(answers) != len(self.lines):
            raise SystemExit("the decoder ended with status %d after %d of %d inputs; the next was %s" %
                             (done.returncode, len(answers), len(self.lines),
                              self.wanted[min(len(answers), len(self.lines) - 1)][1][:2000]))
        for (want, text), answer in zip(self.wanted, answers):
            got = json.loads(answer)
            if want is None:
                if got["ok"] or not got["reason"]:
                    yield "refused by the schema, taken by the decoder: " + text
            elif got != want:
                yield "wanted %s\n     got %s\n     for %s" % (json.dumps(want), answer, text)


def fill_sweep(comparison, rng):
    """Each change at each place of a full event."""
    for make in (inputs.created, inputs.suspended, inputs.resumed, inputs.terminated):
        for event in inputs.sweep(make(rng, chance=1.1)):
            comparison.add(rng, event)
    for make in (inputs.created, inputs.updated):
        for event in inputs.long_variables(make(rng, chance=1.1)):
            comparison.add(rng, event)
    for kind in OUTCOMES:
        for event in inputs.sweep(inputs.outcome(rng, kind, chance=1.1)):
            comparison.add_outcome(rng, "subscription." + kind, event)


def fill_random(comparison, rng, count):
    for _ in range(count):
        make = rng.choice((inputs.created, inputs.created, inputs.updated, inputs.suspended, inputs.resumed,
                           inputs.terminated))
        comparison.add(rng, inputs.shaken(rng, make(rng)))


def untested(comparison):
    """Keywords that refused nothing alone: the comparison would not have noticed their loss. An update's are those
    of a creation (same_data)."""
    for name, validator in comparison.schemas.items():
        if name == "subscription.updated":
            continue
        for at in keywords(validator.schema):
            if at not in comparison.alone[name]:
                yield "%s: no input is refused by %s alone" % (name, "/".join(at))


def main():
    program, directory = sys.argv[1:]
    seeds = [int(s) for s in os.environ.get("SEEDS", "1").split(",")]
    count = int(os.environ.get("COUNT", "1000"))
    schemas = load_schemas(directory)
    same_definitions(schemas)
    same_data(schemas)
    failed = False
    for i, seed in enumerate(seeds):
        started = time.monotonic()
        comparison = Comparison(program, schemas)
        rng = random.Random(seed)
        if i == 0:
            fill_sweep(comparison, rng)
        fill_random(comparison, rng, count)
        differences = list(comparison.run())
        gaps = list(untested(comparison)) if i == 0 else []
        for line in differences[:20] + gaps:
            print("  " + line[:4000])
        print("seed %d: %d inputs, %d taken, %d differences, %d keywords untested, %.1f s" %
              (seed, len(comparison.lines), comparison.taken, len(differences), len(gaps),
               time.monotonic() - started))
        failed = failed or bool(differences or gaps)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
