-- The statements that the worker sends. Each is one call and atomic, so that many ride in one commit.
-- Locks are always taken in one order: subscription, then its job, then the rest.
-- Verdicts: 'ok'; 'lost' (the fence or the lease is somebody else's now: drop the work); 'superseded' (a newer
-- wish exists: this job has ended and its successor is queued).

-- In plpgsql, as all that is called for every job: it keeps its plans, while a function in SQL is parsed at each call.
CREATE FUNCTION audit(p_subscription uuid, p_organization uuid, p_job bigint, p_actor text, p_action text, p_detail jsonb)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO agent_marketplace.audit_log (subscription_uuid, organization_uuid, job_id, actor, action, detail)
    VALUES (p_subscription, p_organization, p_job, p_actor, p_action, jsonb_strip_nulls(p_detail));
END $$;

-- The one place where a job's state changes. p_fence NULL: the caller holds the row's lock and needs no lease.
CREATE FUNCTION job_transition(p_job bigint, p_owner uuid, p_fence bigint, p_to job_state, p_actor text,
                               p_step job_step DEFAULT NULL, p_attempts integer DEFAULT NULL,
                               p_delay_ms bigint DEFAULT 0, p_error_class text DEFAULT NULL, p_error text DEFAULT NULL,
                               p_new_owner uuid DEFAULT NULL)
RETURNS boolean LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    old provisioning_job;
BEGIN
    SELECT * INTO old FROM provisioning_job WHERE id = p_job FOR UPDATE;
    IF NOT FOUND OR (p_fence IS NOT NULL
                     AND (old.fence <> p_fence OR old.lease_owner IS DISTINCT FROM p_owner OR old.state <> 'running')) THEN
        RETURN false;
    END IF;
    UPDATE provisioning_job SET
        state = p_to,
        step = coalesce(p_step, step),
        attempts = coalesce(p_attempts, attempts),
        next_attempt_at = CASE WHEN p_to IN ('queued', 'retrying', 'held')
                               THEN now() + make_interval(secs => p_delay_ms / 1000.0) ELSE next_attempt_at END,
        lease_owner = CASE WHEN p_to = 'running' THEN coalesce(p_new_owner, lease_owner) END,
        fence = fence + CASE WHEN p_new_owner IS NULL THEN 0 ELSE 1 END,
        error_class = CASE WHEN p_to = 'running' THEN error_class ELSE p_error_class END,
        error = CASE WHEN p_to = 'running' THEN error ELSE p_error END,
        finished_at = CASE WHEN p_to IN ('queued', 'running', 'retrying', 'held') THEN NULL ELSE now() END,
        updated_at = now()
    WHERE id = p_job;
    PERFORM audit(old.subscription_uuid, old.organization_uuid, p_job, p_actor,
                  CASE WHEN p_to = 'running' AND p_new_owner IS NULL THEN 'step' ELSE 'job.' || p_to END,
                  jsonb_build_object('from', old.state, 'step', old.step, 'next_step', p_step, 'attempts', p_attempts,
                                     'fence', CASE WHEN p_new_owner IS NULL THEN old.fence ELSE old.fence + 1 END,
                                     'error_class', p_error_class, 'error', p_error,
                                     'delay_ms', nullif(p_delay_ms, 0)));
    RETURN true;
END $$;

-- Queues the job that the subscription's wish calls for; whatever waits for an older wish is superseded. A running
-- job is left alone: it meets the newer generation at its next write, ends, and calls this again.
CREATE FUNCTION job_want(p_subscription uuid, p_deadline_ms bigint) RETURNS void
LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    s subscription;
    j record;
    v_kind job_kind;
    v_job bigint;
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
    v_kind := CASE s.wanted WHEN 'present' THEN 'provision' WHEN 'suspended' THEN 'suspend'
                            WHEN 'absent' THEN 'terminate' ELSE 'purge' END::job_kind;
    INSERT INTO provisioning_job (subscription_uuid, organization_uuid, organization_slug, order_uuid, runtime_name, kind,
                                  generation, step, deadline_at, traceparent)
    SELECT s.uuid, coalesce(s.organization_uuid, '00000000-0000-0000-0000-000000000000'), coalesce(s.organization_slug, ''),
           s.order_uuid, (SELECT c.runtime_name FROM agent_config c WHERE c.subscription_uuid = s.uuid), v_kind,
           s.generation, p.step, now() + make_interval(secs => p_deadline_ms / 1000.0), s.traceparent
    FROM job_plan p WHERE p.kind = v_kind AND p.position = 1
    RETURNING id INTO v_job;
    PERFORM audit(s.uuid, s.organization_uuid, v_job, 'inbox', 'job.queued',
                  jsonb_build_object('kind', v_kind, 'generation', s.generation, 'order_uuid', s.order_uuid));
    PERFORM pg_notify('provisioner_jobs', '');
END $$;

-- Takes an event in. Verdicts: 'duplicate' (seen before), 'stale' (a later order is known), 'repeated' (says what
-- a job is already doing), 'applied'.
CREATE FUNCTION inbox_take(p_source text, p_event_id text, p_type text, p_subscription uuid, p_organization uuid,
                           p_order uuid, p_time timestamptz, p_data jsonb, p_traceparent text,
                           p_topic text, p_partition integer, p_offset bigint, p_deadline_ms bigint)
