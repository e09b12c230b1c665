-- Suspend, resume, update: what is wanted of a subscription has three parts, and its job is chosen from what is recorded.

ALTER TABLE subscription_event
    DROP CONSTRAINT subscription_event_type_check,
    DROP CONSTRAINT subscription_event_verdict_check,
    ADD CONSTRAINT subscription_event_type_check CHECK (type IN ('subscription.created', 'subscription.updated',
        'subscription.suspended', 'subscription.resumed', 'subscription.terminated')),
    ADD CONSTRAINT subscription_event_verdict_check CHECK (verdict IN ('applied', 'repeated', 'stale', 'noted'));

-- Each part is what the latest event that speaks of it said; so the wish follows from the events, not from the order in
-- which they came.
ALTER TABLE subscription
    ADD COLUMN alive        boolean,
    ADD COLUMN alive_at     timestamptz,
    ADD COLUMN spec_at      timestamptz,
    ADD COLUMN suspended    boolean NOT NULL DEFAULT false,
    ADD COLUMN suspended_at timestamptz;
COMMENT ON COLUMN subscription.alive IS 'created or terminated, whichever is later; NULL: neither is known';
COMMENT ON COLUMN subscription.spec_at IS 'when what spec says was ordered: created or updated';
COMMENT ON COLUMN subscription.suspended IS 'suspended, or resumed (or created), whichever is later';
UPDATE subscription SET alive = wanted IN ('present', 'suspended'), alive_at = wanted_at, suspended = wanted = 'suspended',
                        suspended_at = wanted_at, spec_at = CASE WHEN spec IS NOT NULL THEN wanted_at END;
ALTER TABLE subscription
    ADD CONSTRAINT subscription_alive_since CHECK ((alive IS NULL) = (alive_at IS NULL)),
    ADD CONSTRAINT subscription_over_is_not_wanted CHECK (alive IS DISTINCT FROM false OR wanted IN ('absent', 'purged'));

ALTER TABLE agent_config
    ADD COLUMN updating      boolean NOT NULL DEFAULT false,
    ADD COLUMN variables_due text[] NOT NULL DEFAULT '{}' CHECK (array_position(variables_due, NULL) IS NULL),
    DROP CONSTRAINT agent_config_ready_is_whole,
    ADD CONSTRAINT agent_config_ready_is_whole CHECK (status <> 'ready'
        OR (runtime_workspace_id IS NOT NULL AND api_key IS NOT NULL AND ready_at IS NOT NULL
            AND (knowledge_base_id IS NOT NULL OR NOT 'rag' = ANY (capabilities) OR updating)));
COMMENT ON COLUMN agent_config.updating IS 'it works on while an update goes on; retrieval that is new may not be there yet';
COMMENT ON COLUMN agent_config.variables_due IS
    'variables that an order changed and that are not known to be so in the workspace yet: written over a tenant''s own';

-- Update and resume bring everything that an order may change; a suspension refuses keys before anything else.
DELETE FROM job_plan WHERE kind IN ('update', 'suspend', 'resume');
INSERT INTO job_plan (kind, position, step) VALUES
    ('update', 1, 'name'), ('update', 2, 'collection'), ('update', 3, 'workspace'), ('update', 4, 'api_key'),
    ('update', 5, 'record'), ('update', 6, 'report'),
    ('suspend', 1, 'revoke'), ('suspend', 2, 'close_workspace'), ('suspend', 3, 'record'), ('suspend', 4, 'report'),
    ('resume', 1, 'name'), ('resume', 2, 'collection'), ('resume', 3, 'open_workspace'), ('resume', 4, 'api_key'),
    ('resume', 5, 'record'), ('resume', 6, 'report');

-- ---------------------------------------------------------------------------
-- Wishes

