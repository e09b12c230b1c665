"""What the promise means where workspaces are Langflow users and collections are RAGFlow datasets."""

import collections
import ctypes
import hashlib
import uuid as uuids

from .promise import check_unchanged, marked
from .standin import MARKER
from .worker import sodium

# Langflow 1.12 and later leave these, blank, in every account at a login.
PLACEHOLDERS = {"ASTRA_TOKEN", "COMPONENT_ID", "FIELD_NAME", "FLOW_ID"}
KEY_NAME = "provisioner"
NONCE_BYTES, TAG_BYTES = 24, 16


def flow_uuid(subscription):
    """The id of the subscription's own flow, as lib/naming derives it."""
    digits = hashlib.sha256(f"waldur-subscription-flow:{subscription}".encode()).hexdigest()[:32]
    variant = "89ab"[ord(digits[16]) & 3]
    return str(uuids.UUID(digits[:12] + "8" + digits[13:16] + variant + digits[17:]))


def unseal(master, subscription, product, sealed):
    """A key out of agent_runtime_key. master: 32 bytes."""
    sealed = bytes(sealed)
    extra = f"{subscription}/{product}".encode()
    clear = ctypes.create_string_buffer(len(sealed))
    n = ctypes.c_ulonglong()
    opened = sodium().crypto_aead_xchacha20poly1305_ietf_decrypt(
        clear, ctypes.byref(n), None, sealed[NONCE_BYTES:], ctypes.c_ulonglong(len(sealed) - NONCE_BYTES), extra,
        ctypes.c_ulonglong(len(extra)), sealed[:NONCE_BYTES], master)
    assert opened == 0, f"the {product} key of {subscription} does not open with the master key"
    return clear.raw[:n.value].decode()


def seal(master, subscription, product, key, nonce):
    """The other way round, for what tests this."""
    extra, text = f"{subscription}/{product}".encode(), key.encode()
    sealed = ctypes.create_string_buffer(len(text) + TAG_BYTES)
    n = ctypes.c_ulonglong()
    sodium().crypto_aead_xchacha20poly1305_ietf_encrypt(
        sealed, ctypes.byref(n), text, ctypes.c_ulonglong(len(text)), extra, ctypes.c_ulonglong(len(extra)), None,
        nonce, master)
    return nonce + sealed.raw[:n.value]


class Setup:
    """
    What was there, and set, before the first event. templates: {offering type: the flow's data}. Other tenants that a
    test makes belong into tenants.
    """

    def __init__(self, langflow, ragflow, master, templates, models, tenancy="shared", workspace_key="own"):
        self.langflow_url, self.ragflow_url = langflow.url, ragflow.url
        self.platform, self.platform_key = ragflow.platform, ragflow.token
        # Whether workspaces get a key of RAGFlow.
        self.gives_key = tenancy == "subscription" or workspace_key == "tenant-wide"
        self.master, self.templates, self.models, self.tenancy = master, templates, models, tenancy
        self.users = {o["object"]["id"]: o for o in langflow.objects()}  # the superuser with its templates
        self.tenants = {t["id"]: t for t in ragflow.tenants()}


