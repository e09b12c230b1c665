"""The checker of the promise finds every breach: what watches the others is watched itself."""

import copy
import functools
import os
import secrets
import unittest

from harness import (Expected, LANGFLOW_PROFILES, Langflow, MARKER, MODELS, Native, RAGFLOW_PROFILES, Ragflow, Setup,
                     check_promise, eventually, flow_data, flow_uuid, main, seal)

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
        self.runtime_keys, self.jobs, self.effects, self.waiting = [], [], [], 0

    def rows(self, sql, *args):
        for table, rows in (("FROM agent_config", self.configs), ("FROM agent_api_key", self.keys),
                            ("FROM agent_runtime_key", self.runtime_keys), ("FROM provisioning_job", self.jobs),
                            ("FROM provisioning_effect", self.effects)):
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

    def suspend(self):
        self.expected[ACTIVE] = Expected(True, name="a-name", suspended=True)
        self.db.configs[0]["status"] = "suspended"
        self.langflow.all[0]["object"]["variables"] = {"waldur_status": "closed", "ragflow_collection_id": ""}

    def test_suspended(self):
        self.suspend()
        self.check()
        for variables in ({"waldur_status": "active"}, {"waldur_status": "closed", "ragflow_collection_id": "c1"}):
            self.langflow.all[0]["object"]["variables"] = variables
            self.breach("is not closed")
        self.db.configs[0]["status"] = "ready"
        self.breach("status ready")

    def test_suspended_and_lost(self):
        for here, words in ((self.langflow, "workspaces [] exist"), (self.ragflow, "collections [] exist")):
            self.suspend()
            gone = here.all.pop(0)
            self.breach(words)
            here.all.insert(0, gone)
        self.add(self.langflow, ACTIVE, id="w9", name="a-name")
        self.breach("w9")
        self.db.keys[0]["revoked_at"] = "then"
        self.breach("live keys []")

    def test_suspended_before_it_came_to_be(self):
        for standin in (self.langflow, self.ragflow):
            del standin.all[0]
        del self.db.configs[0], self.db.keys[0]
        self.expected[ACTIVE] = Expected(True, known=False, suspended=True)
        self.check()
        self.add(self.langflow, ACTIVE, id="w1", name="a-name")
        self.breach("no agent_config row, 1 workspaces")

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