-- What the event makes of a wish. What is older than the last creation or termination has nothing to say.
CREATE FUNCTION wish_after(s subscription, p_type text, p_time timestamptz, p_data jsonb) RETURNS subscription
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF p_time < s.alive_at THEN
        RETURN s;
    END IF;
    IF p_type IN ('subscription.created', 'subscription.terminated') THEN
        s.alive := p_type = 'subscription.created';
        s.alive_at := p_time;
    END IF;
    IF p_type IN ('subscription.created', 'subscription.updated') AND p_time >= coalesce(s.spec_at, '-infinity') THEN
        s.spec := p_data;
        s.spec_at := p_time;
    END IF;
    IF p_type IN ('subscription.created', 'subscription.suspended', 'subscription.resumed')
       AND p_time >= coalesce(s.suspended_at, '-infinity') THEN
        s.suspended := p_type = 'subscription.suspended';
        s.suspended_at := p_time;
    END IF;
    s.wanted := CASE
        WHEN NOT s.alive AND s.wanted = 'purged' AND p_type <> 'subscription.terminated' THEN 'purged'
        WHEN NOT s.alive THEN 'absent'
        WHEN s.suspended THEN 'suspended'
        -- An update tells everything: one whose creation is not known makes what it tells of.
        WHEN s.spec IS NOT NULL THEN 'present'
        ELSE 'absent' END;
    RETURN s;
END $$;

-- The job that a wish calls for, by what is recorded: only what was whole once is updated or resumed, whatever the order
-- was called. NULL: nothing is to be done, nor was it ever.
CREATE FUNCTION wish_kind(s subscription) RETURNS job_kind
LANGUAGE plpgsql STABLE SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    c record;
BEGIN
    IF s.wanted = 'absent' THEN
        RETURN CASE WHEN s.alive IS NOT NULL THEN 'terminate' END::job_kind;
    ELSIF s.wanted <> 'present' THEN
        RETURN CASE s.wanted WHEN 'suspended' THEN 'suspend' ELSE 'purge' END::job_kind;
    END IF;
    SELECT x.status, x.runtime_workspace_id IS NOT NULL AND x.api_key IS NOT NULL AS whole INTO c
    FROM agent_config x WHERE x.subscription_uuid = s.uuid;
    RETURN CASE WHEN c.status = 'ready' THEN 'update'
                WHEN c.status = 'suspended' AND c.whole THEN 'resume'
                ELSE 'provision' END::job_kind;
END $$;

-- Ends what waits for an older wish, and queues the job for this one, in the lane of its probable runtime; what runs is
-- left to its next write.
CREATE OR REPLACE FUNCTION job_want(p_subscription uuid, p_deadline_ms bigint) RETURNS void
LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    s subscription;
    j record;
    v_kind job_kind;
    v_job bigint;
    v_runtime text;
BEGIN
    SELECT * INTO STRICT s FROM subscription WHERE uuid = p_subscription FOR NO KEY UPDATE;
    FOR j IN SELECT id, state FROM provisioning_job
             WHERE subscription_uuid = p_subscription AND state IN ('queued', 'running', 'retrying', 'held', 'failed')
             ORDER BY id FOR UPDATE LOOP
        IF j.state = 'running' THEN
            RETURN;
        END IF;
        PERFORM job_transition(j.id, NULL, NULL, 'superseded', 'inbox');
    END LOOP;
    v_kind := wish_kind(s);
    IF v_kind IS NULL THEN
        RETURN;
    END IF;
    v_runtime := coalesce((SELECT c.runtime_name FROM agent_config c WHERE c.subscription_uuid = s.uuid), s.runtime_name);
    INSERT INTO provisioning_job (subscription_uuid, organization_uuid, organization_slug, order_uuid, runtime_name, kind,
                                  generation, step, deadline_at, traceparent, lane, plan_tier, paused)
    SELECT s.uuid, coalesce(s.organization_uuid, '00000000-0000-0000-0000-000000000000'), coalesce(s.organization_slug, ''),
           s.order_uuid, v_runtime, v_kind,
           s.generation, p.step, now() + make_interval(secs => p_deadline_ms / 1000.0), s.traceparent,
           -- Keys are revoked, or refused, whatever becomes of the runtime.
           CASE WHEN p.step = 'revoke' THEN '' ELSE coalesce(v_runtime, '') END, s.spec #>> '{plan,tier}',
           EXISTS (SELECT FROM scheduling_pause x WHERE x.scope = 'subscription' AND x.target = s.uuid::text)
    FROM job_plan p WHERE p.kind = v_kind AND p.position = 1
    RETURNING id INTO v_job;
    PERFORM audit(s.uuid, s.organization_uuid, v_job, 'inbox', 'job.queued',
                  jsonb_build_object('kind', v_kind, 'generation', s.generation, 'order_uuid', s.order_uuid));
    PERFORM pg_notify('provisioner_jobs', '');
