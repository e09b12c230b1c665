"""The promise of the design's first section, checked literally. native_promise: for the products' own objects."""

import collections
import json
import re

from .standin import MARKER

_MARKED = re.compile(re.escape(MARKER) + r"([0-9a-f-]{36})")


class Expected:
    """
    What should be of one subscription. suspended: an active one that rests, shut and whole; known False: it may never
    have come to be. kept: a terminated one whose workspace waits out its retention. Of native ones
    also: variables, the event's with the offering's defaults (None: as they are recorded); what the tenant itself made
    of its account: own_variables and own_keys (names), own_flows (ids), and flow, the data that its flow now has.
    """

    def __init__(self, active, rag=True, name=None, kept=False, known=True, variables=None, own_variables=(),
                 own_keys=(), own_flows=(), flow=None, suspended=False):
        self.suspended = suspended
        self.active, self.rag, self.name, self.kept = active, rag, name, kept
        self.known = known  # False: terminated before anything was provisioned; there may be no agent_config row
        self.variables, self.flow = variables, flow
        self.own_variables, self.own_keys, self.own_flows = set(own_variables), set(own_keys), set(own_flows)

    @classmethod
    def of(cls, subscription, active=True, **more):
        s = subscription
        return cls(active, s.rag, s.name if active else None, **{"variables": s.variables, **more})


def marked(marker):
    """The UUID of a marker of ours, or None."""
    found = _MARKED.fullmatch(marker or "")
    return found and found.group(1)


def check_unchanged(now, before, problems, what):
    """Both: {id: something that JSON can write}."""
    for id, was in before.items():
        if id not in now:
            problems.append(f"foreign {what} {id} is gone")
        elif json.dumps(now[id]) != json.dumps(was):
            problems.append(f"foreign {what} {id} was changed: {was} -> {now[id]}")


class Facade:
    """
    One look at everything that is there. A world has workspaces and collections, {uuid: [object with id and name]},
    and says what is wrong with those of one subscription beside their number, ids and names.
    """

    def __init__(self, db, langflow, ragflow, configs, problems):
        self.objects = {"workspace": langflow.objects(), "collection": ragflow.objects()}
        self.workspaces, self.collections = (self._ours(kind, problems) for kind in ("workspace", "collection"))

    def _ours(self, kind, problems):
        ours = collections.defaultdict(list)
        for o in self.objects[kind]:
            uuid = marked(o["marker"])
            if o["planted"]:
                continue
            if uuid:
                ours[uuid].append(o["object"])
            else:
                problems.append(f"{kind} {o['object']['id']} was created without our marker: {o['marker']!r}")
        return ours

    def active(self, uuid, want, config, workspaces, collections_, bad):
        if want.rag and workspaces and collections_:
            told = workspaces[0].get("variables", {}).get("ragflow_collection_id")
            if told != collections_[0]["id"]:
                bad(f"the workspace knows collection {told}, {collections_[0]['id']} exists")

    def suspended(self, uuid, workspace, bad):
        variables = workspace.get("variables", {})
        if variables.get("waldur_status") != "closed" or variables.get("ragflow_collection_id"):
            bad(f"the workspace is not closed: {variables}")

    def gone(self, uuid, want, config, workspaces, bad):
        pass

    def whole(self, expected, configs, problems):
        """What belongs to no one subscription."""

    def foreign(self, foreign, problems):
        """foreign: one {id: the object as it was planted} of each stand-in."""
        for kind, before in zip(("workspace", "collection"), foreign):
            now = {o["object"]["id"]: o["object"] for o in self.objects[kind] if o["planted"]}
            check_unchanged(now, before, problems, kind)


def _check_active(uuid, want, config, world, keys, problems):
    def bad(text):
        problems.append(f"active {uuid}: {text}")

    workspaces, collections_ = world.workspaces.get(uuid, []), world.collections.get(uuid, [])
    if config is None:
        return bad("no agent_config row")
    if config["status"] != "ready":
        bad(f"status {config['status']} ({config['status_reason']})")
    if len(workspaces) != 1:
        bad(f"{len(workspaces)} workspaces")
    elif workspaces[0]["id"] != config["runtime_workspace_id"]:
        bad(f"workspace {workspaces[0]['id']} exists, {config['runtime_workspace_id']} is recorded")
    if len(collections_) != (1 if want.rag else 0):
        bad(f"{len(collections_)} collections")
    elif want.rag and collections_[0]["id"] != config["knowledge_base_id"]:
        bad(f"collection {collections_[0]['id']} exists, {config['knowledge_base_id']} is recorded")
    elif not want.rag and config["knowledge_base_id"]:
        bad("a collection is recorded that is not wanted")
    live = [k for k in keys if k["revoked_at"] is None]
    if len(live) != 1:
        bad(f"{len(live)} live keys")
    elif live[0]["prefix"] != config["api_key"]:
        bad(f"live key {live[0]['prefix']}, {config['api_key']} is recorded")
    for o in workspaces + collections_:
        if o["name"] != config["name"] or (want.name and o["name"] != want.name):
            bad(f"the name is {o['name']}, recorded {config['name']}, expected {want.name}")
    world.active(uuid, want, config, workspaces, collections_, bad)


