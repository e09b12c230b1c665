-- Scheduling under pressure: caps, weights, pauses, cancelling. A queued job is ready; what waits for a time
-- ('retrying', 'held') becomes queued when it is due and its lane is open, so that claims meet nothing that may not run.

INSERT INTO job_edge (from_state, to_state) VALUES ('retrying', 'queued'), ('cancelled', 'queued');

ALTER TABLE subscription ADD COLUMN runtime_name text CHECK (runtime_name <> '');
COMMENT ON COLUMN subscription.runtime_name IS 'where it is likely to be placed; agent_config tells where it is';
ALTER TABLE provisioning_job
    ADD COLUMN lane      text NOT NULL DEFAULT '',
    ADD COLUMN plan_tier text,
    ADD COLUMN paused    boolean NOT NULL DEFAULT false,
    ADD COLUMN claimed_at timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN cancel_actor text,
    ADD COLUMN cancel_error text;
COMMENT ON COLUMN provisioning_job.lane IS 'the runtime whose turn it waits for; empty while it needs none, or none is known';
COMMENT ON COLUMN provisioning_job.paused IS 'its subscription is paused';
COMMENT ON COLUMN provisioning_job.claimed_at IS 'when a worker took it last';
COMMENT ON COLUMN provisioning_job.cancel_error IS 'it was cancelled while it ran, and ends so with its next write';

UPDATE provisioning_job SET lane = runtime_name
WHERE runtime_name IS NOT NULL AND step <> 'revoke' AND state NOT IN ('superseded', 'succeeded');

DROP INDEX provisioning_job_waiting, provisioning_job_due, provisioning_job_held;
-- Claims walk each open lane, organization after organization.
CREATE INDEX provisioning_job_ready ON provisioning_job (lane, organization_uuid, next_attempt_at)
    WHERE state = 'queued' AND NOT paused;
-- The same by age alone: since when is anything ready? A condition that nothing else implies: see below.
CREATE INDEX provisioning_job_since ON provisioning_job (next_attempt_at) WHERE (state = 'queued' AND NOT paused) IS TRUE;
CREATE INDEX provisioning_job_later ON provisioning_job (lane, state, next_attempt_at) WHERE state IN ('retrying', 'held');
CREATE INDEX provisioning_job_held ON provisioning_job (runtime_name, next_attempt_at) WHERE state = 'held';
CREATE INDEX provisioning_job_paused ON provisioning_job (id) WHERE state = 'queued' AND paused;
-- Conditions that nothing else implies: for few running jobs every index of them looks as good as the right one, and
-- would be read whole, again and again.
CREATE INDEX provisioning_job_running_lane ON provisioning_job (lane, claimed_at) WHERE (state = 'running') IS TRUE;
CREATE INDEX provisioning_job_running_organization ON provisioning_job (organization_uuid, claimed_at)
    WHERE (state = 'running') IS NOT FALSE;

-- ---------------------------------------------------------------------------
-- Pauses: what operators have stopped. They hold until they are taken back.
CREATE TABLE scheduling_pause (
    scope      text NOT NULL CHECK (scope IN ('all', 'runtime', 'organization', 'subscription')),
    target     text NOT NULL, -- '' for all, a runtime's name, a UUID
    label      text NOT NULL, -- what the operator called it
    reason     text,
    actor      text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (scope, target),
    CONSTRAINT scheduling_pause_all_has_no_target CHECK ((scope = 'all') = (target = ''))
);

CREATE FUNCTION job_is_paused(p_lane text, p_organization uuid, p_subscription uuid) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = agent_marketplace, pg_temp AS $$
BEGIN
    RETURN EXISTS (SELECT FROM scheduling_pause WHERE scope = 'all' AND target = '')
        OR EXISTS (SELECT FROM scheduling_pause WHERE scope = 'runtime' AND target = p_lane)
        OR EXISTS (SELECT FROM scheduling_pause WHERE scope = 'organization' AND target = p_organization::text)
        OR EXISTS (SELECT FROM scheduling_pause WHERE scope = 'subscription' AND target = p_subscription::text);
END $$;

-- p_target as in scheduling_pause. False: it is paused already.
CREATE FUNCTION pause_set(p_scope text, p_target text, p_label text, p_reason text, p_actor text) RETURNS boolean
LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    s subscription;
BEGIN
    IF p_scope = 'subscription' THEN
        -- The lock under which job_want looks for the pause.
        SELECT * INTO STRICT s FROM subscription WHERE uuid = p_target::uuid FOR NO KEY UPDATE;
    END IF;
    INSERT INTO scheduling_pause (scope, target, label, reason, actor)
    VALUES (p_scope, p_target, p_label, p_reason, p_actor) ON CONFLICT (scope, target) DO NOTHING;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE provisioning_job SET paused = true WHERE subscription_uuid = s.uuid AND NOT paused;
    PERFORM audit(s.uuid, CASE p_scope WHEN 'organization' THEN p_target::uuid ELSE s.organization_uuid END, NULL, p_actor,
                  'pause', jsonb_build_object('scope', p_scope, 'target', nullif(p_target, ''), 'label', p_label,
                                              'reason', p_reason));
    RETURN true;
END $$;

-- False: it was not paused.
CREATE FUNCTION pause_lift(p_scope text, p_target text, p_actor text) RETURNS boolean
LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    s subscription;
BEGIN
    IF p_scope = 'subscription' THEN
        SELECT * INTO s FROM subscription WHERE uuid = p_target::uuid FOR NO KEY UPDATE;
    END IF;
    DELETE FROM scheduling_pause WHERE scope = p_scope AND target = p_target;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    -- Ready from now on: nobody looks for what would have been long ago (queue_floor).
    UPDATE provisioning_job SET paused = false, next_attempt_at = greatest(next_attempt_at, now())
    WHERE subscription_uuid = s.uuid AND paused;
    PERFORM audit(s.uuid, CASE p_scope WHEN 'organization' THEN p_target::uuid ELSE s.organization_uuid END, NULL, p_actor,
                  'resume', jsonb_build_object('scope', p_scope, 'target', nullif(p_target, '')));
    PERFORM pg_notify('provisioner_jobs', '');
    RETURN true;
