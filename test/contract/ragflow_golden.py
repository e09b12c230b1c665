"""What a RAGFlow 0.27 (Python) answered, replayed in order against the stand-in.

ragflow-0.27.jsonl holds the requests and answers. Everything must be the same, but for what the server chooses: ids
are compared by what they stand for, times and keys by their form.
"""

import json
import os
import re
import unittest

from http_api import PrivateStandin, call

RECORDS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "ragflow-0.27.jsonl")
KEY = "ragflow-golden-replay-0000000000000000000000000000"

# Cases that cannot be replayed, with the reason. There are none.
NOT_REPLAYED = {}

# The records' keys are blanked, so whose key it was stands here; all others used the tenant's.
WITH_KEY = {"bad key": "unknown", "revoked key use": "minted"}

MILLISECONDS = re.compile(r"\d{13}")
DATE = re.compile(r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT")
CHOSEN = {
    "create_time": MILLISECONDS, "update_time": MILLISECONDS, "create_date": DATE, "update_date": DATE,
    "beta": re.compile(r"[\w-]{32}"), "token": re.compile(r"ragflow-.+"), "nickname": re.compile(r".+"),
}


def differences(wanted, got, where=""):
    """Every place where two answers differ, ids being the same already."""
    name = where.rsplit(".", 1)[-1]
    if isinstance(wanted, dict) and isinstance(got, dict):
        for member in sorted(wanted.keys() | got.keys()):
            if member not in got:
                yield f"{where}.{member} is missing"
            elif member not in wanted:
                yield f"{where}.{member} should not be there"
            else:
                yield from differences(wanted[member], got[member], f"{where}.{member}")
    elif isinstance(wanted, list) and isinstance(got, list):
        if len(wanted) != len(got):
            yield f"{where} has {len(got)} entries, not {len(wanted)}"
        for i, (one, other) in enumerate(zip(wanted, got)):
            yield from differences(one, other, f"{where}.{i}")
    elif name in CHOSEN and wanted is not None and got is not None:
        if type(wanted) is not type(got) or not CHOSEN[name].fullmatch(str(got)):
            yield f"{where}: {got!r} has not the form of {wanted!r}"
    elif wanted != got or isinstance(wanted, bool) != isinstance(got, bool):
        yield f"{where}: {got!r}, not {wanted!r}"


class Replay(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        with open(RECORDS) as f:
            cls.records = [json.loads(line) for line in f]
        cls.standin = PrivateStandin("ragflow", KEY, "0.27-python")
        cls.standin.admin("PUT", "/settings", {"version": "unknown"})  # the records are of a source run
        cls.tenant = cls.standin.admin("GET", "/tenants")["tenants"][0]["id"]

    @classmethod
    def tearDownClass(cls):
        cls.standin.close()

    def translate(self, text):
        """The records' ids to ours."""
        for theirs, ours in self.ids.items():
            text = text.replace(theirs, ours)
        return text

    def replay(self, record):
        request = record["request"]
        key = {"unknown": "ragflow-unknown", "minted": self.minted, None: KEY}[WITH_KEY.get(record["case"])]
        path = self.translate(request["path"]).replace("<KEY>", self.minted or "<KEY>")
        raw = request["raw"]
        if request["body"] is not None:
            raw = self.translate(json.dumps(request["body"]))
        return call(self.standin.url, request["method"], path, raw=raw, content_type=request["content_type"],
                    authorization="Bearer " + key if request["auth"] == "key" else None)

    def learn(self, record, answer):
        """Pairs the ids that both servers chose at the same place."""
        theirs, ours = (body.get("data") if isinstance(body, dict) else None
                        for body in (record["response"]["body"], answer.body))
        if record["case"].startswith("create") and isinstance(theirs, dict) and isinstance(ours, dict):
            self.ids[theirs["id"]] = ours["id"]
        if record["case"] == "mint key with api key":
            self.minted = ours["token"]

    def test_every_pair(self):
        minted = [r for r in self.records if r["case"] == "mint key with api key"]
        self.ids = {minted[0]["response"]["body"]["data"]["tenant_id"]: self.tenant}
        self.minted = None
        replayed = 0
        for record in self.records:
            if record["case"] in NOT_REPLAYED:
                continue
            with self.subTest(record["case"]):
                answer = self.replay(record)
                self.learn(record, answer)
                self.assertEqual(answer.status, record["response"]["http_status"], answer)
                wanted = json.loads(self.translate(json.dumps(record["response"]["body"])))
                self.assertEqual(list(differences(wanted, answer.body)), [])
            replayed += 1
        self.assertEqual(replayed + len(NOT_REPLAYED), len(self.records))
        self.assertGreaterEqual(len(self.records), 42)
        self.assertLessEqual(NOT_REPLAYED.keys(), {r["case"] for r in self.records})
        print(f"{replayed} recorded pairs replayed", flush=True)


class Comparison(unittest.TestCase):
    """That the comparison above can fail."""

    def test_it_sees_what_is_wrong(self):
        row = {"code": 0, "data": [{"a": 1, "create_time": 1795297143652, "b": None}]}
        for other in ({"code": 1, "data": row["data"]}, {"code": 0}, {**row, "message": "x"}, {**row, "data": []},
                      {**row, "data": [{"a": True, "create_time": 1795297143652, "b": None}]},
                      {**row, "data": [{"a": 1, "create_time": "soon", "b": None}]},
                      {**row, "data": [{"a": 1, "create_time": 1795297143652, "b": 0}]}):
            self.assertNotEqual(list(differences(row, other)), [], other)
        later = {"code": 0, "data": [{"a": 1, "create_time": 1795297150000, "b": None}]}
        self.assertEqual(list(differences(row, later)), [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
