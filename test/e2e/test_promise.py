"""The checker of the promise finds every breach: what watches the others is watched itself."""

import copy
import unittest

from harness import Expected, MARKER, check_promise, main

ACTIVE, GONE, KEPT = "00000000-0000-4000-8000-00000000000a", "00000000-0000-4000-8000-00000000000b", \
    "00000000-0000-4000-8000-00000000000c"


class FakeDatabase:
    def __init__(self):
        self.configs = [
            {"subscription_uuid": ACTIVE, "status": "ready", "status_reason": None, "runtime_workspace_id": "w1",
             "knowledge_base_id": "c1", "api_key": "pk_live_1", "name": "a-name"},
            {"subscription_uuid": GONE, "status": "purged", "status_reason": None, "runtime_workspace_id": None,
             "knowledge_base_id": None, "api_key": None, "name": "b-name"},
            {"subscription_uuid": KEPT, "status": "archived", "status_reason": None, "runtime_workspace_id": "w3",
             "knowledge_base_id": None, "api_key": None, "name": "c-name"}]
        self.keys = [{"subscription_uuid": ACTIVE, "prefix": "pk_live_1", "revoked_at": None},
                     {"subscription_uuid": GONE, "prefix": "pk_live_2", "revoked_at": "then"}]
        self.jobs, self.effects, self.waiting = [], [], 0

    def rows(self, sql, *args):
        for table, rows in (("FROM agent_config", self.configs), ("FROM agent_api_key", self.keys),
                            ("FROM provisioning_job", self.jobs), ("FROM provisioning_effect", self.effects)):
            if table in sql:
                return rows
        raise AssertionError(sql)

    def value(self, sql, *args):
        return self.waiting


class FakeStandin:
    def __init__(self, *objects):
        self.all = [{"seq": i, "planted": marker == "theirs", "marker": None if marker == "theirs" else marker,
                     "changes": 0, "object": o} for i, (marker, o) in enumerate(objects)]

    def objects(self):
        return self.all


class Promise(unittest.TestCase):
    def setUp(self):
        self.db = FakeDatabase()
        theirs = {"id": "f1", "name": "theirs", "variables": {"x": 1}}
        self.langflow = FakeStandin((MARKER + ACTIVE, {"id": "w1", "name": "a-name",
                                                       "variables": {"ragflow_collection_id": "c1"}}),
                                    (MARKER + KEPT, {"id": "w3", "name": "c-name", "variables": {}}),
                                    ("theirs", theirs))
        self.ragflow = FakeStandin((MARKER + ACTIVE, {"id": "c1", "name": "a-name"}))
        self.foreign = ({"f1": copy.deepcopy(theirs)}, {})
        self.expected = {ACTIVE: Expected(True, name="a-name"), GONE: Expected(False), KEPT: Expected(False, kept=True)}

    def check(self):
        check_promise(self.db, self.langflow, self.ragflow, self.expected, self.foreign)

    def breach(self, words):
        with self.assertRaises(AssertionError) as caught:
            self.check()
        self.assertIn(words, str(caught.exception))

    def add(self, standin, uuid, **o):
        standin.all.append({"seq": 99, "planted": False, "marker": MARKER + uuid, "changes": 0, "object": o})

    def test_all_is_well(self):
        self.check()

    def test_too_many(self):
        self.add(self.langflow, ACTIVE, id="w9", name="a-name")
        self.breach("2 workspaces")

    def test_too_many_collections(self):
        self.add(self.ragflow, ACTIVE, id="c9", name="a-name")
        self.breach("2 collections")

    def test_none(self):
        del self.langflow.all[0]
        self.breach("0 workspaces")

    def test_other_ids(self):
        self.db.configs[0]["runtime_workspace_id"] = "w2"
        self.breach("w2 is recorded")

    def test_other_collection_id(self):
        self.db.configs[0]["knowledge_base_id"] = "c2"
        self.breach("c2 is recorded")

    def test_the_workspace_knows_another_collection(self):
        self.langflow.all[0]["object"]["variables"]["ragflow_collection_id"] = "c2"
        self.breach("knows collection c2")

    def test_another_name(self):
        self.langflow.all[0]["object"]["name"] = "a-name (1)"
        self.breach("the name is a-name (1)")

    def test_status(self):
        self.db.configs[0]["status"] = "provisioning"
        self.breach("status provisioning")

    def test_unwanted_collection(self):
        self.expected[ACTIVE] = Expected(True, rag=False)
        self.breach("1 collections")

    def test_keys(self):
        self.db.keys.append({"subscription_uuid": ACTIVE, "prefix": "pk_live_3", "revoked_at": None})
        self.breach("2 live keys")
        del self.db.keys[0]
        self.breach("live key pk_live_3")
        self.db.keys.clear()
        self.breach("0 live keys")

    def test_left_behind(self):
        self.add(self.langflow, GONE, id="w2", name="b-name")
        self.add(self.ragflow, GONE, id="c2", name="b-name")
        self.breach("1 workspaces left")
        self.breach("1 collections left")

    def test_a_live_key_of_a_terminated_one(self):
        self.db.keys[1]["revoked_at"] = None
        self.breach("a live key is left")

    def test_a_record_of_what_is_gone(self):
        self.db.configs[1]["runtime_workspace_id"] = "w2"
        self.breach("does not exist")

    def test_kept_is_recorded(self):
        del self.langflow.all[1]
        self.breach("w3 is recorded and does not exist")

    def test_nobody_asked(self):
        del self.expected[ACTIVE]
        self.breach("which nobody asked for")

    def test_without_our_marker(self):
        self.langflow.all[0]["marker"] = None
        self.breach("without our marker")

    def test_foreign(self):
        self.langflow.all[2]["object"]["variables"]["x"] = 2
        self.breach("was changed")
        del self.langflow.all[2]
        self.breach("foreign workspace f1 is gone")

    def test_unsettled(self):
        self.db.jobs = [{"id": 1, "subscription_uuid": ACTIVE, "kind": "provision", "state": "failed", "step": "name",
                         "error": "e"}]
        self.breach("provision failed at name")
        self.db.jobs = []
        self.db.effects = [{"id": 1, "subscription_uuid": ACTIVE, "state": "unknown", "product": "langflow",
                            "operation": "workspace.create"}]
        self.breach("is unknown")
        self.db.effects, self.db.waiting = [], 3
        self.breach("3 outcome events")


if __name__ == "__main__":
    main()