END $$;

-- ---------------------------------------------------------------------------
-- States

DROP FUNCTION job_transition(bigint, uuid, bigint, job_state, text, job_step, integer, bigint, text, text, uuid);
-- The one place where a job's state changes. p_fence NULL: the caller holds the row's lock and needs no lease. p_at: where
-- the row is, known to who has just locked it.
CREATE FUNCTION job_transition(p_job bigint, p_owner uuid, p_fence bigint, p_to job_state, p_actor text,
                               p_step job_step DEFAULT NULL, p_attempts integer DEFAULT NULL,
                               p_delay_ms bigint DEFAULT 0, p_error_class text DEFAULT NULL, p_error text DEFAULT NULL,
                               p_new_owner uuid DEFAULT NULL, p_at tid DEFAULT NULL)
RETURNS boolean LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    old record;
BEGIN
    IF p_at IS NULL THEN
        SELECT j.ctid AS at, j.fence, j.lease_owner, j.state, j.step, j.subscription_uuid, j.organization_uuid INTO old
        FROM provisioning_job j WHERE j.id = p_job FOR UPDATE;
    ELSE
        SELECT j.ctid AS at, j.fence, j.lease_owner, j.state, j.step, j.subscription_uuid, j.organization_uuid INTO old
        FROM provisioning_job j WHERE j.ctid = p_at AND j.id = p_job FOR UPDATE;
    END IF;
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
        claimed_at = CASE WHEN p_new_owner IS NULL THEN claimed_at ELSE now() END,
        fence = fence + CASE WHEN p_new_owner IS NULL THEN 0 ELSE 1 END,
        error_class = CASE WHEN p_to = 'running' THEN error_class ELSE p_error_class END,
        error = CASE WHEN p_to = 'running' THEN error ELSE p_error END,
        finished_at = CASE WHEN p_to IN ('queued', 'running', 'retrying', 'held') THEN NULL ELSE now() END,
        updated_at = now()
    WHERE ctid = old.at AND id = p_job;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'job % moved while it was locked', p_job;
    END IF;
    PERFORM audit(old.subscription_uuid, old.organization_uuid, p_job, p_actor,
                  CASE WHEN p_to = 'running' AND p_new_owner IS NULL THEN 'step' ELSE 'job.' || p_to END,
                  jsonb_build_object('from', old.state, 'step', old.step, 'next_step', p_step, 'attempts', p_attempts,
                                     'fence', CASE WHEN p_new_owner IS NULL THEN old.fence ELSE old.fence + 1 END,
                                     'error_class', p_error_class, 'error', p_error,
                                     'delay_ms', nullif(p_delay_ms, 0)));
    RETURN true;
END $$;

DROP FUNCTION job_take(bigint, uuid, text, boolean);
-- One job for p_owner; p_at as above. p_careful: one that cannot be written is passed over, and keeps nobody else waiting.
CREATE FUNCTION job_take(p_job bigint, p_owner uuid, p_actor text, p_careful boolean, p_at tid DEFAULT NULL)
RETURNS boolean LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
BEGIN
    IF NOT p_careful THEN
        RETURN job_transition(p_job, NULL, NULL, 'running', p_actor, p_new_owner => p_owner, p_at => p_at);
    END IF;
    BEGIN
        RETURN job_transition(p_job, NULL, NULL, 'running', p_actor, p_new_owner => p_owner, p_at => p_at);
    EXCEPTION WHEN OTHERS THEN
        RETURN false;
    END;
END $$;

-- ---------------------------------------------------------------------------
-- What a running job writes: the guard also tells it to stop.

-- The end that job_cancel has written down. The caller holds the locks of the job and of its subscription.
CREATE FUNCTION job_end_cancelled(p_job bigint, p_deadline_ms bigint) RETURNS void
LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    j provisioning_job;
BEGIN
    SELECT * INTO STRICT j FROM provisioning_job WHERE id = p_job;
    PERFORM job_transition(p_job, NULL, NULL, 'cancelled', j.cancel_actor, p_error_class => 'cancelled',
                           p_error => j.cancel_error);
    -- The outcome's id tells of the fence: one that never ran, or not again, needs one of its own.
    UPDATE provisioning_job SET fence = fence + 1, cancel_actor = NULL, cancel_error = NULL WHERE id = p_job;
    IF (SELECT generation FROM subscription WHERE uuid = j.subscription_uuid) > j.generation THEN
        -- A newer wish waited for it.
        PERFORM job_want(j.subscription_uuid, p_deadline_ms);
    ELSE
        -- Nobody brings it to an end now. What works goes on working, what is closed stays so.
        UPDATE agent_config c SET
            status = CASE WHEN c.status IN ('provisioning', 'terminating') THEN 'failed' ELSE c.status END,
            status_reason = j.step || ': ' || j.cancel_error, updated_at = now()
        WHERE c.subscription_uuid = j.subscription_uuid;
        PERFORM outcome_emit(p_job, 'subscription.failed', 'cancelled', j.cancel_error);
    END IF;
END $$;

DROP FUNCTION job_guard(bigint, uuid, bigint, bigint);
-- 'ok', 'lost', 'superseded' as before; 'cancelled': it has ended, drop the work; 'paused': the job has been queued again
-- where it stands, drop the work. p_stop false: it is leaving anyway.
CREATE FUNCTION job_guard(p_job bigint, p_owner uuid, p_fence bigint, p_deadline_ms bigint, p_stop boolean DEFAULT true)
RETURNS text LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    s record;
    j record;
