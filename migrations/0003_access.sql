-- Roles, row-level security and the gateway's function. Roles belong to the whole cluster, so they may exist already.

DO $$
DECLARE
    r text;
BEGIN
    FOREACH r IN ARRAY ARRAY['provisioner_worker', 'agent_tenant', 'agent_gateway'] LOOP
        -- Looked for first: where an administrator made the roles, migrating needs no right to.
        IF to_regrole(r) IS NULL THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', r);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL; -- another database's migration was faster
            END;
        END IF;
    END LOOP;
END $$;

GRANT USAGE ON SCHEMA agent_marketplace TO provisioner_worker, agent_tenant, agent_gateway;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA agent_marketplace TO provisioner_worker;
REVOKE UPDATE, DELETE ON audit_log FROM provisioner_worker;
REVOKE INSERT, UPDATE, DELETE ON schema_migration, job_plan, job_edge FROM provisioner_worker;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA agent_marketplace TO provisioner_worker;
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA agent_marketplace FROM PUBLIC;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA agent_marketplace TO provisioner_worker;

-- Tenants read; a key's hash is nobody's business but the gateway function's.
GRANT SELECT ON agent_config, provisioning_job, subscription_event, audit_log TO agent_tenant;
GRANT SELECT (subscription_uuid, organization_uuid, prefix, sealed_key, permissions, allowed_domains, rate_limit, created_at,
              expires_at, revoked_at, last_used_at) ON agent_api_key TO agent_tenant;

-- Bound when it is created: no search_path of a caller's can put another current_setting in its place.
CREATE FUNCTION current_tenant() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE
    RETURN nullif(current_setting('app.current_tenant_id', true), '')::uuid;
GRANT EXECUTE ON FUNCTION current_tenant() TO PUBLIC;

DO $$
DECLARE
    t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['agent_config', 'agent_api_key', 'provisioning_job', 'subscription_event', 'audit_log'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY tenant_sees_its_own ON %I FOR SELECT USING (organization_uuid = current_tenant())', t);
        EXECUTE format('CREATE POLICY worker_sees_all ON %I TO provisioner_worker USING (true) WITH CHECK (true)', t);
    END LOOP;
END $$;

-- The host of an Origin header or URL: lower case, without scheme, user, port, path and final dot. NULL for what no
-- browser sends: the whole must fit, or "https://a@good.example@evil.example" would pass for the good one.
CREATE FUNCTION origin_host(origin text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT (regexp_match(lower(btrim(origin) COLLATE "C"),
        '^(?:[a-z][a-z0-9+.-]*://(?:[^/?#\\\s]*@)?)?(\[[0-9a-f:.]+\]|[a-z0-9_-]+(?:\.[a-z0-9_-]+)*)\.?(?::[0-9]*)?(?:[/?#]\S*)?$'))[1]
    WHERE octet_length(origin) <= 2048
$$;

-- "example.com" allows that host alone, "*.example.com" every host below it.
CREATE FUNCTION domain_allowed(host text, allowed text[]) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce(bool_or(host = d OR (left(d, 2) = '*.' AND length(host) > length(d) - 1
                            AND right(host, length(d) - 1) = substr(d, 2))), false)
    FROM (SELECT lower(a COLLATE "C") FROM unnest(allowed) AS a) AS x(d)
$$;

-- For the gateway: who is calling, or why not. An allow-list of domains makes the origin obligatory.
CREATE FUNCTION authenticate_api_key(key text, origin text)
RETURNS TABLE (allowed boolean, reason text, subscription_uuid uuid, project_uuid uuid, organization_uuid uuid,
               permissions text[], rate_limit text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = agent_marketplace, pg_temp AS $$
#variable_conflict use_column
DECLARE
    k agent_api_key;
    c agent_config;
BEGIN
    allowed := false;
    SELECT * INTO k FROM agent_api_key a WHERE a.key_hash = sha256(convert_to(authenticate_api_key.key, 'UTF8'));
    IF NOT FOUND THEN
        reason := 'unknown';
        RETURN NEXT;
        RETURN;
    END IF;
    SELECT * INTO STRICT c FROM agent_config a WHERE a.subscription_uuid = k.subscription_uuid;
    reason := CASE
        WHEN k.revoked_at IS NOT NULL THEN 'revoked'
        WHEN k.expires_at <= now() THEN 'expired'
        WHEN c.status <> 'ready' THEN 'subscription not active'
        WHEN cardinality(k.allowed_domains) > 0
             AND NOT coalesce(domain_allowed(origin_host(authenticate_api_key.origin), k.allowed_domains), false)
            THEN 'domain not allowed'
    END;
    IF reason IS NULL THEN
        allowed := true;
        subscription_uuid := k.subscription_uuid;
        project_uuid := c.project_uuid;
        organization_uuid := c.organization_uuid;
        permissions := k.permissions;
        rate_limit := k.rate_limit;
        -- Once a minute is enough to know, and spares a write per request. Nobody waits for it, and a read-only
        -- stand-by does without.
        IF (k.last_used_at IS NULL OR k.last_used_at < now() - interval '1 minute')
           AND current_setting('transaction_read_only') = 'off' THEN
            UPDATE agent_api_key a SET last_used_at = now() WHERE a.id IN
                (SELECT b.id FROM agent_api_key b WHERE b.id = k.id
                 AND (b.last_used_at IS NULL OR b.last_used_at < now() - interval '1 minute')
                 FOR NO KEY UPDATE SKIP LOCKED);
        END IF;
    END IF;
    RETURN NEXT;
END $$;
REVOKE EXECUTE ON FUNCTION authenticate_api_key(text, text), origin_host(text), domain_allowed(text, text[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authenticate_api_key(text, text) TO agent_gateway, provisioner_worker;
