-- What the products themselves need recorded: accounts, their keys, the flow that runs, and what a server could not
-- take away.

ALTER TABLE agent_config
    ADD COLUMN runtime_flow_id       uuid,
    ADD COLUMN runtime_run_url       text CHECK (runtime_run_url <> ''),
    ADD COLUMN knowledge_base_tenant text CHECK (knowledge_base_tenant <> ''),
    ADD COLUMN residue               text CHECK (residue <> '');
COMMENT ON COLUMN agent_config.runtime_flow_id IS 'the flow of the workspace that runs';
COMMENT ON COLUMN agent_config.runtime_run_url IS 'where that flow is run (POST, with the key of agent_runtime_key)';
COMMENT ON COLUMN agent_config.knowledge_base_tenant IS 'the account at RAGFlow whose the collection is';
COMMENT ON COLUMN agent_config.residue IS 'what a server said that it could not take away; a person has to look';

-- Keys of accounts at the products, for the platform alone: nonce (24 bytes), then XChaCha20-Poly1305 (IETF) under
-- secrets.master_key, with "<subscription uuid>/<product>" as additional data. No tenant's role may read them.
CREATE TABLE agent_runtime_key (
    subscription_uuid uuid NOT NULL REFERENCES agent_config (subscription_uuid),
    product           text NOT NULL CHECK (product IN ('langflow', 'ragflow')),
    sealed            bytea NOT NULL CHECK (octet_length(sealed) > 40),
    updated_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (subscription_uuid, product)
);

-- The id of the whole object that a DELETE is about, as far as it is one; NULL for every other change.
ALTER TABLE provisioning_effect ADD COLUMN object text CHECK (object <> '');

-- Changes whose outcome is open: how many; how old the newest is that may still make or change something; whether one
-- is an update; the object that one deletes as a whole.
CREATE OR REPLACE FUNCTION open_effects(p_subscription uuid, p_product text)
RETURNS TABLE (n bigint, age_ms bigint, updating boolean, deleting text) LANGUAGE sql STABLE ROWS 1 AS $$
    SELECT count(*), coalesce((extract(epoch FROM now() - max(intended_at) FILTER (WHERE object IS NULL)) * 1000)::bigint,
                              1000000000000),
           coalesce(bool_or(method IN ('PATCH', 'PUT')), false), max(object)
    FROM agent_marketplace.provisioning_effect
    WHERE subscription_uuid = p_subscription AND product = p_product AND state IN ('intended', 'unknown')
$$;

DROP FUNCTION effect_intend(bigint, uuid, bigint, bigint, text, text, text, text, text, text, text, text);
-- Commits the intent; the request may leave only after this has come back with 'ok'.
CREATE FUNCTION effect_intend(p_job bigint, p_owner uuid, p_fence bigint, p_deadline_ms bigint, p_product text,
                              p_operation text, p_method text, p_target text, p_name text, p_marker text,
                              p_body_sha256 text, p_request_id text, p_object text DEFAULT NULL)
RETURNS TABLE (verdict text, effect_id bigint) LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    j provisioning_job;
BEGIN
    verdict := job_guard(p_job, p_owner, p_fence, p_deadline_ms);
    IF verdict = 'ok' THEN
        SELECT * INTO STRICT j FROM provisioning_job WHERE id = p_job;
        UPDATE provisioning_effect SET state = 'replaced', settled_at = now()
        WHERE subscription_uuid = j.subscription_uuid AND product = p_product AND operation = p_operation
          AND state IN ('intended', 'unknown');
        INSERT INTO provisioning_effect (subscription_uuid, job_id, fence, step, runtime_name, product, operation, method,
                                         target, name, marker, body_sha256, request_id, object)
        VALUES (j.subscription_uuid, p_job, p_fence, j.step, coalesce(j.runtime_name, ''), p_product, p_operation, p_method,
                p_target, p_name, p_marker, p_body_sha256, p_request_id, p_object)
        RETURNING id INTO effect_id;
    END IF;
    RETURN NEXT;
END $$;

-- The key of the subscription's own account at a product; NULL: there is none any more.
CREATE FUNCTION runtime_key_keep(p_subscription uuid, p_product text, p_sealed bytea) RETURNS void
LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
BEGIN
    IF p_sealed IS NULL THEN
        DELETE FROM agent_runtime_key WHERE subscription_uuid = p_subscription AND product = p_product;
    ELSE
        INSERT INTO agent_runtime_key (subscription_uuid, product, sealed) VALUES (p_subscription, p_product, p_sealed)
        ON CONFLICT (subscription_uuid, product) DO UPDATE SET sealed = p_sealed, updated_at = now();
    END IF;
END $$;

-- What an answer told that must not wait for the step's end: the new object's id, the account it is in, that
-- account's key. Only while the job is still the one that asked: another's key may be newer.
CREATE FUNCTION runtime_keep(p_job bigint, p_owner uuid, p_fence bigint, p_deadline_ms bigint, p_product text,
                             p_external_id text, p_tenant text, p_sealed bytea)
RETURNS text LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    v text := job_guard(p_job, p_owner, p_fence, p_deadline_ms);
    v_subscription uuid;