BEGIN
    SELECT x.uuid, x.generation INTO s FROM subscription x
    WHERE x.uuid = (SELECT subscription_uuid FROM provisioning_job WHERE id = p_job) FOR NO KEY UPDATE;
    SELECT x.state, x.lease_owner, x.fence, x.generation, x.lane, x.organization_uuid, x.cancel_error INTO j
    FROM provisioning_job x WHERE x.id = p_job FOR UPDATE;
    IF NOT FOUND OR j.state <> 'running' OR j.lease_owner IS DISTINCT FROM p_owner
       OR j.fence IS DISTINCT FROM p_fence THEN
        RETURN 'lost';
    END IF;
    IF j.cancel_error IS NOT NULL THEN
        PERFORM job_end_cancelled(p_job, p_deadline_ms);
        RETURN 'cancelled';
    END IF;
    IF s.generation > j.generation THEN
        PERFORM job_transition(p_job, p_owner, p_fence, 'superseded', 'worker');
        PERFORM job_want(s.uuid, p_deadline_ms);
        RETURN 'superseded';
    END IF;
    IF p_stop AND job_is_paused(j.lane, j.organization_uuid, s.uuid) THEN
        PERFORM job_transition(p_job, p_owner, p_fence, 'queued', 'pause');
        RETURN 'paused';
    END IF;
    RETURN 'ok';
END $$;

-- The next step, in the lane of the job's runtime. 'ok'; 'queued' where that lane is another one and full: the job
-- waits its turn there, drop the work.
CREATE FUNCTION job_enter(p_job bigint, p_owner uuid, p_fence bigint, p_next job_step, p_runtime_max integer) RETURNS text
LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    v_lane text := (SELECT coalesce(runtime_name, '') FROM provisioning_job WHERE id = p_job);
    v_full boolean := false;
BEGIN
    IF p_next IS NOT NULL AND v_lane <> (SELECT lane FROM provisioning_job WHERE id = p_job) THEN
        v_full := p_runtime_max IS NOT NULL AND lane_room(v_lane, p_runtime_max, time_of(queue_floor('running'))) <= 0;
        UPDATE provisioning_job SET lane = v_lane WHERE id = p_job;
    END IF;
    IF v_full THEN
        PERFORM job_transition(p_job, p_owner, p_fence, 'queued', 'worker', p_step => p_next, p_attempts => 0);
        RETURN 'queued';
    END IF;
    PERFORM job_advance(p_job, p_owner, p_fence, p_next);
    RETURN 'ok';
END $$;

DROP FUNCTION step_revoke(bigint, uuid, bigint, bigint, job_step);
CREATE FUNCTION step_revoke(p_job bigint, p_owner uuid, p_fence bigint, p_deadline_ms bigint, p_next job_step,
                            p_runtime_max integer DEFAULT NULL) RETURNS text
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
    RETURN job_enter(p_job, p_owner, p_fence, p_next, p_runtime_max);
END $$;

-- ---------------------------------------------------------------------------
-- Claims

CREATE FUNCTION micros_of(p_time timestamptz) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN (extract(epoch FROM p_time) * 1000000)::bigint;
END $$;

CREATE FUNCTION time_of(p_micros bigint) RETURNS timestamptz LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN timestamptz 'epoch' + p_micros * interval '1 microsecond';
END $$;

-- The first lane after this one in which something waits for a time, NULL: none; after NULL comes the first. p_since, here
-- and below: the bound that queue_floor told.
CREATE FUNCTION lane_waiting(p_lane text, p_since timestamptz) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = agent_marketplace, pg_temp AS $$
BEGIN
    IF p_lane IS NULL THEN
        RETURN (SELECT j.lane FROM provisioning_job j
                WHERE j.state IN ('retrying', 'held') AND j.next_attempt_at >= p_since ORDER BY j.lane LIMIT 1);
    END IF;
    RETURN (SELECT j.lane FROM provisioning_job j
            WHERE j.state IN ('retrying', 'held') AND j.lane > p_lane AND j.next_attempt_at >= p_since
            ORDER BY j.lane LIMIT 1);
END $$;

-- When the first of a lane's jobs in this state comes back.
CREATE FUNCTION later_first(p_lane text, p_state job_state, p_since timestamptz) RETURNS timestamptz
LANGUAGE plpgsql STABLE SET search_path = agent_marketplace, pg_temp AS $$
BEGIN
    -- The condition of the index word for word, or a generic plan could not use it.
    RETURN (SELECT min(j.next_attempt_at) FROM provisioning_job j
            WHERE j.state IN ('retrying', 'held') AND j.lane = p_lane AND j.state = p_state AND j.next_attempt_at >= p_since);
END $$;

-- The first of a queue's jobs from p_from on, by the clock; when there is none, now.
CREATE FUNCTION queue_first(p_queue text, p_from bigint) RETURNS bigint
LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp SET enable_seqscan = off AS $$
DECLARE
    v_from constant timestamptz := time_of(p_from);
    v_first timestamptz := now();
    v_lane text := '';