RETURNS text LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    s subscription;
    v_wanted wanted_state := CASE p_type WHEN 'subscription.created' THEN 'present' ELSE 'absent' END;
    v_known boolean;
    v_verdict text := 'applied';
    -- A producer's clock may be ahead, but no event may outrank the orders of days to come.
    v_time timestamptz := least(p_time, now() + interval '5 minutes');
    v_seq bigint;
BEGIN
    -- A row to lock comes first, so that two events of a new subscription meet here and nowhere later.
    INSERT INTO subscription (uuid, wanted, wanted_at, event_seq, order_uuid, organization_uuid, organization_slug, spec,
                              traceparent)
    VALUES (p_subscription, v_wanted, v_time, 0, p_order, p_organization, p_data #>> '{organization,slug}',
            CASE WHEN v_wanted = 'present' THEN p_data END, p_traceparent)
    ON CONFLICT (uuid) DO NOTHING;
    v_known := NOT FOUND;
    SELECT * INTO STRICT s FROM subscription WHERE uuid = p_subscription FOR NO KEY UPDATE;
    -- A termination need not name its organization, which shall see it all the same.
    p_organization := coalesce(p_organization, s.organization_uuid);
    IF v_known THEN
        IF v_time < s.wanted_at THEN
            v_verdict := 'stale';
        ELSIF v_wanted = s.wanted AND p_order = s.order_uuid AND (v_wanted <> 'present' OR p_data = s.spec)
              AND EXISTS (SELECT FROM provisioning_job WHERE subscription_uuid = p_subscription
                          AND generation = s.generation AND state IN ('queued', 'running', 'retrying', 'held')) THEN
            v_verdict := 'repeated';
        END IF;
    END IF;
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
    IF v_verdict <> 'applied' THEN
        PERFORM audit(p_subscription, s.organization_uuid, NULL, 'inbox', 'event.' || v_verdict,
                      jsonb_build_object('seq', v_seq, 'type', p_type, 'order_uuid', p_order));
        RETURN v_verdict;
    END IF;
    UPDATE subscription SET
        wanted = v_wanted,
        generation = generation + v_known::integer,
        wanted_at = v_time,
        event_seq = v_seq,
        order_uuid = p_order,
        organization_uuid = p_organization,
        organization_slug = coalesce(p_data #>> '{organization,slug}', organization_slug),
        spec = CASE WHEN v_wanted = 'present' THEN p_data ELSE spec END,
        traceparent = p_traceparent,
        updated_at = now()
    WHERE uuid = p_subscription;
    PERFORM audit(p_subscription, p_organization, NULL, 'inbox', 'event.applied',
                  jsonb_build_object('seq', v_seq, 'type', p_type, 'order_uuid', p_order));
    PERFORM job_want(p_subscription, p_deadline_ms);
    RETURN 'applied';
END $$;

-- ---------------------------------------------------------------------------
-- Workers and claims

CREATE FUNCTION worker_register(p_owner uuid, p_host text, p_pid integer, p_version text, p_lease_ms bigint)
RETURNS void LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
BEGIN
    DELETE FROM worker w WHERE lease_until < now() - interval '1 hour'
        AND NOT EXISTS (SELECT FROM provisioning_job j WHERE j.lease_owner = w.owner AND j.state = 'running');
    INSERT INTO worker (owner, host, pid, version, lease_until)
    VALUES (p_owner, p_host, p_pid, p_version, now() + make_interval(secs => p_lease_ms / 1000.0));
END $$;

-- True while the lease could be renewed; a lease that ran out is never revived: register anew.
CREATE FUNCTION worker_renew(p_owner uuid, p_lease_ms bigint) RETURNS boolean
LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
BEGIN
    -- By the clock, not by the transaction's beginning: it may have waited for this row.
    UPDATE worker SET lease_until = now() + make_interval(secs => p_lease_ms / 1000.0)
    WHERE owner = p_owner AND lease_until > clock_timestamp();
    RETURN FOUND;
END $$;

-- Gives everything back at once: the jobs wait for others, the lease is over. Returns the number of jobs.
CREATE FUNCTION worker_leave(p_owner uuid) RETURNS integer
LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    j record;
    n integer := 0;
BEGIN
    UPDATE worker SET lease_until = '-infinity' WHERE owner = p_owner;
    FOR j IN SELECT id FROM provisioning_job WHERE lease_owner = p_owner AND state = 'running'
             ORDER BY id FOR UPDATE SKIP LOCKED LOOP
        BEGIN
            PERFORM job_transition(j.id, NULL, NULL, 'queued', 'drain');
            n := n + 1;
        EXCEPTION WHEN OTHERS THEN
            NULL; -- its own trouble; the lease is over all the same
        END;
    END LOOP;
    IF n > 0 THEN
        PERFORM pg_notify('provisioner_jobs', '');
    END IF;
    DELETE FROM worker w WHERE owner = p_owner
        AND NOT EXISTS (SELECT FROM provisioning_job WHERE lease_owner = p_owner AND state = 'running');
    RETURN n;
END $$;

-- Changes whose outcome is open: how many; how old the newest is that may still make or change something; whether one
-- is an update; the id that one deletes, as it stood in the URL.
CREATE FUNCTION open_effects(p_subscription uuid, p_product text)
RETURNS TABLE (n bigint, age_ms bigint, updating boolean, deleting text) LANGUAGE sql STABLE ROWS 1 AS $$
    SELECT count(*), coalesce((extract(epoch FROM now() - max(intended_at) FILTER (WHERE method <> 'DELETE')) * 1000)::bigint,
                              1000000000000),
           coalesce(bool_or(method IN ('PATCH', 'PUT')), false),
           max(regexp_replace(target, '^.*/', '')) FILTER (WHERE method = 'DELETE')
    FROM agent_marketplace.provisioning_effect
    WHERE subscription_uuid = p_subscription AND product = p_product AND state IN ('intended', 'unknown')
$$;

-- One job for p_owner. p_careful: one that cannot be written is passed over, and keeps nobody else waiting.
CREATE FUNCTION job_take(p_job bigint, p_owner uuid, p_actor text, p_careful boolean) RETURNS boolean
LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
BEGIN
    IF NOT p_careful THEN
        RETURN job_transition(p_job, NULL, NULL, 'running', p_actor, p_new_owner => p_owner);
    END IF;
    BEGIN
        RETURN job_transition(p_job, NULL, NULL, 'running', p_actor, p_new_owner => p_owner);
    EXCEPTION WHEN OTHERS THEN
        RETURN false;
    END;
END $$;

-- Up to p_limit jobs for p_owner: first those of dead workers, then what is due, organization after organization
-- from p_after onward, p_share each a round. p_only restricts to these jobs. Never waits for a lock.
CREATE FUNCTION jobs_claim(p_owner uuid, p_limit integer, p_after uuid, p_share integer, p_only bigint[],
                           p_careful boolean DEFAULT false)
RETURNS TABLE (job_id bigint, fence bigint, subscription_uuid uuid, kind job_kind, step job_step, attempts integer,
               deadline_left_ms bigint, waited_ms bigint, takeover boolean, organization_uuid uuid, organization_slug text,
               order_uuid uuid, generation bigint, traceparent text, spec text,
               name text, runtime_name text, workspace_id text, collection_id text, status agent_status, capabilities text,
               langflow_open boolean, ragflow_open boolean,
               langflow_age_ms bigint, langflow_update boolean, langflow_delete text,
               ragflow_age_ms bigint, ragflow_update boolean, ragflow_delete text)
LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
#variable_conflict use_column
DECLARE
    ids bigint[] := '{}';
    dead bigint[] := '{}';
    r record;
    v_id bigint;
    org uuid := p_after;
    next_org uuid;
    rounds integer := 0;
    found_in_round boolean := false;
    orgs_seen integer := 0;
BEGIN
    -- Locked, so that a worker_leave beside us sees the jobs or we see that it has left: a job whose owner has no row
    -- would never be taken over.
    PERFORM FROM worker w WHERE w.owner = p_owner AND w.lease_until > now() FOR SHARE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    FOR r IN SELECT j.id FROM worker w JOIN provisioning_job j ON j.lease_owner = w.owner AND j.state = 'running'
             WHERE w.lease_until <= now() AND (p_only IS NULL OR j.id = ANY (p_only))
             LIMIT p_limit FOR UPDATE OF j SKIP LOCKED FOR SHARE OF w SKIP LOCKED LOOP
        CONTINUE WHEN NOT job_take(r.id, p_owner, 'takeover', p_careful);
        ids := ids || r.id;
        dead := dead || r.id;
    END LOOP;
    IF p_only IS NOT NULL THEN
        FOREACH v_id IN ARRAY p_only LOOP
            EXIT WHEN cardinality(ids) >= p_limit;
            SELECT j.state, j.next_attempt_at INTO r FROM provisioning_job j WHERE j.id = v_id FOR UPDATE SKIP LOCKED;
            IF FOUND AND r.state IN ('queued', 'retrying', 'held') AND r.next_attempt_at <= now() THEN
                CONTINUE WHEN NOT job_take(v_id, p_owner, 'claim', p_careful);
                ids := ids || v_id;
            END IF;
        END LOOP;
    ELSIF EXISTS (SELECT FROM provisioning_job j WHERE j.state IN ('queued', 'retrying', 'held')
                  AND j.next_attempt_at AT TIME ZONE 'UTC' <= now() AT TIME ZONE 'UTC') THEN
        WHILE cardinality(ids) < p_limit AND orgs_seen < 4096 LOOP
            SELECT j.organization_uuid INTO next_org FROM provisioning_job j
            WHERE j.state IN ('queued', 'retrying', 'held') AND j.organization_uuid > org
            ORDER BY j.organization_uuid LIMIT 1;
            IF next_org IS NULL THEN
                -- Round about: once more from the start, as long as rounds still find something.
                EXIT WHEN rounds > 0 AND NOT found_in_round;
                rounds := rounds + 1;
                found_in_round := false;
                org := '00000000-0000-0000-0000-000000000000';
                -- Work without a known organization has the nil UUID, which nothing is below: served here.
                next_org := org;
            END IF;
            org := next_org;
            orgs_seen := orgs_seen + 1;
            FOR r IN SELECT j.id FROM provisioning_job j
                     WHERE j.state IN ('queued', 'retrying', 'held') AND j.organization_uuid = org
                     AND j.next_attempt_at <= now()
                     ORDER BY j.next_attempt_at LIMIT least(p_share, p_limit - cardinality(ids))
                     FOR UPDATE SKIP LOCKED LOOP
                CONTINUE WHEN NOT job_take(r.id, p_owner, 'claim', p_careful);
                ids := ids || r.id;
                found_in_round := true;
            END LOOP;
        END LOOP;
        IF cardinality(ids) = 0 AND orgs_seen >= 4096 THEN
            -- So many organizations wait for a later time that the walk met no other: what is due longest.
            FOR r IN SELECT j.id FROM provisioning_job j
                     WHERE j.state IN ('queued', 'retrying', 'held')
                     AND j.next_attempt_at AT TIME ZONE 'UTC' <= now() AT TIME ZONE 'UTC'
                     ORDER BY j.next_attempt_at AT TIME ZONE 'UTC' LIMIT p_limit FOR UPDATE SKIP LOCKED LOOP
                CONTINUE WHEN NOT job_take(r.id, p_owner, 'claim', p_careful);
                ids := ids || r.id;
            END LOOP;
        END IF;
    END IF;
    -- Row by row (OFFSET 0 keeps it so): a worker's plans may date from when the tables were empty, and a join of many
    -- rows made then would read whole tables today.
    RETURN QUERY
    SELECT y.* FROM unnest(ids) WITH ORDINALITY AS x(id, n) CROSS JOIN LATERAL (
        SELECT j.id, j.fence, j.subscription_uuid, j.kind, j.step, j.attempts,
               (extract(epoch FROM j.deadline_at - now()) * 1000)::bigint,
               (extract(epoch FROM now() - j.created_at) * 1000)::bigint,
               j.id = ANY (dead), j.organization_uuid, j.organization_slug, j.order_uuid, j.generation, j.traceparent,
               s.spec::text, c.name, c.runtime_name, c.runtime_workspace_id, c.knowledge_base_id, c.status,
               array_to_json(c.capabilities)::text,
               l.n > 0, r.n > 0, l.age_ms, l.updating, l.deleting, r.age_ms, r.updating, r.deleting
        FROM provisioning_job j JOIN subscription s ON s.uuid = j.subscription_uuid
        LEFT JOIN agent_config c ON c.subscription_uuid = j.subscription_uuid
        CROSS JOIN LATERAL open_effects(j.subscription_uuid, 'langflow') l
        CROSS JOIN LATERAL open_effects(j.subscription_uuid, 'ragflow') r
        WHERE j.id = x.id OFFSET 0) AS y
    ORDER BY x.n;
END $$;

-- Jobs that the worker had to drop while its lease goes on: they wait for whoever claims them next. Never waits for a
-- lock, and one job's own trouble keeps no other back. Returns those that are still the worker's.
CREATE FUNCTION jobs_back(p_owner uuid, p_jobs bigint[], p_fences bigint[]) RETURNS SETOF bigint
LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    r record;
BEGIN
    FOR r IN SELECT j.id FROM unnest(p_jobs, p_fences) AS x(id, fence) JOIN provisioning_job j USING (id, fence)
             WHERE j.lease_owner = p_owner AND j.state = 'running' ORDER BY j.id FOR UPDATE OF j SKIP LOCKED LOOP
        BEGIN
            PERFORM job_transition(r.id, NULL, NULL, 'queued', 'worker', p_delay_ms => 1000);
        EXCEPTION WHEN OTHERS THEN
            NULL;
        END;
    END LOOP;
    RETURN QUERY SELECT j.id FROM unnest(p_jobs, p_fences) AS x(id, fence) JOIN provisioning_job j USING (id, fence)
                 WHERE j.lease_owner = p_owner AND j.state = 'running';
END $$;

-- ---------------------------------------------------------------------------
-- What a running job writes. All begin with the guard.

CREATE FUNCTION job_guard(p_job bigint, p_owner uuid, p_fence bigint, p_deadline_ms bigint) RETURNS text
LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    s record;
    j record;
BEGIN
    SELECT x.uuid, x.generation INTO s FROM subscription x
    WHERE x.uuid = (SELECT subscription_uuid FROM provisioning_job WHERE id = p_job) FOR NO KEY UPDATE;
    SELECT x.state, x.lease_owner, x.fence, x.generation INTO j FROM provisioning_job x WHERE x.id = p_job FOR UPDATE;
    IF NOT FOUND OR j.state <> 'running' OR j.lease_owner IS DISTINCT FROM p_owner
       OR j.fence IS DISTINCT FROM p_fence THEN
        RETURN 'lost';
    END IF;
    IF s.generation > j.generation THEN
        PERFORM job_transition(p_job, p_owner, p_fence, 'superseded', 'worker');
        PERFORM job_want(s.uuid, p_deadline_ms);
        RETURN 'superseded';
    END IF;
    RETURN 'ok';
END $$;

-- The next step, or the job's end where p_next is NULL.
CREATE FUNCTION job_advance(p_job bigint, p_owner uuid, p_fence bigint, p_next job_step) RETURNS void
LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
BEGIN
    IF NOT job_transition(p_job, p_owner, p_fence, CASE WHEN p_next IS NULL THEN 'succeeded' ELSE 'running' END::job_state,
                          'worker', p_step => p_next, p_attempts => 0) THEN
        RAISE EXCEPTION 'job % lost its fence between guard and write', p_job;
    END IF;
END $$;

CREATE FUNCTION outcome_emit(p_job bigint, p_type text, p_error_class text DEFAULT NULL, p_error text DEFAULT NULL)
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
            'status', coalesce(c.status::text, split_part(p_type, '.', 2)),
            'runtime_name', c.runtime_name, 'workspace_id', c.runtime_workspace_id,
            'knowledge_base_id', c.knowledge_base_id, 'api_key_prefix', c.api_key,
            'step', CASE WHEN p_error IS NULL THEN NULL ELSE j.step END,
            'error_class', p_error_class, 'error', p_error)))
    FROM provisioning_job j LEFT JOIN agent_config c ON c.subscription_uuid = j.subscription_uuid
    WHERE j.id = p_job;