class NativeWorld:
    """Products in which a test does by hand what drivers do, and the records that lead there."""

    def __init__(self, case, langflow=None, ragflow=None, tenancy="shared"):
        self.tenancy = tenancy
        self.db = FakeDatabase()
        self.db.configs, self.db.keys = [], []
        self.langflow = Langflow("token-" + secrets.token_hex(8), langflow)
        self.ragflow = Ragflow("token-" + secrets.token_hex(8), ragflow)
        case.addCleanup(self.langflow.close)
        case.addCleanup(self.ragflow.close)
        self.langflow.settings(login_limit=0, new_user_is_active=True)
        self.template = flow_data("the template")
        self.langflow.template("customer-support-agent-v1", self.template)
        self.master = os.urandom(32)
        self.foreign = (self.langflow.plant_foreign(2), self.ragflow.plant_foreign(2))
        self.setup = Setup(self.langflow, self.ragflow, self.master, {"csa": self.template}, MODELS, tenancy)
        self.passwords, self.expected = {}, {}

    def row(self, uuid, name):
        config = {"subscription_uuid": uuid, "status": "ready", "status_reason": None, "name": name,
                  "offering_type": "csa", "variables": {"agent_name": name}, "runtime_workspace_id": None,
                  "runtime_flow_id": None, "runtime_run_url": None, "knowledge_base_id": None,
                  "knowledge_base_tenant": None, "api_key": "pk_" + uuid[-4:], "organization_uuid": "o1"}
        self.db.configs.append(config)
        self.db.keys.append({"subscription_uuid": uuid, "prefix": config["api_key"], "revoked_at": None})
        return config

    def keep(self, uuid, product, key):
        self.db.runtime_keys.append({"subscription_uuid": uuid, "product": product,
                                     "sealed": seal(self.master, uuid, product, key, os.urandom(24))})

    def dataset(self, uuid, name, key=None):
        """As it is right on both servers."""
        made = self.ragflow.do("POST", "/datasets", {"name": name, "description": MARKER + uuid,
                               "embedding_model": MODELS["text-embedding-3-small"],
                               "parser_config": {"chunk_token_num": 512}}, key=key)
        config = {"chunk_token_num": 512, "ext": {"overlapped_percent": 10}}
        if self.ragflow.profile == "0.27-go":
            config = {"chunk_token_num": 512, "overlapped_percent": 10, "raptor": {"use_raptor": False},
                      "graphrag": {"use_graphrag": False}}
        self.ragflow.do("PUT", f"/datasets/{made['id']}", {"description": MARKER + uuid, "parser_config": config},
                        key=key)
        return made

    def variable(self, uuid, name, value, kind="Generic"):
        return self.langflow.do("POST", "/variables/", {"name": name, "value": value, "type": kind,
                                "default_fields": []}, token=self.tenant(uuid))

    def tenant(self, uuid):
        """A token of its user's."""
        return self.langflow.login(*self.passwords[uuid])

    def provision(self, uuid, name, tenant=None):
        """tenant: what RAGFlow's tenant of its own has, {"id", "key"}; by itself the platform's."""
        config = self.row(uuid, name)
        dataset = self.dataset(uuid, name, tenant and tenant["key"])
        config.update(knowledge_base_id=dataset["id"], knowledge_base_tenant=dataset["tenant_id"])
        made = self.langflow.do("POST", "/users/", {"username": name, "password": "p" * 20,
                                                    "optins": {"waldur_subscription": MARKER + uuid}})
        self.passwords[uuid] = name, "p" * 20
        token = self.tenant(uuid)
        key = self.langflow.do("POST", "/api_key/", {"name": "provisioner"}, token=token)["api_key"]
        self.keep(uuid, "langflow", key)
        flow = self.langflow.do("PUT", "/flows/" + flow_uuid(uuid), {"name": name, "data": self.template}, token=token)
        self.variable(uuid, "agent_name", name)
        self.variable(uuid, "ragflow_collection_id", dataset["id"])
        self.variable(uuid, "ragflow_url", self.ragflow.url)
        if tenant:
            self.keep(uuid, "ragflow", tenant["key"])
        if self.setup.gives_key:
            self.variable(uuid, "ragflow_api_key", tenant["key"], "Credential")
        config.update(runtime_workspace_id=made["id"], runtime_flow_id=flow["id"],
                      runtime_run_url=f"{self.langflow.url}/api/v1/run/{flow['id']}")
        self.expected[uuid] = Expected(True, name=name)
        return config

    def close(self, uuid, kept, tenant=None):
        """Terminated: closed until its retention ends, or gone."""
        config, = (c for c in self.db.configs if c["subscription_uuid"] == uuid)
        entry, token = self.langflow.account(uuid), self.tenant(uuid)
        self.ragflow.do("DELETE", "/datasets", {"ids": [config["knowledge_base_id"]]}, key=tenant and tenant["key"])
        for k in self.db.keys:
            k["revoked_at"] = "then" if k["subscription_uuid"] == uuid else k["revoked_at"]
        self.db.runtime_keys = [k for k in self.db.runtime_keys if k["subscription_uuid"] != uuid]
        for key in entry["keys"]:
            self.langflow.do("DELETE", "/api_key/" + key["id"], token=token)
        for v in entry["variables"]:
            if v["name"].startswith("ragflow_"):
                self.langflow.do("DELETE", "/variables/" + v["id"], token=token)
        path = "/users/" + config["runtime_workspace_id"]
        optins = {"waldur_subscription": MARKER + uuid, "waldur_status": "closed"}
        self.langflow.do("PATCH", path, {"is_active": False, "optins": optins})
        config.update(knowledge_base_id=None, knowledge_base_tenant=None, api_key=None,
                      status="archived" if kept else "purged")
        if not kept:
            self.langflow.do("DELETE", path)
            eventually(lambda: config["name"] not in self.langflow.users_there(), 10, "the user is erased")
            config.update(runtime_workspace_id=None, runtime_flow_id=None, runtime_run_url=None)
        self.expected[uuid] = Expected(False, kept=kept)

    def check(self):
        check_promise(self.db, self.langflow, self.ragflow, self.expected, self.foreign,
                      functools.partial(Native, self.setup))