class Native:
    """As Facade is; made for check_promise by partial(Native, setup)."""

    def __init__(self, setup, db, langflow, ragflow, configs, problems):
        self.setup = setup
        world = langflow.world()
        self.users, self.orphans = world["objects"], world["orphans"]
        self.datasets, self.tenants = ragflow.objects(), {t["id"]: t for t in ragflow.tenants()}
        self.storage = ragflow.storage()
        self.keys = {}
        for row in db.rows("SELECT subscription_uuid, product, sealed FROM agent_runtime_key"):
            uuid = str(row["subscription_uuid"])
            self.keys[uuid, row["product"]] = unseal(setup.master, uuid, row["product"], row["sealed"])
        self.workspaces = self._ours(self.users, configs, "runtime_workspace_id", "user", problems)
        self.collections = self._ours(self.datasets, configs, "knowledge_base_id", "dataset", problems)

    @staticmethod
    def _ours(entries, configs, recorded, what, problems):
        """By recorded id or by marker: a tenant may change what its user says of itself."""
        by_id = {c[recorded]: uuid for uuid, c in configs.items() if c[recorded]}
        ours = collections.defaultdict(list)
        for o in entries:
            object = o["object"]
            uuid = by_id.get(object["id"]) or marked(o["marker"])
            if o["planted"]:
                continue
            if uuid:
                ours[uuid].append({"id": object["id"], "name": object.get("username") or object["name"], "entry": o})
            else:
                problems.append(f"{what} {object['id']} was created without our marker: {o['marker']!r}")
        return ours

    # ---- active ones ----

    def active(self, uuid, want, config, workspaces, collections_, bad):
        if config.get("residue"):
            bad(f"residue: {config['residue']}")
        for w in workspaces:
            self._account(uuid, want, config, w["entry"], bad)
        for c in collections_ if want.rag else []:
            self._dataset(uuid, want, config, c["entry"]["object"], bad)

    def _account(self, uuid, want, config, entry, bad):
        user = entry["object"]
        if not user["is_active"]:
            bad("the user is not active")
        optins = user["optins"]
        if optins.get("waldur_subscription") != MARKER + uuid or optins.get("waldur_status") == "closed":
            bad(f"the user's optins are {optins}")
        if user["is_superuser"]:
            bad("the user is a superuser")
        if len(entry["projects"]) != 1:
            bad(f"{len(entry['projects'])} projects")
        self._flow(uuid, want, config, entry, bad)
        self._key(uuid, want, entry, bad)
        self._variables(uuid, want, config, entry, bad)

    def _flow(self, uuid, want, config, entry, bad):
        flows = [f for f in entry["flows"] if f["id"] not in want.own_flows]
        if [f["id"] for f in flows] != [flow_uuid(uuid)]:
            return bad(f"flows {[f['id'] for f in flows]} in place of {flow_uuid(uuid)}")
        if str(config["runtime_flow_id"]) != flow_uuid(uuid):
            bad(f"flow {config['runtime_flow_id']} is recorded, {flow_uuid(uuid)} exists")
        if config["runtime_run_url"] != f"{self.setup.langflow_url}/api/v1/run/{flow_uuid(uuid)}":
            bad(f"the run URL is {config['runtime_run_url']}")
        data = want.flow or self.setup.templates[config["offering_type"]]
        if flows[0]["data"] != data:
            bad(f"the flow is {flows[0]['data']}, {data} is wanted")
        if flows[0]["access_type"] != "PRIVATE":
            bad(f"the flow is {flows[0]['access_type']}")

    def _key(self, uuid, want, entry, bad):
        keys = [k for k in entry["keys"] if k["name"] not in want.own_keys]
        if [k["name"] for k in keys] != [KEY_NAME]:
            return bad(f"API keys {[k['name'] for k in keys]}")
        kept = self.keys.get((uuid, "langflow"))
        if kept != keys[0]["api_key"]:
            bad("no API key is kept" if kept is None else "another API key is kept than there is")

    def _variables(self, uuid, want, config, entry, bad):
        wanted = {name: ("Generic", value)
                  for name, value in (config["variables"] if want.variables is None else want.variables).items()}
        if want.rag:
            wanted["ragflow_collection_id"] = "Generic", config["knowledge_base_id"]
            wanted["ragflow_url"] = "Generic", self.setup.ragflow_url
            if self.setup.gives_key:
                own = self.keys.get((uuid, "ragflow"))
                wanted["ragflow_api_key"] = "Credential", self.setup.platform_key if own is None else own
        there = collections.defaultdict(list)
        for v in entry["variables"]:
            there[v["name"]].append((v["type"], v["value"]))
        for name, (kind, value) in wanted.items():
            if len(there[name]) != 1:
                bad(f"{len(there[name])} variables {name}")
            elif name not in want.own_variables and there[name][0] != (kind, value):
                bad(f"variable {name} is {there[name][0]}, {(kind, value)} is wanted")
        for name in set(there) - set(wanted) - want.own_variables:
            if not (name in PLACEHOLDERS and all(not value for _, value in there[name])):
                bad(f"variable {name} is {there[name]}, which nobody asked for")

    def _dataset(self, uuid, want, config, dataset, bad):
        parser = dataset["parser_config"]
        is_ = {"description": dataset["description"], "tenant": dataset["tenant_id"],
               "embedding_model": dataset["embedding_model"], "permission": dataset["permission"],
               "chunk_method": dataset.get("chunk_method") or dataset.get("parser_id"),
               "chunk_token_num": parser.get("chunk_token_num"),
               "overlapped_percent": parser.get("overlapped_percent")}
        shall = {"description": MARKER + uuid, "tenant": config["knowledge_base_tenant"],
                 "embedding_model": self.setup.models["text-embedding-3-small"], "permission": "me",
                 "chunk_method": "naive", "chunk_token_num": 512, "overlapped_percent": 10}
        for name, value in shall.items():
            if is_[name] != value:
                bad(f"the dataset's {name} is {is_[name]!r}, {value!r} is wanted")
        for name, switch in (("raptor", "use_raptor"), ("graphrag", "use_graphrag")):
            if parser.get(name, {}).get(switch):
                bad(f"the dataset has {switch}")
        own = config["knowledge_base_tenant"] != self.setup.platform
        if own != (self.setup.tenancy != "shared"):
            bad(f"tenant {config['knowledge_base_tenant']} is recorded where tenancy is {self.setup.tenancy}")
        if own != ((uuid, "ragflow") in self.keys):
            bad("a key of RAGFlow is kept that nobody made" if not own else "no key of RAGFlow is kept")

    # ---- suspended ones ----

    def suspended(self, uuid, workspace, bad):
        self._closed(uuid, workspace["entry"], bad)

    # ---- terminated ones ----

    def gone(self, uuid, want, config, workspaces, bad):
        for product in ("langflow", "ragflow"):
            if (uuid, product) in self.keys:
                bad(f"a key of {product} is kept")
        for w in workspaces:
            if want.kept:
                self._closed(uuid, w["entry"], bad)
        mine = {w["id"] for w in workspaces}
        for o in self.users:
            if o["object"]["id"] not in mine and flow_uuid(uuid) in [f["id"] for f in o["flows"]]:
                bad(f"its flow is still there, with {o['object']['username']}")
        left = sum(m["flow_id"] == flow_uuid(uuid) for m in self.orphans)
        if left:
            bad(f"{left} messages left")
        if config and config.get("residue"):
            bad(f"residue: {config['residue']}")
        if config and self.setup.tenancy == "subscription" and config["knowledge_base_tenant"]:
            bad(f"tenant {config['knowledge_base_tenant']} is still recorded")

    @staticmethod
    def _closed(uuid, entry, bad):
        user = entry["object"]
        if user["is_active"]:
            bad("the kept user is active")
        told = {k: v for k, v in user["optins"].items() if k != "waldur_proof"}
        if told != {"waldur_subscription": MARKER + uuid, "waldur_status": "closed"}:
            bad(f"the kept user's optins are {user['optins']}")
        if entry["keys"]:
            bad(f"the kept user has {len(entry['keys'])} API keys")
        for f in entry["flows"]:
            if f["access_type"] != "PRIVATE":
                bad(f"the kept flow {f['id']} is {f['access_type']}")
        for v in entry["variables"]:
            if v["name"].startswith("ragflow_"):
                bad(f"the kept user has the variable {v['name']}")

    # ---- what belongs to no one subscription ----

    def whole(self, expected, configs, problems):
        if self.storage["orphans"]:
            problems.append(f"{self.storage['orphans']} stored files outlived their dataset")
        for m in self.orphans:
            if m["flow_id"] not in {flow_uuid(u) for u in expected}:
                problems.append(f"a message of flow {m['flow_id']} outlived it")
        self._tenants(expected, configs, problems)
        check_unchanged({o["object"]["id"]: o for o in self.users}, self.setup.users, problems, "user")
        check_unchanged(self.tenants, self.setup.tenants, problems, "tenant")

    def _tenants(self, expected, configs, problems):
        """Beside those that were there: one for each subscription or organization with retrieval, with its keys."""
        keys = collections.defaultdict(list)
        for uuid, want in expected.items():
            if want.active and want.rag and uuid in configs and self.setup.tenancy != "shared":
                keys[configs[uuid]["knowledge_base_tenant"]].append(self.keys.get((uuid, "ragflow")))
        new = {id: tenant for id, tenant in self.tenants.items() if id not in self.setup.tenants}
        if self.setup.tenancy == "organization":
            # It outlives its subscriptions, and its keys are all of theirs.
            organizations = {str(c["organization_uuid"]) for c in configs.values()}
            if len(new) > len(organizations):
                problems.append(f"{len(new)} tenants of {len(organizations)} organizations")
            for id in set(keys) & set(new):
                if not set(keys[id]) <= set(new[id]["keys"]):
                    problems.append(f"a key is kept that tenant {id} does not have")
            new = {}
        for id, tenant in new.items():
            if id not in keys:
                problems.append(f"tenant {id} ({tenant['email']}) is there, which nobody asked for")
            elif sorted(tenant["keys"]) != sorted(set(keys[id]), key=str):
                problems.append(f"tenant {id} has {len(tenant['keys'])} keys, {len(set(keys[id]))} are kept")
        for id in set(keys) - set(self.tenants):
            problems.append(f"tenant {id} is recorded and does not exist")

    def foreign(self, foreign, problems):
        """foreign: ({id: user with all that it has}, {id: dataset})."""
        users, datasets = foreign
        check_unchanged({o["object"]["id"]: o for o in self.users}, users, problems, "user")
        check_unchanged({o["object"]["id"]: o["object"] for o in self.datasets}, datasets, problems, "dataset")