END $$;

-- A step that writes nothing of its own.
CREATE FUNCTION step_pass(p_job bigint, p_owner uuid, p_fence bigint, p_deadline_ms bigint, p_next job_step) RETURNS text
LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    v text := job_guard(p_job, p_owner, p_fence, p_deadline_ms);
BEGIN
    IF v = 'ok' THEN
        PERFORM job_advance(p_job, p_owner, p_fence, p_next);
    END IF;
    RETURN v;
END $$;

-- Freezes name and runtime on first sight; refreshes what orders may change. 'conflict:<uuid>' names the holder of
-- a taken name.
CREATE FUNCTION step_name(p_job bigint, p_owner uuid, p_fence bigint, p_deadline_ms bigint, p_next job_step,
                          p_name text, p_runtime text, p_runtime_name text, p_config jsonb)
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
            status = CASE WHEN c.status = 'ready' AND (c.knowledge_base_id IS NOT NULL OR NOT 'rag' = ANY (x.capabilities))
                          THEN c.status ELSE 'provisioning' END,
            status_reason = NULL, archived_at = NULL, updated_at = now()
        FROM jsonb_to_record(p_config) AS x(plan_tier text, capabilities text[], variables jsonb)
        WHERE c.subscription_uuid = v_subscription;
        IF NOT FOUND THEN
            SELECT subscription_uuid INTO v_holder FROM agent_config WHERE name = p_name;
            RETURN 'conflict:' || coalesce(v_holder::text, 'unknown');
        END IF;
    END IF;
    UPDATE provisioning_job SET runtime_name = (SELECT c.runtime_name FROM agent_config c
                                                WHERE c.subscription_uuid = v_subscription)
    WHERE id = p_job;
    PERFORM job_advance(p_job, p_owner, p_fence, p_next);
    RETURN 'ok';