BEGIN
    IF p_queue = 'ready' THEN
        v_first := least(v_first, (SELECT min(j.next_attempt_at) FROM provisioning_job j
                                   WHERE (j.state = 'queued' AND NOT j.paused) IS TRUE AND j.next_attempt_at >= v_from));
    ELSIF p_queue = 'later' THEN
        v_lane := lane_waiting(NULL, v_from);
        WHILE v_lane IS NOT NULL LOOP
            v_first := least(v_first, later_first(v_lane, 'retrying', v_from), later_first(v_lane, 'held', v_from));
            v_lane := lane_waiting(v_lane, v_from);
        END LOOP;
    ELSE
        WHILE v_lane IS NOT NULL LOOP
            v_first := least(v_first, (SELECT min(j.claimed_at) FROM provisioning_job j
                                       WHERE (j.state = 'running') IS TRUE AND j.lane = v_lane AND j.claimed_at >= v_from));
            v_lane := (SELECT j.lane FROM provisioning_job j
                       WHERE (j.state = 'running') IS TRUE AND j.lane > v_lane AND j.claimed_at >= v_from
                       ORDER BY j.lane LIMIT 1);
        END LOOP;
    END IF;
    RETURN micros_of(v_first);
END $$;

-- Dead rows stay in an index for as long as anybody's snapshot might want them, and whoever looks for the living walks over
-- all of them: one transaction left open for an hour would make claims slower by the minute. So a session remembers below
-- what there is nothing of a queue any more, and looks from there: 'ready' and 'later' (next_attempt_at, in microseconds),
-- 'running' (claimed_at), 'outbox' (id). A bound is two seconds old before it is used, since what takes a time or a number
-- first may be committed last. What is later still is met by the next bound, which looks a minute further back, or by that
-- of every ten minutes, which looks everywhere.
CREATE FUNCTION queue_floor(p_queue text) RETURNS bigint
LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    v_name constant text := 'provisioner.floor_of_' || p_queue;
    v_now constant bigint := micros_of(clock_timestamp());
    v_kept bigint[] := nullif(current_setting(v_name, true), '')::bigint[];
    v_used bigint := 0; -- the bound that counts
    v_next bigint;      -- the one that will
    v_whole bigint := v_now; -- when all was looked at
    v_from bigint := 0;
BEGIN
    -- A clock that was set back begins anew.
    IF v_kept IS NOT NULL AND v_now >= v_kept[3] THEN
        IF v_now - v_kept[3] < 2000000 THEN
            RETURN v_kept[1];
        END IF;
        v_used := v_kept[2];
        IF v_now - v_kept[4] < 600000000 THEN
            v_whole := v_kept[4];
            v_from := greatest(v_used - CASE p_queue WHEN 'outbox' THEN 10000 ELSE 60000000 END, 0);
        END IF;
    END IF;
    IF p_queue = 'outbox' THEN
        v_next := coalesce((SELECT min(o.id) FROM outbox o WHERE o.id >= v_from),
                           pg_sequence_last_value('outbox_id_seq'), 0);
    ELSE
        v_next := queue_first(p_queue, v_from);
    END IF;
    PERFORM set_config(v_name, ARRAY[v_used, v_next, v_now, v_whole]::text, false);
    RETURN v_used;
END $$;

-- Up to p_limit that wait in a lane and whose time has come are ready now. Returns how many. p_careful: as in job_take.
CREATE FUNCTION lane_due(p_lane text, p_state job_state, p_limit integer, p_careful boolean, p_since timestamptz)
RETURNS integer LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    r record;
    n integer := 0;
BEGIN
    -- As in later_first.
    FOR r IN SELECT j.id, j.error_class, j.error FROM provisioning_job j
             WHERE j.state IN ('retrying', 'held') AND j.lane = p_lane AND j.state = p_state
               AND j.next_attempt_at BETWEEN p_since AND now()
             ORDER BY j.next_attempt_at LIMIT p_limit FOR UPDATE SKIP LOCKED LOOP
        n := n + 1;
        IF p_careful THEN
            BEGIN
                PERFORM job_transition(r.id, NULL, NULL, 'queued', 'due', p_error_class => r.error_class, p_error => r.error);
            EXCEPTION WHEN OTHERS THEN
                NULL;
            END;
        ELSE
            PERFORM job_transition(r.id, NULL, NULL, 'queued', 'due', p_error_class => r.error_class, p_error => r.error);
        END IF;
    END LOOP;
    RETURN n;
END $$;