def _check_suspended(uuid, want, config, world, keys, problems):
    def bad(text):
        problems.append(f"suspended {uuid}: {text}")

    workspaces, collections_ = world.workspaces.get(uuid, []), world.collections.get(uuid, [])
    live = [k["prefix"] for k in keys if k["revoked_at"] is None]
    if config is None:
        if want.known or workspaces or collections_:
            bad(f"no agent_config row, {len(workspaces)} workspaces, {len(collections_)} collections")
        return
    if config["status"] != "suspended":
        bad(f"status {config['status']} ({config['status_reason']})")
    for what, there, recorded, n in (("workspace", workspaces, config["runtime_workspace_id"], 1),
                                     ("collection", collections_, config["knowledge_base_id"], int(want.rag))):
        if what == "collection" and not want.known:
            continue  # one may be half made, or half gone, with an open effect that leads to it
        if [o["id"] for o in there] != ([recorded] if recorded else []) or (want.known and len(there) != n):
            bad(f"{what}s {[o['id'] for o in there]} exist, {recorded} is recorded")
    if live != ([config["api_key"]] if config["api_key"] else []) or (want.known and not live):
        bad(f"live keys {live}, {config['api_key']} is recorded")
    for w in workspaces:
        world.suspended(uuid, w, bad)


def _check_gone(uuid, want, config, world, keys, problems):
    def bad(text):
        problems.append(f"terminated {uuid}: {text}")

    workspaces, collections_ = world.workspaces.get(uuid, []), world.collections.get(uuid, [])
    if collections_:
        bad(f"{len(collections_)} collections left")
    if len(workspaces) > (1 if want.kept else 0):
        bad(f"{len(workspaces)} workspaces left")
    if [k for k in keys if k["revoked_at"] is None]:
        bad("a live key is left")
    world.gone(uuid, want, config, workspaces, bad)
    if config is None:
        if want.known:
            bad("no agent_config row")
        return
    if config["status"] not in (("archived", "purged") if not want.kept else ("archived",)):
        bad(f"status {config['status']} ({config['status_reason']})")
    recorded = config["runtime_workspace_id"]
    if recorded not in [w["id"] for w in workspaces] + [None]:
        bad(f"workspace {recorded} is recorded and does not exist")
    if config["knowledge_base_id"] is not None or config["api_key"] is not None:
        bad("a collection or a key is still recorded")


def _check_settled(db, expected, problems):
    for job in db.rows("SELECT id, subscription_uuid, kind, state, step, error FROM provisioning_job "
                       "WHERE state NOT IN ('succeeded', 'superseded', 'cancelled') ORDER BY id LIMIT 20"):
        problems.append(f"job {job['id']} of {job['subscription_uuid']}: {job['kind']} {job['state']} at "
                        f"{job['step']}: {job['error']}")
    # RAGFlow is left alone while a subscription rests: what was under way there is looked into when it goes on.
    resting = [uuid for uuid, want in expected.items() if want.active and want.suspended]
    for effect in db.rows("SELECT * FROM provisioning_effect WHERE state IN ('intended', 'unknown') AND NOT "
                          "(product = 'ragflow' AND subscription_uuid = ANY (%s::uuid[])) LIMIT 20", resting):
        problems.append(f"effect {effect['id']} of {effect['subscription_uuid']} is {effect['state']}: "
                        f"{effect['product']} {effect['operation']}")
    waiting = db.value("SELECT count(*) FROM outbox")
    if waiting:
        problems.append(f"{waiting} outcome events were not published")


def breaches(db, langflow, ragflow, expected, foreign=None, world=Facade):
    """
    What is not as promised, a line each. expected: {uuid: Expected}, all subscriptions that there are. foreign: what
    was planted, as the stand-ins' own dialects tell it (plant_foreign). world: what looks at them.
    """
    problems = []
    configs = {str(c["subscription_uuid"]): c for c in db.rows("SELECT * FROM agent_config")}
    seen = world(db, langflow, ragflow, configs, problems)
    keys = collections.defaultdict(list)
    for key in db.rows("SELECT subscription_uuid, prefix, revoked_at FROM agent_api_key"):
        keys[str(key["subscription_uuid"])].append(key)
    for uuid, want in expected.items():
        check = _check_gone if not want.active else _check_suspended if want.suspended else _check_active
        check(uuid, want, configs.get(uuid), seen, keys.get(uuid, []), problems)
    for kind, found in (("workspaces", seen.workspaces), ("collections", seen.collections), ("configs", configs)):
        for uuid in sorted(set(found) - set(expected)):
            problems.append(f"{kind} of {uuid}, which nobody asked for")
    seen.whole(expected, configs, problems)
    if foreign:
        seen.foreign(foreign, problems)
    _check_settled(db, expected, problems)
    return problems


def check_promise(*what, **more):
    """Raises an AssertionError that lists the breaches; takes what breaches() takes."""
    problems = breaches(*what, **more)
    assert not problems, f"{len(problems)} breaches:\n" + "\n".join(problems[:25])