END $$;

-- A product's step is done: its id is recorded (NULL: it is gone) and its open effects are settled.
CREATE FUNCTION step_resource(p_job bigint, p_owner uuid, p_fence bigint, p_deadline_ms bigint, p_next job_step,
                              p_product text, p_external_id text)
RETURNS text LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    v text := job_guard(p_job, p_owner, p_fence, p_deadline_ms);
    v_subscription uuid;
BEGIN
    SELECT subscription_uuid INTO v_subscription FROM provisioning_job WHERE id = p_job;
    IF v <> 'ok' THEN
        -- Superseded, but the object is there or gone all the same: keep what is known of it.
        IF v = 'superseded' THEN
            PERFORM resource_record(v_subscription, p_product, p_external_id);
        END IF;
        RETURN v;
    END IF;
    PERFORM resource_record(v_subscription, p_product, p_external_id);
    PERFORM job_advance(p_job, p_owner, p_fence, p_next);
    RETURN 'ok';
END $$;

CREATE FUNCTION resource_record(p_subscription uuid, p_product text, p_external_id text) RETURNS void
LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
BEGIN
    UPDATE agent_config SET
        runtime_workspace_id = CASE WHEN p_product = 'langflow' THEN p_external_id ELSE runtime_workspace_id END,
        knowledge_base_id = CASE WHEN p_product = 'ragflow' THEN p_external_id ELSE knowledge_base_id END,
        status = CASE WHEN p_external_id IS NULL AND status = 'ready' THEN 'provisioning' ELSE status END,
        updated_at = now()
    WHERE subscription_uuid = p_subscription;
    UPDATE provisioning_effect SET state = 'done', settled_at = now(), external_id = coalesce(external_id, p_external_id)
    WHERE subscription_uuid = p_subscription AND product = p_product AND state IN ('intended', 'unknown');