BEGIN
    -- Superseded: what was made is known all the same.
    IF v = 'lost' THEN
        RETURN v;
    END IF;
    SELECT subscription_uuid INTO v_subscription FROM provisioning_job WHERE id = p_job;
    UPDATE agent_config SET
        runtime_workspace_id = CASE WHEN p_product = 'langflow' THEN coalesce(p_external_id, runtime_workspace_id)
                                    ELSE runtime_workspace_id END,
        knowledge_base_id = CASE WHEN p_product = 'ragflow' THEN coalesce(p_external_id, knowledge_base_id)
                                 ELSE knowledge_base_id END,
        knowledge_base_tenant = coalesce(p_tenant, knowledge_base_tenant),
        updated_at = now()
    WHERE subscription_uuid = v_subscription;
    IF p_sealed IS NOT NULL THEN
        PERFORM runtime_key_keep(v_subscription, p_product, p_sealed);
    END IF;
    RETURN v;
END $$;

DROP FUNCTION step_resource(bigint, uuid, bigint, bigint, job_step, text, text);
DROP FUNCTION resource_record(uuid, text, text);
-- p_detail: flow_id, run_url, tenant_id, residue; what is missing is none. p_sealed: the account's key.
CREATE FUNCTION resource_record(p_subscription uuid, p_product text, p_external_id text, p_detail jsonb, p_sealed bytea)
RETURNS void LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    v_residue text := p_detail ->> 'residue';
    v_organization uuid;
BEGIN
    UPDATE agent_config SET
        runtime_workspace_id = CASE WHEN p_product = 'langflow' THEN p_external_id ELSE runtime_workspace_id END,
        runtime_flow_id = CASE WHEN p_product = 'langflow' THEN (p_detail ->> 'flow_id')::uuid ELSE runtime_flow_id END,
        runtime_run_url = CASE WHEN p_product = 'langflow' THEN p_detail ->> 'run_url' ELSE runtime_run_url END,
        knowledge_base_id = CASE WHEN p_product = 'ragflow' THEN p_external_id ELSE knowledge_base_id END,
        knowledge_base_tenant = CASE WHEN p_product = 'ragflow' THEN p_detail ->> 'tenant_id' ELSE knowledge_base_tenant END,
        residue = coalesce(v_residue, residue),
        status = CASE WHEN p_external_id IS NULL AND status = 'ready' THEN 'provisioning' ELSE status END,
        updated_at = now()
    WHERE subscription_uuid = p_subscription
    RETURNING organization_uuid INTO v_organization;
    IF FOUND THEN
        PERFORM runtime_key_keep(p_subscription, p_product, p_sealed);
    END IF;
    IF v_residue IS NOT NULL THEN
        PERFORM audit(p_subscription, v_organization, NULL, 'worker', 'residue',
                      jsonb_build_object('product', p_product, 'residue', v_residue));
    END IF;
    UPDATE provisioning_effect SET state = 'done', settled_at = now(), external_id = coalesce(external_id, p_external_id)
    WHERE subscription_uuid = p_subscription AND product = p_product AND state IN ('intended', 'unknown');
END $$;

-- A product's step is done: its id is recorded (NULL: it is gone) and its open effects are settled.
CREATE FUNCTION step_resource(p_job bigint, p_owner uuid, p_fence bigint, p_deadline_ms bigint, p_next job_step,
                              p_product text, p_external_id text, p_detail jsonb DEFAULT NULL, p_sealed bytea DEFAULT NULL)
RETURNS text LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    v text := job_guard(p_job, p_owner, p_fence, p_deadline_ms);
    v_subscription uuid;
BEGIN
    IF v = 'lost' THEN
        RETURN v;
    END IF;
    -- Superseded, but the object is there or gone all the same: keep what is known of it.
    SELECT subscription_uuid INTO v_subscription FROM provisioning_job WHERE id = p_job;
    PERFORM resource_record(v_subscription, p_product, p_external_id, p_detail, p_sealed);
    IF v = 'ok' THEN
        PERFORM job_advance(p_job, p_owner, p_fence, p_next);
    END IF;
    RETURN v;
END $$;

-- What a claimed job has to know beside what jobs_claim tells. Volatile, so that it sees what was committed while the
-- claim waited for its rows.
CREATE FUNCTION runtime_recorded(p_subscription uuid)
RETURNS TABLE (tenant_id text, langflow_key text, ragflow_key text) LANGUAGE plpgsql ROWS 1
SET search_path = agent_marketplace, pg_temp AS $$
BEGIN
    RETURN QUERY
    SELECT (SELECT c.knowledge_base_tenant FROM agent_config c WHERE c.subscription_uuid = p_subscription),
           (SELECT encode(k.sealed, 'hex') FROM agent_runtime_key k
            WHERE k.subscription_uuid = p_subscription AND k.product = 'langflow'),
           (SELECT encode(k.sealed, 'hex') FROM agent_runtime_key k
            WHERE k.subscription_uuid = p_subscription AND k.product = 'ragflow');
END $$;

GRANT SELECT, INSERT, UPDATE, DELETE ON agent_runtime_key TO provisioner_worker;
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA agent_marketplace FROM PUBLIC;
GRANT EXECUTE ON FUNCTION current_tenant() TO PUBLIC;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA agent_marketplace TO provisioner_worker;
REVOKE EXECUTE ON FUNCTION origin_host(text), domain_allowed(text, text[]) FROM provisioner_worker;