END $$;

DROP FUNCTION inbox_take(text, text, text, uuid, uuid, uuid, timestamptz, jsonb, text, text, integer, bigint, bigint);
-- Takes an event in. Verdicts: 'duplicate' (seen before), 'stale' (later ones have said all that it says), 'repeated' (says
-- what a job is already doing), 'noted' (kept in mind, but nothing is to be done: it counts once the others are here),
-- 'applied'. p_runtime_name: where the event's subscription would be placed today; NULL where nobody knows.
CREATE FUNCTION inbox_take(p_source text, p_event_id text, p_type text, p_subscription uuid, p_organization uuid,
                           p_order uuid, p_time timestamptz, p_data jsonb, p_traceparent text,
                           p_topic text, p_partition integer, p_offset bigint, p_deadline_ms bigint,
                           p_runtime_name text DEFAULT NULL)
RETURNS text LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    s subscription; -- as it was
    n subscription; -- as it shall be
    v_known boolean;
    v_verdict text;
    v_leads boolean; -- this event is what the wish is known by
    -- A producer's clock may be ahead, but no event may outrank the orders of days to come.
    v_time timestamptz := least(p_time, now() + interval '5 minutes');
    v_seq bigint;
BEGIN
    -- A row to lock comes first, so that two events of a new subscription meet here and nowhere later.
    INSERT INTO subscription (uuid, wanted, wanted_at, event_seq, order_uuid)
    VALUES (p_subscription, 'absent', '-infinity', 0, p_order) ON CONFLICT (uuid) DO NOTHING;
    v_known := NOT FOUND;
    SELECT * INTO STRICT s FROM subscription WHERE uuid = p_subscription FOR NO KEY UPDATE;
    -- Most events need not name their organization, which shall see them all the same.
    p_organization := coalesce(p_organization, s.organization_uuid);
    n := wish_after(s, p_type, v_time, p_data);
    v_verdict := CASE
        WHEN n IS NOT DISTINCT FROM s AND v_time < greatest(s.alive_at, s.spec_at, s.suspended_at) THEN 'stale'
        WHEN n.wanted <> s.wanted THEN 'applied'
        WHEN n.wanted IN ('absent', 'purged') AND p_type <> 'subscription.terminated' THEN 'noted'
        WHEN v_time < s.wanted_at AND n.spec IS NOT DISTINCT FROM s.spec THEN 'noted'
        WHEN p_order = s.order_uuid AND n.spec IS NOT DISTINCT FROM s.spec
             AND EXISTS (SELECT FROM provisioning_job WHERE subscription_uuid = p_subscription
                         AND generation = s.generation AND state IN ('queued', 'running', 'retrying', 'held')) THEN 'repeated'
        ELSE 'applied' END;
    INSERT INTO subscription_event (source, event_id, type, subscription_uuid, organization_uuid, order_uuid, event_time,
                                    kafka_topic, kafka_partition, kafka_offset, traceparent, verdict, data)
    VALUES (p_source, p_event_id, p_type, p_subscription, p_organization, p_order, p_time,
            p_topic, p_partition, p_offset, p_traceparent, v_verdict, p_data)
    ON CONFLICT ON CONSTRAINT subscription_event_once DO NOTHING
    RETURNING seq INTO v_seq;
    IF v_seq IS NULL THEN
        IF NOT v_known THEN
            -- The id was used for another subscription: nothing may be wanted because of it.
            DELETE FROM subscription WHERE uuid = p_subscription;
        END IF;
        RETURN 'duplicate';
    END IF;
    IF v_verdict IN ('stale', 'repeated') THEN
        PERFORM audit(p_subscription, s.organization_uuid, NULL, 'inbox', 'event.' || v_verdict,
                      jsonb_build_object('seq', v_seq, 'type', p_type, 'order_uuid', p_order));
        RETURN v_verdict;
    END IF;
    -- An older event may complete a wish; unless it makes it another one, a later order goes on speaking for it.
    v_leads := (v_verdict = 'applied' OR NOT v_known) AND (v_time >= s.wanted_at OR n.wanted <> s.wanted);
    UPDATE subscription SET
        wanted = n.wanted, alive = n.alive, alive_at = n.alive_at, spec = n.spec, spec_at = n.spec_at,
        suspended = n.suspended, suspended_at = n.suspended_at,
        generation = generation + (v_known AND v_verdict = 'applied')::integer,
        wanted_at = CASE WHEN v_leads THEN greatest(v_time, wanted_at) ELSE wanted_at END,
        event_seq = v_seq,
        order_uuid = CASE WHEN v_leads THEN p_order ELSE order_uuid END,
        organization_uuid = p_organization,
        organization_slug = coalesce(p_data #>> '{organization,slug}', organization_slug),
        runtime_name = CASE WHEN n.spec_at IS DISTINCT FROM s.spec_at OR n.spec IS DISTINCT FROM s.spec THEN p_runtime_name
                            ELSE runtime_name END,
        traceparent = CASE WHEN v_leads THEN p_traceparent ELSE traceparent END,
        updated_at = now()
    WHERE uuid = p_subscription;
    PERFORM audit(p_subscription, p_organization, NULL, 'inbox', 'event.' || v_verdict,
                  jsonb_build_object('seq', v_seq, 'type', p_type, 'order_uuid', p_order));
    IF v_verdict = 'applied' THEN
        PERFORM job_want(p_subscription, p_deadline_ms);
    END IF;
    RETURN v_verdict;
END $$;

-- ---------------------------------------------------------------------------
-- Steps

DROP FUNCTION step_name(bigint, uuid, bigint, bigint, job_step, text, text, text, jsonb);
-- Freezes name and runtime on first sight; refreshes what orders may change. What works goes on working meanwhile.
-- 'conflict:<uuid>' names the holder of a taken name.
CREATE FUNCTION step_name(p_job bigint, p_owner uuid, p_fence bigint, p_deadline_ms bigint, p_next job_step,
                          p_name text, p_runtime text, p_runtime_name text, p_config jsonb,
                          p_runtime_max integer DEFAULT NULL)
RETURNS text LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    v text := job_guard(p_job, p_owner, p_fence, p_deadline_ms);
    v_subscription uuid;
    v_holder uuid;
BEGIN
    IF v <> 'ok' THEN
        RETURN v;
    END IF;
    SELECT subscription_uuid INTO v_subscription FROM provisioning_job WHERE id = p_job;
    INSERT INTO agent_config (subscription_uuid, organization_uuid, organization_slug, project_uuid, project_slug,
                              offering_uuid, offering_type, plan_tier, capabilities, variables, runtime, runtime_name, name)
    SELECT v_subscription, x.organization_uuid, x.organization_slug, x.project_uuid, x.project_slug, x.offering_uuid,
           x.offering_type, x.plan_tier, x.capabilities, x.variables, p_runtime, p_runtime_name, p_name
    FROM jsonb_to_record(p_config) AS x(organization_uuid uuid, organization_slug text, project_uuid uuid, project_slug text,
                                        offering_uuid uuid, offering_type text, plan_tier text, capabilities text[],
                                        variables jsonb)
    ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        UPDATE agent_config c SET
            plan_tier = x.plan_tier, capabilities = x.capabilities, variables = x.variables,
            variables_due = coalesce(x.variables_due, '{}'), updating = c.status = 'ready',
            status = CASE WHEN c.status = 'ready' THEN c.status ELSE 'provisioning' END,
            status_reason = NULL, archived_at = NULL, updated_at = now()
        FROM jsonb_to_record(p_config) AS x(plan_tier text, capabilities text[], variables jsonb, variables_due text[])
        WHERE c.subscription_uuid = v_subscription;
        IF NOT FOUND THEN
            SELECT subscription_uuid INTO v_holder FROM agent_config WHERE name = p_name;
            RETURN 'conflict:' || coalesce(v_holder::text, 'unknown');
        END IF;
    END IF;
    UPDATE provisioning_job SET runtime_name = (SELECT c.runtime_name FROM agent_config c
                                                WHERE c.subscription_uuid = v_subscription)
    WHERE id = p_job;
    RETURN job_enter(p_job, p_owner, p_fence, p_next, p_runtime_max);
END $$;

-- p_detail: flow_id, run_url, tenant_id, residue; variables: true where the workspace has them all as ordered; what is
-- missing is none. p_sealed: the account's key.
CREATE OR REPLACE FUNCTION resource_record(p_subscription uuid, p_product text, p_external_id text, p_detail jsonb,
                                           p_sealed bytea)
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
        variables_due = CASE WHEN p_detail ->> 'variables' = 'true' THEN '{}' ELSE variables_due END,
        -- Retrieval that an order dropped is missed by nobody.
        status = CASE WHEN p_external_id IS NULL AND status = 'ready'
                           AND (p_product <> 'ragflow' OR 'rag' = ANY (capabilities)) THEN 'provisioning' ELSE status END,
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

CREATE OR REPLACE FUNCTION step_ready(p_job bigint, p_owner uuid, p_fence bigint, p_deadline_ms bigint, p_next job_step)
RETURNS text LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    v text := job_guard(p_job, p_owner, p_fence, p_deadline_ms);
BEGIN
    IF v <> 'ok' THEN
        RETURN v;
    END IF;
    UPDATE agent_config SET status = 'ready', status_reason = NULL, updating = false, ready_at = coalesce(
            CASE WHEN status = 'ready' THEN ready_at END, now()), archived_at = NULL, updated_at = now()
    WHERE subscription_uuid = (SELECT subscription_uuid FROM provisioning_job WHERE id = p_job);
    PERFORM outcome_emit(p_job, 'subscription.ready');
    PERFORM job_advance(p_job, p_owner, p_fence, p_next);
    RETURN 'ok';
END $$;

-- Keys are refused from here on; none is revoked.
CREATE FUNCTION step_refuse(p_job bigint, p_owner uuid, p_fence bigint, p_deadline_ms bigint, p_next job_step,
                            p_runtime_max integer DEFAULT NULL) RETURNS text
LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    v text := job_guard(p_job, p_owner, p_fence, p_deadline_ms);
BEGIN
    IF v <> 'ok' THEN
        RETURN v;
    END IF;
    UPDATE agent_config SET status = 'suspended', status_reason = NULL, archived_at = NULL, updated_at = now()
    WHERE subscription_uuid = (SELECT subscription_uuid FROM provisioning_job WHERE id = p_job);
    RETURN job_enter(p_job, p_owner, p_fence, p_next, p_runtime_max);
END $$;

-- Ends a suspension: no way in is left open.
CREATE FUNCTION step_suspended(p_job bigint, p_owner uuid, p_fence bigint, p_deadline_ms bigint, p_next job_step)
RETURNS text LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    v text := job_guard(p_job, p_owner, p_fence, p_deadline_ms);
BEGIN
    IF v <> 'ok' THEN
        RETURN v;
    END IF;
    PERFORM outcome_emit(p_job, 'subscription.paused');
    PERFORM job_advance(p_job, p_owner, p_fence, p_next);
    RETURN 'ok';
END $$;

-- 'subscription.paused' tells what 'subscription.suspended' has ordered.
CREATE OR REPLACE FUNCTION outcome_emit(p_job bigint, p_type text, p_error_class text DEFAULT NULL, p_error text DEFAULT NULL)
RETURNS void LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
BEGIN
    INSERT INTO outbox (subscription_uuid, type, payload)
    SELECT j.subscription_uuid, p_type, jsonb_strip_nulls(jsonb_build_object(
        'specversion', '1.0', 'id', 'job-' || j.id || '-' || j.fence || '-' || split_part(p_type, '.', 2),
        'source', '/provisioner', 'type', p_type, 'subject', j.subscription_uuid,
        'time', to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'datacontenttype', 'application/json', 'traceparent', j.traceparent,
        'data', jsonb_build_object(
            'subscription_uuid', j.subscription_uuid, 'order_uuid', j.order_uuid, 'name', c.name,
            'status', coalesce(c.status::text, CASE p_type WHEN 'subscription.paused' THEN 'suspended'
                                                           ELSE split_part(p_type, '.', 2) END),
            'runtime_name', c.runtime_name, 'workspace_id', c.runtime_workspace_id,
            'knowledge_base_id', c.knowledge_base_id, 'api_key_prefix', c.api_key,
            'step', CASE WHEN p_error IS NULL THEN NULL ELSE j.step END,
            'error_class', p_error_class, 'error', p_error)))
    FROM provisioning_job j LEFT JOIN agent_config c ON c.subscription_uuid = j.subscription_uuid
    WHERE j.id = p_job;
END $$;

CREATE OR REPLACE FUNCTION job_settle(p_job bigint, p_owner uuid, p_fence bigint, p_deadline_ms bigint, p_to job_state,
                                      p_attempts integer, p_delay_ms bigint, p_error_class text, p_error text)
RETURNS text LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    v text := job_guard(p_job, p_owner, p_fence, p_deadline_ms, false);
BEGIN
    IF v <> 'ok' THEN
        RETURN v;
    END IF;
    IF NOT job_transition(p_job, p_owner, p_fence, p_to, 'worker', p_attempts => p_attempts, p_delay_ms => p_delay_ms,
                          p_error_class => p_error_class, p_error => p_error) THEN
        RAISE EXCEPTION 'job % lost its fence between guard and write', p_job;
    END IF;
    IF p_to = 'failed' THEN
        -- A subscription that works goes on working, one that is shut stays so: only the job has failed.
        UPDATE agent_config c SET status = CASE WHEN c.status IN ('ready', 'archived', 'suspended') THEN c.status
                                                ELSE 'failed' END,
                                  status_reason = j.step || ': ' || p_error, updated_at = now()
        FROM provisioning_job j WHERE j.id = p_job AND c.subscription_uuid = j.subscription_uuid;
        PERFORM outcome_emit(p_job, 'subscription.failed', p_error_class, p_error);
    END IF;
    RETURN 'ok';
END $$;

-- ---------------------------------------------------------------------------
-- What people ask for

-- Runs a failed or cancelled job again from p_step (NULL: the step that failed). Verdicts: 'queued', 'none' (no such job),
-- 'superseded' (a newer wish exists), 'bad step'.
CREATE OR REPLACE FUNCTION job_replay(p_subscription uuid, p_step job_step, p_deadline_ms bigint, p_actor text, p_dry_run boolean)
RETURNS TABLE (verdict text, job_id bigint, kind job_kind, step job_step) LANGUAGE plpgsql
SET search_path = agent_marketplace, pg_temp AS $$
#variable_conflict use_column
DECLARE
    s subscription;
    j provisioning_job;
BEGIN
    SELECT * INTO s FROM subscription WHERE uuid = p_subscription FOR NO KEY UPDATE;
    SELECT * INTO j FROM provisioning_job x WHERE x.subscription_uuid = p_subscription AND x.state IN ('failed', 'cancelled')
    ORDER BY x.id DESC LIMIT 1 FOR UPDATE;
    IF NOT FOUND THEN
        verdict := 'none';
        RETURN NEXT;
        RETURN;
    END IF;
    job_id := j.id;
    kind := j.kind;
    step := coalesce(p_step, j.step);
    IF s.generation <> j.generation THEN
        verdict := 'superseded';
    ELSIF NOT EXISTS (SELECT FROM job_plan p WHERE p.kind = j.kind AND p.step = coalesce(p_step, j.step)
                      AND p.position <= (SELECT q.position FROM job_plan q WHERE q.kind = j.kind AND q.step = j.step)) THEN
        verdict := 'bad step';
    ELSE
        verdict := 'queued';
        IF NOT p_dry_run THEN
            UPDATE provisioning_job SET deadline_at = now() + make_interval(secs => p_deadline_ms / 1000.0) WHERE id = j.id;
            PERFORM job_transition(j.id, NULL, NULL, 'queued', p_actor, p_step => coalesce(p_step, j.step), p_attempts => 0);
            UPDATE agent_config SET status = CASE WHEN j.kind IN ('provision', 'update', 'resume') THEN 'provisioning'
                                                  WHEN j.kind = 'suspend' THEN 'suspended'
                                                  ELSE 'terminating' END::agent_status,
                                    status_reason = NULL, updated_at = now()
            WHERE subscription_uuid = p_subscription AND status = 'failed';
            PERFORM pg_notify('provisioner_jobs', '');
        END IF;
    END IF;
    RETURN NEXT;
END $$;

DROP FUNCTION runtime_recorded(uuid);
-- What a claimed job has to know beside what jobs_claim tells. Volatile, so that it sees what was committed while the
-- claim waited for its rows.
CREATE FUNCTION runtime_recorded(p_subscription uuid)
RETURNS TABLE (tenant_id text, langflow_key text, ragflow_key text, variables text, variables_due text,
               collection_asked boolean)
LANGUAGE plpgsql ROWS 1 SET search_path = agent_marketplace, pg_temp AS $$
#variable_conflict use_column
DECLARE
    c record;
BEGIN
    SELECT x.knowledge_base_tenant, x.variables::text, array_to_json(x.variables_due)::text AS due INTO c
    FROM agent_config x WHERE x.subscription_uuid = p_subscription;
    RETURN QUERY
    SELECT c.knowledge_base_tenant,
           (SELECT encode(k.sealed, 'hex') FROM agent_runtime_key k
            WHERE k.subscription_uuid = p_subscription AND k.product = 'langflow'),
           (SELECT encode(k.sealed, 'hex') FROM agent_runtime_key k
            WHERE k.subscription_uuid = p_subscription AND k.product = 'ragflow'),
           c.variables, c.due,
           -- Whatever became of it: what landed late is looked for, though no order wants retrieval any more.
           EXISTS (SELECT FROM provisioning_effect e WHERE e.subscription_uuid = p_subscription AND e.product = 'ragflow');
END $$;

REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA agent_marketplace FROM PUBLIC;
GRANT EXECUTE ON FUNCTION current_tenant() TO PUBLIC;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA agent_marketplace TO provisioner_worker;
REVOKE EXECUTE ON FUNCTION origin_host(text), domain_allowed(text, text[]) FROM provisioner_worker;