END $$;

-- One live key: an existing one keeps its secret and takes the new terms.
CREATE FUNCTION step_api_key(p_job bigint, p_owner uuid, p_fence bigint, p_deadline_ms bigint, p_next job_step,
                             p_prefix text, p_hash bytea, p_sealed bytea, p_terms jsonb)
RETURNS text LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    v text := job_guard(p_job, p_owner, p_fence, p_deadline_ms);
    c agent_config;
    v_prefix text;
BEGIN
    IF v <> 'ok' THEN
        RETURN v;
    END IF;
    SELECT a.* INTO STRICT c FROM agent_config a JOIN provisioning_job j ON j.subscription_uuid = a.subscription_uuid
    WHERE j.id = p_job;
    UPDATE agent_api_key k SET permissions = x.permissions, allowed_domains = x.allowed_domains, rate_limit = x.rate_limit,
                               expires_at = x.expires_at
    FROM jsonb_to_record(p_terms) AS x(permissions text[], allowed_domains text[], rate_limit text, expires_at timestamptz)
    WHERE k.subscription_uuid = c.subscription_uuid AND k.revoked_at IS NULL
    RETURNING k.prefix INTO v_prefix;
    IF v_prefix IS NULL THEN
        INSERT INTO agent_api_key (subscription_uuid, organization_uuid, prefix, key_hash, sealed_key, permissions,
                                   allowed_domains, rate_limit, expires_at)
        SELECT c.subscription_uuid, c.organization_uuid, p_prefix, p_hash, p_sealed, x.permissions, x.allowed_domains,
               x.rate_limit, x.expires_at
        FROM jsonb_to_record(p_terms) AS x(permissions text[], allowed_domains text[], rate_limit text, expires_at timestamptz);
        v_prefix := p_prefix;
        PERFORM audit(c.subscription_uuid, c.organization_uuid, p_job, 'worker', 'api_key.created',
                      jsonb_build_object('prefix', p_prefix));
    END IF;
    UPDATE agent_config SET api_key = v_prefix, updated_at = now() WHERE subscription_uuid = c.subscription_uuid;
    PERFORM job_advance(p_job, p_owner, p_fence, p_next);
    RETURN 'ok';
