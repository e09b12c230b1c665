"""Backlogs that no events have to be sent for, and what a claim from them costs."""

import json
import uuid as uuids

NIL = "00000000-0000-0000-0000-000000000000"
# A round goes on somewhere, not at the start.
POLICY = {"organization_max": 200, "runtime_max": 500, "weights": {"free": 1, "plus": 2, "pro": 4, "enterprise": 8}}


def organization(n):
    """The n-th organization of a backlog; spread as random UUIDs are."""
    return str(uuids.UUID(uuids.uuid5(uuids.NAMESPACE_OID, f"organization-{n}").hex))


def fill(db, n, organizations=200, runtime="eu", first=0):
    """
    n queued provisions of a runtime, in order of arrival: one organization has nine of ten, the others share the rest,
    one each at least. Behind foreign keys and triggers, or a million would take minutes; db is a superuser's.
    """
    names = [organization(first + i) for i in range(organizations)]
    db.rows("SET session_replication_role = replica")
    db.rows(
        "WITH x AS (SELECT gen_random_uuid() AS uuid, (%s::uuid[])[CASE WHEN i <= %s THEN i WHEN i %% 10 = 0 "
        "THEN 1 + (i / 10) %% %s ELSE 1 END] AS organization, i FROM generate_series(1, %s) i), "
        "s AS (INSERT INTO subscription (uuid, wanted, wanted_at, event_seq, order_uuid, organization_uuid, "
        "organization_slug, spec, runtime_name) SELECT uuid, 'present', now(), 0, uuid, organization, 'o', '{}', %s FROM x) "
        "INSERT INTO provisioning_job (subscription_uuid, organization_uuid, order_uuid, runtime_name, lane, plan_tier, "
        "kind, generation, step, deadline_at, next_attempt_at) SELECT uuid, organization, uuid, %s, %s, 'free', "
        "'provision', 1, 'name', now() + interval '1 day', now() - interval '1 hour' + i * interval '1 ms' FROM x",
        names, organizations, organizations, n, runtime, runtime, runtime)
    db.rows("SET session_replication_role = DEFAULT")
    db.rows("ANALYZE subscription, provisioning_job")


def churn(session, owner, claims, policy=None):
    """Claims that are given back at once: dead rows where the next claim begins."""
    for _ in range(claims):
        got = claim(session, owner, policy)
        session.rows("SELECT jobs_back(%s, %s::bigint[], %s::bigint[])", owner, [j["job_id"] for j in got],
                     [j["fence"] for j in got])
        session.rows("UPDATE provisioning_job SET next_attempt_at = now() WHERE id = ANY (%s)", [j["job_id"] for j in got])


def claim(session, owner, policy=None, limit=128, share=1, after=NIL):
    return session.rows("SELECT * FROM jobs_claim(%s, %s, %s, %s, NULL, false, %s)", owner, limit, after, share,
                        json.dumps(POLICY if policy is None else policy))


def claim_cost(conn, owner, policy=None, limit=128):
    """(buffers touched, milliseconds) of one claim, which is taken back; it must have got all that it may."""
    conn.autocommit = False
    try:
        with conn.cursor() as c:
            c.execute("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT * FROM jobs_claim(%s, %s, %s, 1, NULL, false, %s)",
                      (owner, limit, NIL, json.dumps(POLICY if policy is None else policy)))
            plan = c.fetchone()[0][0]
        got = int(plan["Plan"]["Actual Rows"])
        assert got == limit, f"{got} jobs claimed in place of {limit}"
        return plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"], plan["Execution Time"]
    finally:
        conn.rollback()
        conn.autocommit = True


def obstruct(db, how, n=300):
    """Puts in the way what may not run: n organizations that are paused or at their bound, a runtime that is paused."""
    if how == "paused":
        fill(db, n, organizations=n, first=10000)
        fill(db, 2 * n, organizations=n, runtime="ap", first=20000)
        db.rows("INSERT INTO scheduling_pause (scope, target, label, actor) SELECT 'organization', o, o, 'test' "
                "FROM unnest(%s) o UNION ALL SELECT 'runtime', 'ap', 'ap', 'test'",
                [organization(10000 + i) for i in range(n)])
    elif how == "capped":
        fill(db, 3 * n, organizations=n, first=30000)
        db.rows("UPDATE provisioning_job SET state = 'running', lease_owner = gen_random_uuid(), "
                "claimed_at = now() WHERE id IN (SELECT "
                "DISTINCT ON (organization_uuid) id FROM provisioning_job WHERE organization_uuid = ANY (%s::uuid[]))",
                [organization(30000 + i) for i in range(n)])


def capped_policy(how):
    """Under which `capped` ones are at their bound, and no other."""
    return {**POLICY, "organization_max": 1} if how == "capped" else POLICY