-- How many more of a lane the worker takes, by what it says of itself.
CREATE FUNCTION policy_room(p_policy jsonb, p_lane text, p_limit integer) RETURNS integer
LANGUAGE plpgsql IMMUTABLE SET search_path = agent_marketplace, pg_temp AS $$
BEGIN
    RETURN coalesce((p_policy #>> ARRAY['room', p_lane])::integer, (p_policy ->> 'room_else')::integer, p_limit);
END $$;

CREATE FUNCTION lane_is_paused(p_lane text) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = agent_marketplace, pg_temp AS $$
BEGIN
    RETURN EXISTS (SELECT FROM scheduling_pause WHERE scope = 'all' AND target = '')
        OR EXISTS (SELECT FROM scheduling_pause WHERE scope = 'runtime' AND target = p_lane);
END $$;

-- What waited for its time is ready now, as many of a lane as may run there: held ones have half of it, others the
-- rest. In a lane that is closed nothing is touched, and costs nothing.
CREATE FUNCTION jobs_due(p_limit integer, p_careful boolean, p_policy jsonb) RETURNS void
LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    v_since constant timestamptz := time_of(queue_floor('later'));
    v_lane text := lane_waiting(NULL, v_since);
    v_room integer;
    v_held integer;
BEGIN
    WHILE v_lane IS NOT NULL LOOP
        v_room := least(p_limit, policy_room(p_policy, v_lane, p_limit));
        IF v_room > 0 AND NOT lane_is_paused(v_lane) THEN
            v_held := least((v_room + 1) / 2, coalesce((p_policy #>> ARRAY['held', v_lane])::integer, v_room));
            IF v_held > 0 THEN
                v_room := v_room - lane_due(v_lane, 'held', v_held, p_careful, v_since);
            END IF;
            IF v_room > 0 THEN
                PERFORM lane_due(v_lane, 'retrying', v_room, p_careful, v_since);
            END IF;
        END IF;
        v_lane := lane_waiting(v_lane, v_since);
    END LOOP;
END $$;

-- How many more of an organization, or of a lane, may run; at most p_max are counted.
CREATE FUNCTION organization_room(p_organization uuid, p_max integer, p_since timestamptz) RETURNS integer
LANGUAGE plpgsql STABLE SET search_path = agent_marketplace, pg_temp AS $$
BEGIN
    RETURN p_max - (SELECT count(*) FROM (SELECT FROM provisioning_job j
                    WHERE (j.state = 'running') IS NOT FALSE AND j.organization_uuid = p_organization
                      AND j.claimed_at >= p_since LIMIT p_max) x);
END $$;

CREATE FUNCTION lane_room(p_lane text, p_max integer, p_since timestamptz) RETURNS integer
LANGUAGE plpgsql STABLE SET search_path = agent_marketplace, pg_temp SET enable_seqscan = off AS $$
BEGIN
    RETURN p_max - (SELECT count(*) FROM (SELECT FROM provisioning_job j
                    WHERE (j.state = 'running') IS TRUE AND j.lane = p_lane
                      AND j.claimed_at >= p_since LIMIT p_max) x);
END $$;

-- The lane after this one that has something ready, NULL: none; after NULL comes the first.
CREATE FUNCTION lane_after(p_lane text, p_since timestamptz) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = agent_marketplace, pg_temp AS $$
BEGIN
    IF p_lane IS NULL THEN
        RETURN (SELECT j.lane FROM provisioning_job j
                WHERE j.state = 'queued' AND NOT j.paused AND j.next_attempt_at >= p_since
                ORDER BY j.lane LIMIT 1);
    END IF;
    RETURN (SELECT j.lane FROM provisioning_job j
            WHERE j.state = 'queued' AND NOT j.paused AND j.lane > p_lane AND j.next_attempt_at >= p_since
            ORDER BY j.lane LIMIT 1);
END $$;

-- The organization after this one in the lane, with the plan of the job whose turn it is, and where that job is; after
-- NULL comes the first.
CREATE FUNCTION lane_next(p_lane text, p_after uuid, p_since timestamptz, OUT organization uuid, OUT plan_tier text,
                          OUT at tid)
LANGUAGE plpgsql STABLE SET search_path = agent_marketplace, pg_temp AS $$
BEGIN
    IF p_after IS NULL THEN
        SELECT j.organization_uuid, j.plan_tier, j.ctid INTO organization, plan_tier, at FROM provisioning_job j
        WHERE j.state = 'queued' AND NOT j.paused AND j.lane = p_lane AND j.next_attempt_at >= p_since
        ORDER BY j.organization_uuid, j.next_attempt_at LIMIT 1;
    ELSE
        SELECT j.organization_uuid, j.plan_tier, j.ctid INTO organization, plan_tier, at FROM provisioning_job j
        WHERE j.state = 'queued' AND NOT j.paused AND j.lane = p_lane AND j.next_attempt_at >= p_since
          AND j.organization_uuid > p_after
        ORDER BY j.organization_uuid, j.next_attempt_at LIMIT 1;
    END IF;
END $$;

-- Up to p_limit of an organization's ready jobs in a lane, those that waited longest first; p_first: where the first one
-- is, or NULL. Never waits for a lock.
CREATE FUNCTION lane_take(p_owner uuid, p_lane text, p_organization uuid, p_first tid, p_limit integer, p_careful boolean,
                          p_since timestamptz)
RETURNS bigint[] LANGUAGE plpgsql
SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    ids bigint[] := '{}';
    r record;
BEGIN
    -- One alone needs no second look into the index, unless it has just gone.
    IF p_limit = 1 AND p_first IS NOT NULL THEN
        SELECT j.id, j.ctid AS at INTO r FROM provisioning_job j
        WHERE j.ctid = p_first AND j.state = 'queued' AND NOT j.paused AND j.lane = p_lane
          AND j.organization_uuid = p_organization AND j.next_attempt_at <= now() FOR UPDATE SKIP LOCKED;
        IF FOUND THEN
            RETURN CASE WHEN job_take(r.id, p_owner, 'claim', p_careful, r.at) THEN ids || r.id ELSE ids END;
        END IF;
    END IF;
    FOR r IN SELECT j.id, j.ctid AS at FROM provisioning_job j
             WHERE j.state = 'queued' AND NOT j.paused AND j.lane = p_lane
               AND j.organization_uuid = p_organization AND j.next_attempt_at BETWEEN p_since AND now()
             ORDER BY j.next_attempt_at LIMIT p_limit FOR UPDATE SKIP LOCKED LOOP
        IF job_take(r.id, p_owner, 'claim', p_careful, r.at) THEN
            ids := ids || r.id;
        END IF;
    END LOOP;
    RETURN ids;
END $$;

DROP FUNCTION jobs_claim(uuid, integer, uuid, integer, bigint[], boolean);
-- Up to p_limit jobs for p_owner: first those of dead workers; then what is ready, lane after lane and organization
-- after organization, p_share each a round, times the weight of its plan. p_only restricts to these jobs. Never waits
-- for a lock. p_policy, all optional:
--   organization_max, runtime_max   jobs that may run at once, over all workers
--   weights {tier: n}               1 for tiers that are not named
--   room {lane: n}, room_else       how many more of a lane this worker takes now
--   held {lane: n}                  how many held ones come back at most
--   after {lane: organization}      where its round goes on (else p_after); credit {lane: n}: what that organization
--                                   may still have before the next one, as column credit told
CREATE FUNCTION jobs_claim(p_owner uuid, p_limit integer, p_after uuid, p_share integer, p_only bigint[],
                           p_careful boolean DEFAULT false, p_policy jsonb DEFAULT '{}')
RETURNS TABLE (job_id bigint, fence bigint, subscription_uuid uuid, kind job_kind, step job_step, attempts integer,
               deadline_left_ms bigint, waited_ms bigint, takeover boolean, organization_uuid uuid, organization_slug text,
               order_uuid uuid, generation bigint, traceparent text, spec text,
               name text, runtime_name text, workspace_id text, collection_id text, status agent_status, capabilities text,
               langflow_open boolean, ragflow_open boolean,
               langflow_age_ms bigint, langflow_update boolean, langflow_delete text,
               ragflow_age_ms bigint, ragflow_update boolean, ragflow_delete text, lane text, credit integer)
LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp
-- For all that it calls, too: plans that do not change with the tables, made once.
SET enable_seqscan = off SET enable_sort = off SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    v_organization_max constant integer := p_policy ->> 'organization_max';
    v_lane_max constant integer := p_policy ->> 'runtime_max';
    ids bigint[] := '{}';
    credits integer[] := '{}'; -- beside ids
    dead bigint[] := '{}';
    -- Open lanes: how many more each may take, where its walk stands, began, and whether it came around or has ended;
    -- what the organization that it stands at may still have.
    lanes text[] := '{}';
    rooms integer[] := '{}';
    ats uuid[] := '{}';
    firsts uuid[];
    around boolean[];
    walking boolean[];
    owed integer[] := '{}';
    -- Organizations met, and how many more each may run.
    met uuid[] := '{}';
    lefts integer[] := '{}';
    -- Who may have more in which lane.
    turn_organizations uuid[] := '{}';
    turn_lanes integer[] := '{}';
    turn_shares integer[] := '{}';
    r record;
    v_id bigint;
    v_ended uuid;
    v_lane text;
    v_organization uuid;
    v_tier text;
    v_first tid;
    v_since timestamptz;
    v_running_since timestamptz;
    v_room integer;
    v_share integer;
    taken bigint[];
    progress boolean;
    i integer;
    k integer;
    t integer;
BEGIN
    -- Locked, so that a worker_leave beside us sees the jobs or we see that it has left: a job whose owner has no row
    -- would never be taken over.
    PERFORM FROM worker w WHERE w.owner = p_owner AND w.lease_until > now() FOR SHARE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    -- Worker by worker: a plan for all of them at once may read every running job, and every one that was.
    FOR v_ended IN SELECT w.owner FROM worker w WHERE w.lease_until <= now() ORDER BY w.owner LOOP
        FOR r IN SELECT j.id FROM worker w JOIN provisioning_job j ON j.lease_owner = w.owner AND j.state = 'running'
                 WHERE w.owner = v_ended AND w.lease_until <= now() AND (p_only IS NULL OR j.id = ANY (p_only))
                 LIMIT p_limit - cardinality(ids) FOR UPDATE OF j SKIP LOCKED FOR SHARE OF w SKIP LOCKED LOOP
            CONTINUE WHEN NOT job_take(r.id, p_owner, 'takeover', p_careful);
            ids := ids || r.id;
            credits := credits || 0;
            dead := dead || r.id;
        END LOOP;
    END LOOP;
    IF p_only IS NOT NULL THEN
        FOREACH v_id IN ARRAY p_only LOOP
            EXIT WHEN cardinality(ids) >= p_limit;
            SELECT j.state, j.next_attempt_at, j.lane, j.organization_uuid, j.subscription_uuid INTO r
            FROM provisioning_job j WHERE j.id = v_id FOR UPDATE SKIP LOCKED;
            IF FOUND AND r.state IN ('queued', 'retrying', 'held') AND r.next_attempt_at <= now()
               AND NOT job_is_paused(r.lane, r.organization_uuid, r.subscription_uuid) THEN
                CONTINUE WHEN NOT job_take(v_id, p_owner, 'claim', p_careful);
                ids := ids || v_id;
                credits := credits || 0;
            END IF;
        END LOOP;
    -- Where jobs are bounded one claims at a time: what another has just taken could not be counted. Others get nothing
    -- and come again.
    ELSIF (v_organization_max IS NULL AND v_lane_max IS NULL)
          OR pg_try_advisory_xact_lock(hashtext('agent_marketplace.jobs_claim')) THEN
        PERFORM jobs_due(p_limit, p_careful, p_policy);
        v_since := time_of(queue_floor('ready'));
        v_running_since := time_of(queue_floor('running'));
        WHILE cardinality(ids) < p_limit
              AND EXISTS (SELECT FROM provisioning_job j WHERE (j.state = 'queued' AND NOT j.paused) IS TRUE
                          AND j.next_attempt_at BETWEEN v_since AND now())
              AND NOT EXISTS (SELECT FROM scheduling_pause p WHERE p.scope = 'all' AND p.target = '') LOOP
            v_lane := lane_after(v_lane, v_since);
            EXIT WHEN v_lane IS NULL;
            v_room := policy_room(p_policy, v_lane, p_limit);
            IF v_room > 0 AND v_lane_max IS NOT NULL THEN
                v_room := least(v_room, lane_room(v_lane, v_lane_max, v_running_since));
            END IF;
            CONTINUE WHEN v_room <= 0
                OR EXISTS (SELECT FROM scheduling_pause p WHERE p.scope = 'runtime' AND p.target = v_lane);
            lanes := lanes || v_lane;
            rooms := rooms || v_room;
            ats := ats || coalesce((p_policy #>> ARRAY['after', v_lane])::uuid, p_after);
            owed := owed || coalesce((p_policy #>> ARRAY['credit', v_lane])::integer, 0);
        END LOOP;
        firsts := ats;
        around := array_fill(false, ARRAY[cardinality(lanes)]);
        walking := array_fill(true, ARRAY[cardinality(lanes)]);
        -- Once around in every lane, an organization of each in turn; then again and again who had something.
        t := 0;
        progress := cardinality(lanes) > 0;
        WHILE cardinality(ids) < p_limit LOOP
            IF true = ANY (walking) THEN
                t := t % cardinality(lanes) + 1;
                i := t;
                CONTINUE WHEN NOT walking[i];
                IF rooms[i] <= 0 THEN
                    walking[i] := false;
                    CONTINUE;
                ELSIF owed[i] > 0 THEN
                    v_organization := ats[i];
                    v_first := NULL;
                    v_share := owed[i];
                    owed[i] := 0;
                ELSE
                    SELECT n.organization, n.plan_tier, n.at INTO v_organization, v_tier, v_first
                    FROM lane_next(lanes[i], ats[i], v_since) n;
                    IF v_organization IS NULL AND NOT around[i] THEN
                        around[i] := true;
                        ats[i] := NULL;
                        CONTINUE;
                    ELSIF v_organization IS NULL OR (around[i] AND v_organization > firsts[i]) THEN
                        walking[i] := false;
                        CONTINUE;
                    END IF;
                    ats[i] := v_organization;
                    v_share := p_share * coalesce((p_policy #>> ARRAY['weights', v_tier])::integer, 1);
                END IF;
                CONTINUE WHEN EXISTS (SELECT FROM scheduling_pause p WHERE p.scope = 'organization'
                                      AND p.target = v_organization::text);
            ELSE
                -- The list is walked from its start; t counts on.
                EXIT WHEN cardinality(turn_lanes) = 0;
                IF t >= cardinality(turn_lanes) THEN
                    EXIT WHEN NOT progress;
                    progress := false;
                    t := 0;
                END IF;
                t := t + 1;
                i := turn_lanes[t];
                v_organization := turn_organizations[t];
                v_first := NULL;
                v_share := turn_shares[t];
                CONTINUE WHEN v_share = 0 OR rooms[i] <= 0;
            END IF;
            k := array_position(met, v_organization);
            IF k IS NULL THEN
                met := met || v_organization;
                lefts := lefts || CASE WHEN v_organization_max IS NULL THEN p_limit
                                       ELSE organization_room(v_organization, v_organization_max, v_running_since) END;
                k := cardinality(met);
            END IF;
            CONTINUE WHEN lefts[k] <= 0;
            taken := lane_take(p_owner, lanes[i], v_organization, v_first,
                               least(v_share, rooms[i], lefts[k], p_limit - cardinality(ids)), p_careful, v_since);
            rooms[i] := rooms[i] - cardinality(taken);
            lefts[k] := lefts[k] - cardinality(taken);
            ids := ids || taken;
            credits := credits || ARRAY(SELECT v_share - x FROM generate_series(1, cardinality(taken)) x);
            IF true = ANY (walking) THEN
                IF cardinality(taken) > 0 THEN
                    turn_organizations := turn_organizations || v_organization;
                    turn_lanes := turn_lanes || i;
                    turn_shares := turn_shares || v_share;
                END IF;
            ELSIF cardinality(taken) = 0 THEN
                turn_shares[t] := 0;
            ELSE
                progress := true;
            END IF;
        END LOOP;
    END IF;
    -- Row by row (OFFSET 0 keeps it so): a worker's plans may date from when the tables were empty, and a join of many
    -- rows made then would read whole tables today.
    RETURN QUERY
    SELECT y.* FROM unnest(ids, credits) WITH ORDINALITY AS x(id, credit, n) CROSS JOIN LATERAL (
        SELECT j.id, j.fence, j.subscription_uuid, j.kind, j.step, j.attempts,
               (extract(epoch FROM j.deadline_at - now()) * 1000)::bigint,
               (extract(epoch FROM now() - j.created_at) * 1000)::bigint,
               j.id = ANY (dead), j.organization_uuid, j.organization_slug, j.order_uuid, j.generation, j.traceparent,
               s.spec::text, c.name, c.runtime_name, c.runtime_workspace_id, c.knowledge_base_id, c.status,
               array_to_json(c.capabilities)::text,
               l.n > 0, r.n > 0, l.age_ms, l.updating, l.deleting, r.age_ms, r.updating, r.deleting,
               j.lane, x.credit
        FROM provisioning_job j JOIN subscription s ON s.uuid = j.subscription_uuid
        LEFT JOIN agent_config c ON c.subscription_uuid = j.subscription_uuid
        CROSS JOIN LATERAL open_effects(j.subscription_uuid, 'langflow') l
        CROSS JOIN LATERAL open_effects(j.subscription_uuid, 'ragflow') r
        WHERE j.id = x.id OFFSET 0) AS y
    ORDER BY x.n;
END $$;

-- ---------------------------------------------------------------------------
-- What people ask for

-- Ends a job for good; `replay` may run it again. Verdicts: 'cancelled'; 'cancelling': it runs, and ends with its next
-- write, or that of the next worker that has it (a request of it may be about to leave, so nobody else may run for the
-- subscription yet); 'finished' (it has ended already), 'none'.
CREATE FUNCTION job_cancel(p_job bigint, p_reason text, p_deadline_ms bigint, p_actor text)
RETURNS TABLE (verdict text, subscription_uuid uuid, kind job_kind, state job_state, step job_step) LANGUAGE plpgsql
SET search_path = agent_marketplace, pg_temp AS $$
#variable_conflict use_column
DECLARE
    j provisioning_job;
BEGIN
    PERFORM FROM subscription x
    WHERE x.uuid = (SELECT y.subscription_uuid FROM provisioning_job y WHERE y.id = p_job) FOR NO KEY UPDATE;
    SELECT * INTO j FROM provisioning_job x WHERE x.id = p_job FOR UPDATE;
    IF NOT FOUND THEN
        verdict := 'none';
        RETURN NEXT;
        RETURN;
    END IF;
    subscription_uuid := j.subscription_uuid;
    kind := j.kind;
    state := j.state;
    step := j.step;
    verdict := 'finished';
    IF j.state IN ('queued', 'running', 'retrying', 'held') THEN
        UPDATE provisioning_job SET cancel_actor = p_actor, cancel_error = 'cancelled' || coalesce(': ' || p_reason, '')
        WHERE id = p_job;
        IF j.state = 'running' THEN
            verdict := 'cancelling';
            PERFORM audit(j.subscription_uuid, j.organization_uuid, p_job, p_actor, 'job.cancelling',
                          jsonb_build_object('step', j.step, 'fence', j.fence, 'reason', p_reason));
        ELSE
            verdict := 'cancelled';
            PERFORM job_end_cancelled(p_job, p_deadline_ms);
        END IF;
    END IF;
    RETURN NEXT;
END $$;

DROP FUNCTION jobs_release(text);
-- An upstream is usable again: what was held for it may run; NULL: whatever is held. At most p_limit, 1000 at once: true
-- when there may be more. In portions, and none is looked at twice; but a single one is to try whether it works: the one
-- that would come back first, and another one each time.
CREATE FUNCTION jobs_release(p_runtime_name text, p_limit integer DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp SET enable_seqscan = off AS $$
DECLARE
    ids bigint[];
    v_id bigint;
BEGIN
    IF p_limit = 1 THEN
        ids := ARRAY(SELECT j.id FROM provisioning_job j WHERE j.state = 'held' AND j.runtime_name = p_runtime_name
                     ORDER BY j.next_attempt_at LIMIT 1 FOR UPDATE SKIP LOCKED);
    ELSIF p_runtime_name IS NULL THEN
        ids := ARRAY(SELECT j.id FROM provisioning_job j WHERE j.state = 'held'
                     LIMIT least(p_limit, 1000) FOR UPDATE SKIP LOCKED);
    ELSE
        ids := ARRAY(SELECT j.id FROM provisioning_job j WHERE j.state = 'held' AND j.runtime_name = p_runtime_name
                     LIMIT least(p_limit, 1000) FOR UPDATE SKIP LOCKED);
    END IF;
    FOREACH v_id IN ARRAY ids LOOP
        PERFORM job_transition(v_id, NULL, NULL, 'queued', 'release');
    END LOOP;
    IF cardinality(ids) > 0 THEN
        PERFORM pg_notify('provisioner_jobs', '');
    END IF;
    RETURN cardinality(ids) = 1000;
END $$;

-- What a partial index of jobs held at the last vacuum or analyze, where as many as could be counted were.
CREATE FUNCTION job_estimate(p_counted bigint, p_exact integer, p_index text) RETURNS bigint
LANGUAGE plpgsql STABLE SET search_path = agent_marketplace, pg_temp AS $$
BEGIN
    IF p_counted < p_exact THEN
        RETURN p_counted;
    END IF;
    RETURN greatest(p_counted, (SELECT c.reltuples::bigint FROM pg_class c WHERE c.oid = to_regclass(p_index)));
END $$;

-- Jobs by state, the outbox, and pauses by scope ('pause.<scope>'), for metrics. Up to p_exact of each are counted,
-- beyond it estimated, so that a backlog costs nothing however long it is.
CREATE FUNCTION job_counts(p_exact integer) RETURNS TABLE (what text, n bigint)
LANGUAGE plpgsql STABLE SET search_path = agent_marketplace, pg_temp SET enable_seqscan = off AS $$
DECLARE
    v_ready bigint := job_estimate((SELECT count(*) FROM (SELECT FROM provisioning_job
        WHERE state = 'queued' AND NOT paused LIMIT p_exact) x), p_exact, 'provisioning_job_ready');
    v_paused bigint := job_estimate((SELECT count(*) FROM (SELECT FROM provisioning_job
        WHERE state = 'queued' AND paused LIMIT p_exact) x), p_exact, 'provisioning_job_paused');
    v_held bigint := job_estimate((SELECT count(*) FROM (SELECT FROM provisioning_job
        WHERE state = 'held' LIMIT p_exact) x), p_exact, 'provisioning_job_held');
    v_later bigint := job_estimate((SELECT count(*) FROM (SELECT FROM provisioning_job
        WHERE state IN ('retrying', 'held') LIMIT p_exact) x), p_exact, 'provisioning_job_later');
BEGIN
    RETURN QUERY VALUES
        ('queued', v_ready + v_paused),
        ('retrying', greatest(v_later - v_held, 0)),
        ('held', v_held),
        ('running', (SELECT count(*) FROM provisioning_job WHERE state = 'running')),
        ('failed', job_estimate((SELECT count(*) FROM (SELECT FROM provisioning_job WHERE state = 'failed' LIMIT p_exact) x),
                                p_exact, 'provisioning_job_failed')),
        ('outbox', job_estimate((SELECT count(*) FROM (SELECT FROM outbox LIMIT p_exact) x), p_exact, 'outbox'));
    RETURN QUERY SELECT 'pause.' || x.scope, (SELECT count(*) FROM scheduling_pause p WHERE p.scope = x.scope)
        FROM unnest(ARRAY['all', 'runtime', 'organization', 'subscription']) AS x(scope);
END $$;

GRANT SELECT, INSERT, UPDATE, DELETE ON scheduling_pause TO provisioner_worker;
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA agent_marketplace FROM PUBLIC;
GRANT EXECUTE ON FUNCTION current_tenant() TO PUBLIC;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA agent_marketplace TO provisioner_worker;
REVOKE EXECUTE ON FUNCTION origin_host(text), domain_allowed(text, text[]) FROM provisioner_worker;