END $$;

CREATE FUNCTION step_ready(p_job bigint, p_owner uuid, p_fence bigint, p_deadline_ms bigint, p_next job_step) RETURNS text
LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    v text := job_guard(p_job, p_owner, p_fence, p_deadline_ms);
BEGIN
    IF v <> 'ok' THEN
        RETURN v;
    END IF;
    UPDATE agent_config SET status = 'ready', status_reason = NULL, ready_at = coalesce(
            CASE WHEN status = 'ready' THEN ready_at END, now()), archived_at = NULL, updated_at = now()
    WHERE subscription_uuid = (SELECT subscription_uuid FROM provisioning_job WHERE id = p_job);
    PERFORM outcome_emit(p_job, 'subscription.ready');
    PERFORM job_advance(p_job, p_owner, p_fence, p_next);
    RETURN 'ok';
END $$;

CREATE FUNCTION step_revoke(p_job bigint, p_owner uuid, p_fence bigint, p_deadline_ms bigint, p_next job_step) RETURNS text
LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    v text := job_guard(p_job, p_owner, p_fence, p_deadline_ms);
    v_subscription uuid;
    k record;
BEGIN
    IF v <> 'ok' THEN
        RETURN v;
    END IF;
    SELECT subscription_uuid INTO v_subscription FROM provisioning_job WHERE id = p_job;
    FOR k IN UPDATE agent_api_key SET revoked_at = now() WHERE subscription_uuid = v_subscription AND revoked_at IS NULL
             RETURNING prefix, organization_uuid LOOP
        PERFORM audit(v_subscription, k.organization_uuid, p_job, 'worker', 'api_key.revoked',
                      jsonb_build_object('prefix', k.prefix));
    END LOOP;
    UPDATE agent_config SET status = 'terminating', status_reason = NULL, api_key = NULL, updated_at = now()
    WHERE subscription_uuid = v_subscription;
    PERFORM job_advance(p_job, p_owner, p_fence, p_next);
    RETURN 'ok';
END $$;

-- Ends a termination or a purge: 'purged' when no workspace is left, else 'archived' until retention.
CREATE FUNCTION step_archive(p_job bigint, p_owner uuid, p_fence bigint, p_deadline_ms bigint, p_next job_step) RETURNS text
LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    v text := job_guard(p_job, p_owner, p_fence, p_deadline_ms);
    v_status agent_status;
BEGIN
    IF v <> 'ok' THEN
        RETURN v;
    END IF;
    UPDATE agent_config SET
        status = CASE WHEN runtime_workspace_id IS NULL THEN 'purged' ELSE 'archived' END::agent_status,
        status_reason = NULL, archived_at = coalesce(archived_at, now()), updated_at = now()
    WHERE subscription_uuid = (SELECT subscription_uuid FROM provisioning_job WHERE id = p_job)
    RETURNING status INTO v_status;
    PERFORM outcome_emit(p_job, CASE WHEN v_status = 'archived' THEN 'subscription.archived' ELSE 'subscription.purged' END);
    PERFORM job_advance(p_job, p_owner, p_fence, p_next);
    RETURN 'ok';