class NativePromise(unittest.TestCase):
    def make(self, *profiles, **more):
        self.world = NativeWorld(self, *profiles, **more)
        self.langflow, self.ragflow, self.db = self.world.langflow, self.world.ragflow, self.world.db
        return self.world

    def setUp(self):
        world = self.make("1.13")
        self.config = world.provision(ACTIVE, "a-name")
        world.provision(GONE, "b-name")
        world.close(GONE, kept=False)
        self.kept = world.provision(KEPT, "c-name")
        world.close(KEPT, kept=True)
        self.user = "/users/" + self.config["runtime_workspace_id"]
        self.dataset = "/datasets/" + self.config["knowledge_base_id"]

    def breach(self, *words):
        with self.assertRaises(AssertionError) as caught:
            self.world.check()
        for one in words:
            self.assertIn(one, str(caught.exception))

    def tenant(self, method, path, body=None):
        return self.langflow.do(method, path, body, token=self.world.tenant(ACTIVE))

    def optins(self, **optins):
        self.langflow.do("PATCH", self.user, {"optins": {"waldur_subscription": MARKER + ACTIVE, **optins}})

    def reopen(self):
        """Who sees the kept one's account as its tenant must wake it up."""
        path = "/users/" + self.kept["runtime_workspace_id"]
        self.langflow.do("PATCH", path, {"is_active": True})
        token = self.world.tenant(KEPT)
        return path, token

    def test_all_is_well(self):
        self.world.check()

    def test_all_is_well_in_every_version(self):
        for langflow, ragflow in [*((p, None) for p in LANGFLOW_PROFILES), *((None, p) for p in RAGFLOW_PROFILES)]:
            with self.subTest(langflow=langflow, ragflow=ragflow):
                world = self.make(langflow, ragflow)
                world.provision(ACTIVE, "a-name")
                for uuid, kept in ((KEPT, True), (GONE, False)):
                    world.provision(uuid, "n-" + uuid[-1])
                    world.close(uuid, kept)
                world.check()

    # ---- users ----

    def test_two_users(self):
        self.langflow.do("POST", "/users/", {"username": "a-name-2", "password": "p",
                                             "optins": {"waldur_subscription": MARKER + ACTIVE}})
        self.breach("2 workspaces", "the name is a-name-2")

    def test_a_user_without_a_marker(self):
        made = self.langflow.do("POST", "/users/", {"username": "nobody", "password": "p"})
        self.breach(f"user {made['id']} was created without our marker")

    def test_a_user_of_nobody(self):
        uuid = ACTIVE[:-1] + "f"
        self.langflow.do("POST", "/users/", {"username": "x", "password": "p",
                                             "optins": {"waldur_subscription": MARKER + uuid}})
        self.breach(f"workspaces of {uuid}, which nobody asked for")

    def test_no_user(self):
        self.langflow.do("DELETE", self.user)
        eventually(lambda: "a-name" not in self.langflow.users_there(), 10, "the user is erased")
        self.breach("0 workspaces", f"active {ACTIVE}")

    def test_a_user_that_is_shut(self):
        self.langflow.do("PATCH", self.user, {"is_active": False})
        self.breach("the user is not active")

    def test_optins(self):
        self.optins(waldur_status="closed")
        self.breach("the user's optins are")

    def test_a_recorded_user_that_lost_its_marker(self):
        self.langflow.do("PATCH", self.user, {"optins": {"x": 1}})
        self.breach("the user's optins are {'x': 1}")

    def test_a_superuser(self):
        self.langflow.do("PATCH", self.user, {"is_superuser": True})
        self.breach("the user is a superuser")

    def test_another_name(self):
        self.langflow.do("PATCH", self.user, {"username": "a-name-9"})
        self.breach("the name is a-name-9")

    def test_a_project_more(self):
        self.tenant("POST", "/projects/", {"name": "more"})
        self.breach("2 projects")

    # ---- flows ----

    def test_a_flow_more(self):
        made = self.tenant("POST", "/flows/", {"name": "more"})
        self.breach(f"flows ['{flow_uuid(ACTIVE)}', '{made['id']}']")

    def test_the_tenants_own(self):
        flow = self.tenant("POST", "/flows/", {"name": "more"})["id"]
        self.tenant("PUT", "/flows/" + flow_uuid(ACTIVE), {"name": "a-name", "data": flow_data("edited")})
        self.tenant("POST", "/api_key/", {"name": "mine"})
        self.world.variable(ACTIVE, "mine", "value")
        self.world.expected[ACTIVE] = Expected(True, flow=flow_data("edited"), own_flows=[flow], own_keys=["mine"],
                                               own_variables=["mine"])
        self.world.check()

    def test_no_flow(self):
        self.tenant("DELETE", "/flows/" + flow_uuid(ACTIVE))
        self.breach(f"flows [] in place of {flow_uuid(ACTIVE)}")

    def test_another_flow(self):
        self.tenant("PUT", "/flows/" + flow_uuid(ACTIVE), {"name": "a-name", "data": flow_data("other")})
        self.breach("the flow is", "other")

    def test_a_public_flow(self):
        self.tenant("PATCH", "/flows/" + flow_uuid(ACTIVE), {"access_type": "PUBLIC"})
        self.breach("the flow is PUBLIC")

    def test_records_of_the_flow(self):
        self.config["runtime_run_url"] += "x"
        self.breach("the run URL is")
        self.config["runtime_flow_id"] = flow_uuid(GONE)
        self.breach(f"flow {flow_uuid(GONE)} is recorded")

    # ---- keys ----

    def test_a_key_more(self):
        self.tenant("POST", "/api_key/", {"name": "provisioner"})
        self.breach("API keys ['provisioner', 'provisioner']")

    def test_a_key_of_another_name(self):
        self.tenant("POST", "/api_key/", {"name": "MCP"})
        self.breach("API keys ['provisioner', 'MCP']")

    def test_another_key(self):
        key, = self.langflow.account(ACTIVE)["keys"]
        self.tenant("DELETE", "/api_key/" + key["id"])
        self.tenant("POST", "/api_key/", {"name": "provisioner"})
        self.breach("another API key is kept than there is")

    def test_no_kept_key(self):
        self.db.runtime_keys.clear()
        self.breach("no API key is kept")

    def test_a_sealed_key_of_somebody_else(self):
        self.db.runtime_keys[0]["subscription_uuid"] = GONE
        self.breach("does not open with the master key")

    # ---- variables ----

    def test_variables(self):
        there = {v["name"]: v for v in self.langflow.account(ACTIVE)["variables"]}
        self.tenant("DELETE", "/variables/" + there["agent_name"]["id"])
        other = there["ragflow_collection_id"]
        self.tenant("PATCH", "/variables/" + other["id"], {**other, "value": "elsewhere"})
        self.world.variable(ACTIVE, "unasked", "v")
        self.breach("0 variables agent_name", "variable ragflow_collection_id is ('Generic', 'elsewhere')",
                    "variable unasked is")

    def test_a_variable_twice(self):
        # A rename is how the product lets a name be there twice.
        made = self.world.variable(ACTIVE, "other", "v")
        self.tenant("PATCH", "/variables/" + made["id"], {**made, "name": "agent_name"})
        self.breach("2 variables agent_name")

    def test_a_variable_of_another_type(self):
        there = {v["name"]: v for v in self.langflow.account(ACTIVE)["variables"]}["agent_name"]
        self.tenant("PATCH", "/variables/" + there["id"], {**there, "type": "Credential"})
        self.breach("variable agent_name is ('Credential', 'a-name')")

    # ---- datasets ----

    def test_two_datasets(self):
        made = self.world.dataset(ACTIVE, "a-name")
        self.assertEqual(made["name"], "a-name(1)")
        self.breach("2 collections", "the name is a-name(1)")

    def test_a_dataset_without_a_marker(self):
        made = self.ragflow.do("POST", "/datasets", {"name": "a-name"})
        self.breach(f"dataset {made['id']} was created without our marker")

    def test_no_dataset(self):
        self.ragflow.do("DELETE", "/datasets", {"ids": [self.config["knowledge_base_id"]]})
        self.breach("0 collections")

    def test_settings_of_a_dataset(self):
        self.ragflow.do("PUT", self.dataset, {"permission": "team", "parser_config": {
            "chunk_token_num": 128, "raptor": {"use_raptor": True}, "ext": {"overlapped_percent": 9}}})
        self.breach("permission is 'team'", "chunk_token_num is 128", "overlapped_percent is 9", "use_raptor")

    def test_another_model(self):
        self.ragflow.admin("POST", "/models", {"model": "other@OpenAI"})
        self.ragflow.do("PUT", self.dataset, {"embedding_model": "other@OpenAI"})
        self.breach("embedding_model is 'other@OpenAI'")

    def test_another_recorded_tenant(self):
        self.config["knowledge_base_tenant"] = "f" * 32
        self.breach("the dataset's tenant is", f"tenant {'f' * 32} is recorded where tenancy is shared")

    def test_files_left_behind(self):
        self.ragflow.documents(self.config["knowledge_base_id"], "a.pdf", "b.pdf")
        self.world.check()
        self.ragflow.do("DELETE", "/datasets", {"ids": [self.config["knowledge_base_id"]]})
        self.breach("2 stored files outlived their dataset")

    def test_a_key_more_of_the_platform(self):
        self.ragflow.do("POST", "/system/tokens")
        self.breach(f"tenant {self.ragflow.platform} was changed")

    def test_a_tenant_more(self):
        made = self.ragflow.add_tenant("more@example.com")
        self.breach(f"tenant {made['id']} (more@example.com) is there, which nobody asked for")

    # ---- terminated ones ----

    def test_left_behind(self):
        self.langflow.do("POST", "/users/", {"username": "b-name", "password": "p",
                                             "optins": {"waldur_subscription": MARKER + GONE}})
        self.world.dataset(GONE, "b-name")
        self.world.keep(GONE, "langflow", "sk-left")
        self.db.configs[1]["residue"] = "vectors"
        self.breach("1 workspaces left", "1 collections left", "a key of langflow is kept", "residue: vectors")

    def test_its_flow_with_another(self):
        self.tenant("PUT", "/flows/" + flow_uuid(GONE), {"name": "b-name"})
        self.breach(f"terminated {GONE}: its flow is still there, with a-name")

    def test_its_messages(self):
        self.langflow.message(flow_uuid(GONE))
        self.breach(f"terminated {GONE}: 1 messages left")

    def test_messages_of_nobody(self):
        self.langflow.message(flow_uuid("nobody"))
        self.breach("outlived it")

    def test_kept_but_open(self):
        path, token = self.reopen()
        self.langflow.do("POST", "/api_key/", {"name": "provisioner"}, token=token)
        self.langflow.do("PATCH", "/flows/" + flow_uuid(KEPT), {"access_type": "PUBLIC"}, token=token)
        self.world.variable(KEPT, "ragflow_url", "left")
        self.langflow.do("PATCH", path, {"optins": {"waldur_subscription": MARKER + KEPT}})
        self.breach("the kept user is active", "the kept user's optins are", "the kept user has 1 API keys",
                    f"the kept flow {flow_uuid(KEPT)} is PUBLIC", "the kept user has the variable ragflow_url")

    # ---- others ----

    def test_foreign(self):
        user, flow = next((o, o["flows"][0]) for o in self.langflow.objects() if o["object"]["username"] == "foreign-1")
        self.langflow.do("PUT", "/flows/" + flow["id"], {"name": "n", "data": flow_data("ours")},
                         key=user["keys"][0]["api_key"])
        dataset, = (o["object"] for o in self.ragflow.objects() if o["object"]["name"] == "foreign-0"
                    and o["object"]["tenant_id"] == self.ragflow.platform)
        self.ragflow.do("DELETE", "/datasets", {"ids": [dataset["id"]]})
        self.breach(f"foreign user {user['object']['id']} was changed", f"foreign dataset {dataset['id']} is gone")

    def test_the_superusers_account(self):
        self.langflow.do("POST", "/flows/", {"name": "left by us"})
        self.breach("foreign user", "left by us")

    # ---- tenants of their own ----

    def test_a_tenant_each(self):
        world = self.make(tenancy="subscription")
        tenant = world.ragflow.add_tenant("s1@example.com")
        world.ragflow.admin("POST", "/models", {"model": MODELS["text-embedding-3-small"], "tenant": tenant["id"]})
        world.provision(ACTIVE, "a-name", tenant)
        world.check()
        minted = world.ragflow.do("POST", "/system/tokens", key=tenant["key"])
        self.breach(f"tenant {tenant['id']} has 2 keys, 1 are kept")
        world.ragflow.do("DELETE", "/system/tokens/" + minted["token"], key=tenant["key"])
        world.check()
        v = {v["name"]: v for v in world.langflow.account(ACTIVE)["variables"]}["ragflow_api_key"]
        world.langflow.do("PATCH", "/variables/" + v["id"], {"id": v["id"], "value": "old"},
                          token=world.tenant(ACTIVE))
        self.breach("variable ragflow_api_key is ('Credential', 'old')")
        self.db.runtime_keys = [k for k in self.db.runtime_keys if k["product"] == "langflow"]
        self.breach("no key of RAGFlow is kept")

    def test_a_tenant_of_an_organization(self):
        world = self.make(tenancy="organization")
        tenant = world.ragflow.add_tenant("o1@example.com")
        world.ragflow.admin("POST", "/models", {"model": MODELS["text-embedding-3-small"], "tenant": tenant["id"]})
        world.provision(ACTIVE, "a-name", tenant)
        world.provision(KEPT, "c-name", tenant)
        world.close(KEPT, True, tenant)
        world.check()
        world.ragflow.add_tenant("o2@example.com")
        self.breach("2 tenants of 1 organizations")
        self.db.runtime_keys.clear()
        world.keep(ACTIVE, "ragflow", "ragflow-other")
        self.breach(f"a key is kept that tenant {tenant['id']} does not have")

    def test_a_tenant_of_a_terminated_one(self):
        world = self.make(tenancy="subscription")
        tenant = world.ragflow.add_tenant("s1@example.com")
        world.row(GONE, "b-name").update(status="purged", api_key=None, knowledge_base_tenant=tenant["id"])
        world.db.keys.clear()
        world.expected[GONE] = Expected(False)
        self.breach(f"tenant {tenant['id']} is still recorded", "which nobody asked for")


if __name__ == "__main__":
    main()