END $$;

-- The job waits, or ends in failure: p_to is retrying, held, queued or failed.
CREATE FUNCTION job_settle(p_job bigint, p_owner uuid, p_fence bigint, p_deadline_ms bigint, p_to job_state,
                           p_attempts integer, p_delay_ms bigint, p_error_class text, p_error text)
RETURNS text LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    v text := job_guard(p_job, p_owner, p_fence, p_deadline_ms);
BEGIN
    IF v <> 'ok' THEN
        RETURN v;
    END IF;
    IF NOT job_transition(p_job, p_owner, p_fence, p_to, 'worker', p_attempts => p_attempts, p_delay_ms => p_delay_ms,
                          p_error_class => p_error_class, p_error => p_error) THEN
        RAISE EXCEPTION 'job % lost its fence between guard and write', p_job;
    END IF;
    IF p_to = 'failed' THEN
        -- A subscription that works goes on working, an archived one stays archived: only the job has failed.
        UPDATE agent_config c SET status = CASE WHEN c.status IN ('ready', 'archived') THEN c.status ELSE 'failed' END,
                                  status_reason = j.step || ': ' || p_error, updated_at = now()
        FROM provisioning_job j WHERE j.id = p_job AND c.subscription_uuid = j.subscription_uuid;
        PERFORM outcome_emit(p_job, 'subscription.failed', p_error_class, p_error);
    END IF;
    RETURN 'ok';
END $$;

-- ---------------------------------------------------------------------------
-- Effects

-- Commits the intent; the request may leave only after this has come back with 'ok'.
CREATE FUNCTION effect_intend(p_job bigint, p_owner uuid, p_fence bigint, p_deadline_ms bigint, p_product text,
                              p_operation text, p_method text, p_target text, p_name text, p_marker text,
                              p_body_sha256 text, p_request_id text)
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
                                         target, name, marker, body_sha256, request_id)
        VALUES (j.subscription_uuid, p_job, p_fence, j.step, coalesce(j.runtime_name, ''), p_product, p_operation, p_method,
                p_target, p_name, p_marker, p_body_sha256, p_request_id)
        RETURNING id INTO effect_id;
    END IF;
    RETURN NEXT;
END $$;

-- What became of the request. 'unknown' keeps it open: the next look decides.
CREATE FUNCTION effect_settle(p_effect bigint, p_fence bigint, p_state effect_state, p_external_id text, p_http_status integer,
                              p_error_class text, p_error text)
RETURNS boolean LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
BEGIN
    UPDATE provisioning_effect SET
        state = p_state, external_id = coalesce(p_external_id, external_id), http_status = p_http_status,
        error_class = p_error_class, error = p_error,
        settled_at = CASE WHEN p_state IN ('intended', 'unknown') THEN NULL ELSE now() END
    WHERE id = p_effect AND fence = p_fence AND state IN ('intended', 'unknown');
    RETURN FOUND;
END $$;

-- An upstream is usable again: what was held for it may run; NULL: whatever is held. At most 1000 at once: true when
-- there may be more.
CREATE FUNCTION jobs_release(p_runtime_name text) RETURNS boolean
LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    j record;
    n integer := 0;
BEGIN
    FOR j IN SELECT id FROM provisioning_job WHERE state = 'held'
             AND (p_runtime_name IS NULL OR runtime_name = p_runtime_name)
             ORDER BY id LIMIT 1000 FOR UPDATE SKIP LOCKED LOOP
        PERFORM job_transition(j.id, NULL, NULL, 'queued', 'release');
        n := n + 1;
    END LOOP;
    IF n > 0 THEN
        PERFORM pg_notify('provisioner_jobs', '');
    END IF;
    RETURN n = 1000;
END $$;

-- ---------------------------------------------------------------------------
-- Outbox and dead letters

-- In order per subscription: a row waits while an older one of its subscription is in another worker's hands. One
-- claims at a time (others get nothing and come again): SKIP LOCKED alone would pass over the older row and take the
-- younger one.
CREATE FUNCTION outbox_claim(p_owner uuid, p_limit integer)
RETURNS TABLE (id bigint, subscription_uuid uuid, type text, payload text)
LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
#variable_conflict use_column
DECLARE
    r record;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtext('agent_marketplace.outbox_claim')) THEN
        RETURN;
    END IF;
    FOR r IN SELECT o.id, o.subscription_uuid, o.type, o.payload FROM outbox o
             WHERE (o.claimed_until IS NULL OR o.claimed_until <= now())
               AND NOT EXISTS (SELECT FROM outbox older WHERE older.subscription_uuid = o.subscription_uuid
                               AND older.id < o.id AND older.claimed_until > now() AND older.claimed_by <> p_owner)
             ORDER BY o.id LIMIT p_limit FOR UPDATE SKIP LOCKED LOOP
        UPDATE outbox o SET claimed_by = p_owner, claimed_until = now() + interval '60 seconds' WHERE o.id = r.id;
        id := r.id;
        subscription_uuid := r.subscription_uuid;
        type := r.type;
        payload := r.payload;
        RETURN NEXT;
    END LOOP;
END $$;

CREATE FUNCTION outbox_done(p_ids bigint[]) RETURNS integer
LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    v_id bigint;
    n integer := 0;
BEGIN
    FOREACH v_id IN ARRAY p_ids LOOP
        DELETE FROM outbox WHERE id = v_id;
        n := n + FOUND::integer;
    END LOOP;
    RETURN n;
END $$;

-- The broker did not take it: give it back at once.
CREATE FUNCTION outbox_back(p_ids bigint[]) RETURNS integer
LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    v_id bigint;
    n integer := 0;
BEGIN
    FOREACH v_id IN ARRAY p_ids LOOP
        UPDATE outbox SET claimed_by = NULL, claimed_until = NULL WHERE id = v_id;
        n := n + FOUND::integer;
    END LOOP;
    RETURN n;
END $$;

-- Keeps what could not be decoded. published says that the topic has it already.
CREATE FUNCTION dead_letter_add(p_topic text, p_partition integer, p_offset bigint, p_time timestamptz, p_key bytea,
                                p_value bytea, p_value_bytes bigint, p_headers jsonb, p_pointer text, p_reason text,
                                p_replays integer)
RETURNS TABLE (id bigint, published boolean) LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
#variable_conflict use_column
BEGIN
    INSERT INTO dead_letter (kafka_topic, kafka_partition, kafka_offset, message_time, key, value, value_bytes, headers,
                             pointer, reason, replays)
    VALUES (p_topic, p_partition, p_offset, p_time, p_key, p_value, p_value_bytes, p_headers, p_pointer, p_reason, p_replays)
    ON CONFLICT ON CONSTRAINT dead_letter_once DO NOTHING;
    RETURN QUERY SELECT d.id, d.published_at IS NOT NULL FROM dead_letter d
    WHERE d.kafka_topic = p_topic AND d.kafka_partition = p_partition AND d.kafka_offset = p_offset
      AND d.message_time IS NOT DISTINCT FROM p_time;
END $$;

CREATE FUNCTION dead_letter_published(p_id bigint) RETURNS void LANGUAGE sql AS $$
    UPDATE agent_marketplace.dead_letter SET published_at = coalesce(published_at, now()) WHERE id = p_id
$$;

-- ---------------------------------------------------------------------------
-- What people ask for

-- Runs a failed job again from p_step (NULL: the step that failed). Verdicts: 'queued', 'none' (no failed job),
-- 'superseded' (a newer wish exists), 'bad step'.
CREATE FUNCTION job_replay(p_subscription uuid, p_step job_step, p_deadline_ms bigint, p_actor text, p_dry_run boolean)
RETURNS TABLE (verdict text, job_id bigint, kind job_kind, step job_step) LANGUAGE plpgsql
SET search_path = agent_marketplace, pg_temp AS $$
#variable_conflict use_column
DECLARE
    s subscription;
    j provisioning_job;
BEGIN
    SELECT * INTO s FROM subscription WHERE uuid = p_subscription FOR NO KEY UPDATE;
    SELECT * INTO j FROM provisioning_job x WHERE x.subscription_uuid = p_subscription AND x.state = 'failed'
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
            UPDATE agent_config SET status = CASE WHEN j.kind = 'provision' THEN 'provisioning' ELSE 'terminating' END::agent_status,
                                    status_reason = NULL, updated_at = now()
            WHERE subscription_uuid = p_subscription AND status = 'failed';
            PERFORM pg_notify('provisioner_jobs', '');
        END IF;
    END IF;
    RETURN NEXT;
END $$;

-- Wants an archived subscription purged, if it is still archived and due; again, where an earlier purge has failed.
-- Returns the new job; NULL where nothing is to be done, or somebody is doing it.
CREATE FUNCTION retention_purge(p_subscription uuid, p_before timestamptz, p_deadline_ms bigint) RETURNS bigint
LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    s subscription;
    v_job bigint;
BEGIN
    SELECT * INTO s FROM subscription WHERE uuid = p_subscription FOR NO KEY UPDATE SKIP LOCKED;
    IF NOT FOUND OR s.wanted NOT IN ('absent', 'purged')
       OR NOT EXISTS (SELECT FROM agent_config WHERE subscription_uuid = p_subscription AND status = 'archived'
                      AND archived_at <= p_before)
       OR EXISTS (SELECT FROM provisioning_job WHERE subscription_uuid = p_subscription
                  AND state IN ('queued', 'running', 'retrying', 'held')) THEN
        RETURN NULL;
    END IF;
    UPDATE subscription SET wanted = 'purged', generation = generation + 1, updated_at = now() WHERE uuid = p_subscription;
    PERFORM job_want(p_subscription, p_deadline_ms);
    SELECT id INTO v_job FROM provisioning_job WHERE subscription_uuid = p_subscription
    AND state IN ('queued', 'running', 'retrying', 'held');
    RETURN v_job;
END $$;
