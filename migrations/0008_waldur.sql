-- Waldur at both ends: what it told (hints), what became of each order, what we changed there, and the keys it shall hold.
--
-- A hint only says "look at this order". Hints are rows of their own, so that keeping one waits for nobody; a claim folds
-- them into waldur_order, where an order has one row for ever: that is what makes it once. One worker at a time holds a
-- row: its lease is the worker's, and every write names the fence of the claim and obeys the answer.
-- Locks are taken in the order that all keep to: subscription, then its job, then the order's row.

CREATE TABLE waldur_hint (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind          text NOT NULL CHECK (kind IN ('order', 'closed', 'unlinked', 'resource', 'key')),
    source        text NOT NULL CHECK (source IN ('webhook', 'sweep', 'backfill', 'job')),
    order_uuid    uuid,
    resource_uuid uuid,
    key_uuid      uuid,
    received_at   timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT waldur_hint_names_something CHECK (
        CASE kind WHEN 'order' THEN order_uuid IS NOT NULL WHEN 'closed' THEN order_uuid IS NOT NULL
                  WHEN 'unlinked' THEN order_uuid IS NOT NULL OR resource_uuid IS NOT NULL
                  ELSE resource_uuid IS NOT NULL END)
);

CREATE TABLE waldur_order (
    order_uuid        uuid PRIMARY KEY,
    phase             text NOT NULL DEFAULT 'hinted' CHECK (phase IN ('hinted', 'left', 'taken', 'reported', 'dropped')),
    source            text NOT NULL CHECK (source IN ('webhook', 'sweep', 'backfill', 'job')),
    order_type        text,
    order_state       text,
    resource_uuid     uuid,
    offering_uuid     uuid,
    offering_type     text,
    organization_uuid uuid,
    organization_slug text,
    reason            text CHECK (reason <> ''),
    detail            text,
    accepted_at       timestamptz,
    backend_id        text CHECK (backend_id <> ''),
    announced_at      timestamptz,
    event_id          text,
    inbox             text,
    taken_at          timestamptz,
    verdict           text CHECK (verdict IN ('done', 'erred')),
    job_id            bigint,
    job_error_class   text,
    told              text CHECK (told IN ('done', 'erred')),
    told_at           timestamptz,
    unlinked_at       timestamptz,
    hints             bigint NOT NULL DEFAULT 0,
    seq               bigint NOT NULL DEFAULT 0,
    seen              bigint NOT NULL DEFAULT 0,
    due_at            timestamptz,
    attempts          integer NOT NULL DEFAULT 0,
    error_class       text,
    error             text,
    fence             bigint NOT NULL DEFAULT 0,
    claimed_by        uuid,
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT waldur_order_left_says_why CHECK (phase NOT IN ('left', 'dropped') OR reason IS NOT NULL),
    CONSTRAINT waldur_order_taken_is_known CHECK (phase NOT IN ('taken', 'reported') OR resource_uuid IS NOT NULL),
    CONSTRAINT waldur_order_reported_is_told CHECK (phase <> 'reported' OR told IS NOT NULL),
    CONSTRAINT waldur_order_taken_is_announced CHECK (backend_id IS NULL OR announced_at IS NOT NULL)
) WITH (fillfactor = 70);
CREATE INDEX waldur_order_due ON waldur_order (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX waldur_order_by_resource ON waldur_order (resource_uuid);
CREATE INDEX waldur_order_open ON waldur_order (phase, reason) WHERE phase IN ('hinted', 'left', 'taken');
CREATE INDEX waldur_order_accepted ON waldur_order (organization_uuid) WHERE accepted_at IS NOT NULL AND taken_at IS NULL;
COMMENT ON COLUMN waldur_order.reason IS 'of what is left or dropped, in one word';
COMMENT ON COLUMN waldur_order.accepted_at IS 'approved or about to be: it counts against its organization''s quota';
COMMENT ON COLUMN waldur_order.backend_id IS 'what Waldur was told the resource is called, and has read back';
COMMENT ON COLUMN waldur_order.verdict IS 'how its job ended: what Waldur is to be told';
COMMENT ON COLUMN waldur_order.seq IS 'rises with everything that calls for a look; seen: up to where the claim has looked';
COMMENT ON COLUMN waldur_order.unlinked_at IS 'Waldur has forgotten it: what it left may be an orphan. Nothing is deleted for it';

-- Like provisioning_effect: the intent is committed before the request leaves.
CREATE TABLE waldur_effect (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subject       uuid NOT NULL,
    resource_uuid uuid,
    fence         bigint NOT NULL,
    operation     text NOT NULL CHECK (operation <> ''),
    method        text NOT NULL,
    target        text NOT NULL,
    body_sha256   text NOT NULL,
    request_id    text NOT NULL,
    state         effect_state NOT NULL DEFAULT 'intended',
    http_status   integer,
    error_class   text,
    error         text,
    intended_at   timestamptz NOT NULL DEFAULT now(),
    settled_at    timestamptz,
    CONSTRAINT waldur_effect_open_is_unsettled CHECK ((state IN ('intended', 'unknown')) = (settled_at IS NULL))
);
CREATE UNIQUE INDEX waldur_effect_one_open ON waldur_effect (subject, operation) WHERE state IN ('intended', 'unknown');
CREATE INDEX waldur_effect_by_subject ON waldur_effect (subject, id);
CREATE INDEX waldur_effect_by_resource ON waldur_effect (resource_uuid, id);
COMMENT ON COLUMN waldur_effect.subject IS 'the order, or the key, that the change is about';

-- A clear key on its way to Waldur, kept only until Waldur has it: nonce (24 bytes), then XChaCha20-Poly1305 (IETF) under
-- secrets.master_key, with "<subscription uuid>/<prefix>" as additional data.
CREATE TABLE waldur_delivery (
    prefix            text PRIMARY KEY CHECK (prefix ~ '^pk_live_[0-9A-Za-z]{8}$'),
    subscription_uuid uuid NOT NULL REFERENCES agent_config (subscription_uuid),
    sealed            bytea NOT NULL CHECK (octet_length(sealed) > 40),
    created_at        timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX waldur_delivery_by_subscription ON waldur_delivery (subscription_uuid);

-- A wish of Waldur's for a new key. 'kept': the new one is made and safe, and not valid yet.
CREATE TABLE waldur_key (
    key_uuid      uuid PRIMARY KEY,
    resource_uuid uuid NOT NULL,
    phase         text NOT NULL DEFAULT 'wanted' CHECK (phase IN ('wanted', 'kept', 'done', 'erred', 'dropped')),
    prefix        text CHECK (prefix ~ '^pk_live_[0-9A-Za-z]{8}$'),
    key_hash      bytea CHECK (octet_length(key_hash) = 32),
    sealed_key    bytea CHECK (octet_length(sealed_key) > 48),
    former        text,
    reason        text,
    rounds        integer NOT NULL DEFAULT 0,
    seq           bigint NOT NULL DEFAULT 0,
    seen          bigint NOT NULL DEFAULT 0,
    due_at        timestamptz,
    attempts      integer NOT NULL DEFAULT 0,
    error_class   text,
    error         text,
    fence         bigint NOT NULL DEFAULT 0,
    claimed_by    uuid,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT waldur_key_kept_is_whole CHECK ((phase = 'kept') = (key_hash IS NOT NULL)
        AND (key_hash IS NULL OR (prefix IS NOT NULL AND sealed_key IS NOT NULL)))
);
CREATE INDEX waldur_key_due ON waldur_key (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX waldur_key_by_resource ON waldur_key (resource_uuid);

-- One replica sweeps at a time.
CREATE TABLE waldur_sweep (
    sole          boolean PRIMARY KEY DEFAULT true CHECK (sole),
    claimed_by    uuid,
    fence         bigint NOT NULL DEFAULT 0,
    asked_at      timestamptz,
    started_at    timestamptz,
    finished_at   timestamptz,
    modified_from timestamptz,
    error         text
);
INSERT INTO waldur_sweep DEFAULT VALUES;
COMMENT ON COLUMN waldur_sweep.asked_at IS 'something calls for one before its time';
COMMENT ON COLUMN waldur_sweep.modified_from IS 'resources that changed since then are looked at by the next one';

-- ---------------------------------------------------------------------------
-- Hints

-- Keeps one. An insert alone: it waits for no lock, so that a webhook is answered as soon as its group is durable.
CREATE FUNCTION waldur_hint(p_kind text, p_source text, p_order uuid, p_resource uuid, p_key uuid) RETURNS bigint
LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    v_id bigint;
BEGIN
    INSERT INTO waldur_hint (kind, source, order_uuid, resource_uuid, key_uuid)
    VALUES (p_kind, p_source, p_order, p_resource, p_key) RETURNING id INTO v_id;
    RETURN v_id;
END $$;

CREATE FUNCTION waldur_is_held(p_by uuid) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT p_by IS NOT NULL
        AND EXISTS (SELECT FROM agent_marketplace.worker w WHERE w.owner = p_by AND w.lease_until > now())
$$;

-- One hint about one order; false: its row is locked just now, it has to wait.
CREATE FUNCTION waldur_fold_order(h waldur_hint) RETURNS boolean
LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    o waldur_order;
BEGIN
    INSERT INTO waldur_order (order_uuid, source, resource_uuid) VALUES (h.order_uuid, h.source, h.resource_uuid)
    ON CONFLICT (order_uuid) DO NOTHING;
    SELECT * INTO o FROM waldur_order WHERE order_uuid = h.order_uuid FOR NO KEY UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE waldur_order SET
        hints = hints + 1, seq = seq + 1,
        unlinked_at = CASE WHEN h.kind = 'unlinked' THEN coalesce(unlinked_at, h.received_at) ELSE unlinked_at END,
        -- Our own report comes back as a hint; nothing is left to look at.
        due_at = CASE WHEN h.kind = 'closed' AND o.phase = 'reported' AND o.told = 'done' THEN due_at
                      ELSE least(due_at, now()) END,
        updated_at = now()
    WHERE order_uuid = h.order_uuid;
    RETURN true;
END $$;

-- Nothing is deleted because of it, but a person can find it: in the audit log, and by unlinked_at.
CREATE FUNCTION waldur_fold_unlinked(h waldur_hint) RETURNS boolean
LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    r record;
    v_resource uuid := coalesce(h.resource_uuid, (SELECT o.resource_uuid FROM waldur_order o
                                                  WHERE o.order_uuid = h.order_uuid));
BEGIN
    FOR r IN SELECT order_uuid FROM waldur_order
             WHERE unlinked_at IS NULL AND (order_uuid = h.order_uuid OR resource_uuid = v_resource)
             FOR NO KEY UPDATE SKIP LOCKED LOOP
        UPDATE waldur_order SET unlinked_at = h.received_at, updated_at = now() WHERE order_uuid = r.order_uuid;
    END LOOP;
    PERFORM audit(v_resource, (SELECT organization_uuid FROM subscription WHERE uuid = v_resource), NULL, 'waldur',
                  'waldur.unlinked', jsonb_build_object('order_uuid', h.order_uuid, 'resource_uuid', v_resource));
    RETURN true;
END $$;

CREATE FUNCTION waldur_fold_key(h waldur_hint) RETURNS boolean
LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
BEGIN
    INSERT INTO waldur_key (key_uuid, resource_uuid) VALUES (h.key_uuid, h.resource_uuid) ON CONFLICT (key_uuid) DO NOTHING;
    PERFORM FROM waldur_key WHERE key_uuid = h.key_uuid FOR NO KEY UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE waldur_key SET seq = seq + 1, due_at = least(due_at, now()), updated_at = now() WHERE key_uuid = h.key_uuid;
    RETURN true;
END $$;

-- Takes the hints that wait into the rows they are about, each once. Never waits for a lock.
CREATE FUNCTION waldur_fold(p_limit integer) RETURNS integer
LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    h waldur_hint;
    n integer := 0;
    v_folded boolean;
BEGIN
    FOR h IN SELECT * FROM waldur_hint ORDER BY id LIMIT p_limit FOR UPDATE SKIP LOCKED LOOP
        IF h.kind IN ('order', 'closed') THEN
            v_folded := waldur_fold_order(h);
        ELSIF h.kind = 'unlinked' THEN
            v_folded := waldur_fold_unlinked(h);
        ELSIF h.kind = 'key' AND h.key_uuid IS NOT NULL THEN
            v_folded := waldur_fold_key(h);
        ELSE
            -- Which order or key it is about is told by a list: a sweep, soon.
            UPDATE waldur_sweep SET asked_at = coalesce(asked_at, now())
            WHERE sole IN (SELECT sole FROM waldur_sweep FOR NO KEY UPDATE SKIP LOCKED);
            v_folded := FOUND;
        END IF;
        IF v_folded THEN
            DELETE FROM waldur_hint WHERE id = h.id;
            n := n + 1;
        END IF;
    END LOOP;
    RETURN n;
END $$;

-- ---------------------------------------------------------------------------
-- Claims

-- Up to p_limit orders that are due. p_held: those that p_owner has in hand; another one under its name was lost on the
-- way and is claimed again. Never waits for a lock.
CREATE FUNCTION waldur_claim(p_owner uuid, p_limit integer, p_held uuid[])
RETURNS TABLE (order_uuid uuid, fence bigint, phase text, order_type text, resource_uuid uuid, backend_id text,
               verdict text, told text, job_id bigint, job_error_class text, attempts integer,
               name text, api_key text, status text, delivery_prefix text, delivery text)
LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
#variable_conflict use_column
DECLARE
    ids uuid[];
BEGIN
    PERFORM FROM worker w WHERE w.owner = p_owner AND w.lease_until > now() FOR SHARE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    PERFORM waldur_fold(1000);
    ids := ARRAY(SELECT o.order_uuid FROM waldur_order o
                 WHERE o.due_at <= now() AND o.order_uuid <> ALL (p_held)
                   AND (o.claimed_by IS NULL OR o.claimed_by = p_owner OR NOT waldur_is_held(o.claimed_by))
                 ORDER BY o.due_at LIMIT p_limit FOR UPDATE SKIP LOCKED);
    UPDATE waldur_order o SET claimed_by = p_owner, fence = fence + 1, seen = seq, updated_at = now()
    WHERE o.order_uuid = ANY (ids);
    RETURN QUERY
    SELECT o.order_uuid, o.fence, o.phase, o.order_type, o.resource_uuid, o.backend_id, o.verdict, o.told, o.job_id,
           o.job_error_class, o.attempts, c.name, c.api_key, c.status::text, d.prefix, encode(d.sealed, 'hex')
    FROM waldur_order o
    LEFT JOIN agent_config c ON c.subscription_uuid = o.resource_uuid
    LEFT JOIN waldur_delivery d ON d.subscription_uuid = o.resource_uuid AND d.prefix = c.api_key
    WHERE o.order_uuid = ANY (ids) ORDER BY o.due_at;
END $$;

-- The row of a claim that still holds, locked, its subscription before it. NULLs: it is another's now.
CREATE FUNCTION waldur_guard(p_order uuid, p_owner uuid, p_fence bigint, p_resource uuid) RETURNS waldur_order
LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    o waldur_order;
BEGIN
    PERFORM FROM subscription s
    WHERE s.uuid = coalesce(p_resource, (SELECT x.resource_uuid FROM waldur_order x WHERE x.order_uuid = p_order))
    FOR NO KEY UPDATE;
    SELECT * INTO o FROM waldur_order x WHERE x.order_uuid = p_order AND x.claimed_by = p_owner AND x.fence = p_fence
    FOR NO KEY UPDATE;
    RETURN o;
END $$;

-- The claim is over; p_due: when to look again, NULL for never. What was told meanwhile is looked at at once.
CREATE FUNCTION waldur_release(p_order uuid, p_due timestamptz) RETURNS void
LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
BEGIN
    UPDATE waldur_order SET claimed_by = NULL, due_at = CASE WHEN seq > seen THEN now() ELSE p_due END, updated_at = now()
    WHERE order_uuid = p_order;
END $$;

-- What was read of the order: type, state, resource, offering, offering_type, organization, slug.
CREATE FUNCTION waldur_learn(p_order uuid, p_facts jsonb) RETURNS void
LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
BEGIN
    UPDATE waldur_order SET
        order_type = coalesce(p_facts ->> 'type', order_type),
        order_state = coalesce(p_facts ->> 'state', order_state),
        resource_uuid = coalesce((p_facts ->> 'resource')::uuid, resource_uuid),
        offering_uuid = coalesce((p_facts ->> 'offering')::uuid, offering_uuid),
        offering_type = coalesce(p_facts ->> 'offering_type', offering_type),
        organization_uuid = coalesce((p_facts ->> 'organization')::uuid, organization_uuid),
        organization_slug = coalesce(p_facts ->> 'slug', organization_slug),
        attempts = 0, error_class = NULL, error = NULL
    WHERE order_uuid = p_order;
END $$;

-- A change at Waldur whose outcome was open is one that a look has answered by now.
CREATE FUNCTION waldur_looked(p_subject uuid) RETURNS void
LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
BEGIN
    UPDATE waldur_effect SET state = 'done', settled_at = now()
    WHERE subject = p_subject AND state IN ('intended', 'unknown');
END $$;

-- Jobs that wait for the announcement may go on.
CREATE FUNCTION waldur_wake(p_order uuid) RETURNS void
LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    j record;
    n integer := 0;
BEGIN
    FOR j IN SELECT x.id FROM provisioning_job x
             WHERE x.subscription_uuid = (SELECT o.resource_uuid FROM waldur_order o WHERE o.order_uuid = p_order)
               AND x.order_uuid = p_order AND x.state = 'held' AND x.step = 'announce' FOR UPDATE LOOP
        PERFORM job_transition(j.id, NULL, NULL, 'queued', 'waldur');
        n := n + 1;
    END LOOP;
    IF n > 0 THEN
        PERFORM pg_notify('provisioner_jobs', '');
    END IF;
END $$;

-- ---------------------------------------------------------------------------
-- Taking orders in

-- May the order be approved? 'ok': it counts against the quota from now on. 'quota', 'name' with who has it, 'lost'.
-- detail: the name that it has, or would get. p_max NULL: no quota. p_approved: it executes already, and is told the name
-- whatever stands against it: the job says so.
CREATE FUNCTION waldur_accept(p_order uuid, p_owner uuid, p_fence bigint, p_facts jsonb, p_name text, p_max integer,
                              p_approved boolean)
RETURNS TABLE (verdict text, detail text) LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    v_resource uuid := (p_facts ->> 'resource')::uuid;
    v_organization uuid := (p_facts ->> 'organization')::uuid;
    v_name text := coalesce((SELECT c.name FROM agent_config c WHERE c.subscription_uuid = v_resource), p_name);
    o waldur_order := waldur_guard(p_order, p_owner, p_fence, v_resource);
    n bigint;
BEGIN
    IF o.order_uuid IS NULL THEN
        verdict := 'lost';
        RETURN NEXT;
        RETURN;
    END IF;
    verdict := 'ok';
    detail := v_name;
    IF NOT p_approved AND v_name IS NOT NULL
       AND EXISTS (SELECT FROM agent_config c WHERE c.name = v_name AND c.subscription_uuid <> v_resource) THEN
        verdict := 'name';
    ELSIF NOT p_approved AND p_max IS NOT NULL AND v_organization IS NOT NULL THEN
        -- One asks at a time of one organization: two orders could both be the last.
        PERFORM pg_advisory_xact_lock(hashtextextended('agent_marketplace.waldur_accept/' || v_organization, 0));
        n := (SELECT count(*) FROM (
            SELECT s.uuid FROM subscription s
            WHERE s.organization_uuid = v_organization AND s.wanted IN ('present', 'suspended') AND s.uuid <> v_resource
            UNION
            SELECT x.resource_uuid FROM waldur_order x
            WHERE x.organization_uuid = v_organization AND x.accepted_at IS NOT NULL AND x.taken_at IS NULL
              AND x.resource_uuid <> v_resource AND x.order_uuid <> p_order) y);
        IF n >= p_max THEN
            verdict := 'quota';
            detail := n::text;
        END IF;
    END IF;
    IF verdict = 'ok' THEN
        PERFORM waldur_learn(p_order, p_facts);
        UPDATE waldur_order x SET accepted_at = coalesce(accepted_at, now()), reason = NULL, detail = NULL,
            phase = CASE WHEN phase IN ('left', 'dropped') THEN 'hinted' ELSE phase END
        WHERE x.order_uuid = p_order;
    END IF;
    RETURN NEXT;
END $$;

-- p_phase 'left': looked at again by the next sweep or hint. 'dropped': by a hint alone.
CREATE FUNCTION waldur_leave(p_order uuid, p_owner uuid, p_fence bigint, p_facts jsonb, p_phase text, p_reason text,
                             p_detail text)
RETURNS text LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    o waldur_order := waldur_guard(p_order, p_owner, p_fence, (p_facts ->> 'resource')::uuid);
BEGIN
    IF o.order_uuid IS NULL THEN
        RETURN 'lost';
    END IF;
    PERFORM waldur_learn(p_order, p_facts);
    UPDATE waldur_order SET phase = p_phase, reason = p_reason, detail = p_detail, accepted_at = NULL,
                            told = CASE WHEN p_phase = 'left' THEN NULL ELSE told END
    WHERE order_uuid = p_order;
    PERFORM waldur_looked(p_order);
    PERFORM waldur_release(p_order, NULL);
    IF p_phase = 'dropped' THEN
        DELETE FROM waldur_delivery d WHERE d.subscription_uuid = o.resource_uuid
            AND NOT EXISTS (SELECT FROM waldur_order x WHERE x.resource_uuid = o.resource_uuid AND x.phase IN ('hinted', 'taken'));
        PERFORM waldur_wake(p_order);
        IF o.phase <> 'dropped' THEN
            PERFORM audit(coalesce((p_facts ->> 'resource')::uuid, o.resource_uuid), o.organization_uuid, NULL, 'waldur',
                          'waldur.dropped', jsonb_build_object('order_uuid', p_order, 'reason', p_reason));
        END IF;
    END IF;
    RETURN 'ok';
END $$;

-- How the order's last job ended, and so what Waldur is to be told. The caller holds the subscription's lock.
CREATE FUNCTION waldur_judge(p_order uuid) RETURNS void
LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    o waldur_order;
    j record;
    v text;
    v_done boolean; -- Waldur has it as done, and keeps it so
BEGIN
    SELECT * INTO o FROM waldur_order WHERE order_uuid = p_order FOR NO KEY UPDATE;
    v_done := coalesce(o.told = 'done', false);
    IF NOT FOUND OR o.phase NOT IN ('taken', 'reported')
       OR (v_done AND NOT EXISTS (SELECT FROM waldur_delivery d JOIN agent_config c ON c.api_key = d.prefix
                                  WHERE d.subscription_uuid = o.resource_uuid)) THEN
        RETURN;
    END IF;
    -- Once carried out is carried out: what happens to the subscription later bears the number of its last order, too, and
    -- is no word about it.
    SELECT x.id, x.state, x.error_class, s.order_uuid AS wanted_by INTO j
    FROM provisioning_job x JOIN subscription s ON s.uuid = x.subscription_uuid
    WHERE x.subscription_uuid = o.resource_uuid AND x.order_uuid = p_order AND x.kind <> 'purge'
    ORDER BY x.state = 'succeeded' AND x.kind NOT IN ('suspend', 'resume') DESC, x.id DESC LIMIT 1;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    v := CASE WHEN j.state = 'succeeded' THEN 'done'
              WHEN j.state IN ('failed', 'cancelled') THEN 'erred'
              WHEN j.state = 'superseded' AND j.wanted_by <> p_order THEN 'erred' END;
    IF v_done THEN
        IF v IS DISTINCT FROM 'done' THEN
            RETURN;
        END IF;
        -- People have set it done before there was a key, which Waldur has to be given yet.
        UPDATE waldur_order SET phase = 'taken', told = NULL WHERE order_uuid = p_order;
        o.told := NULL;
    END IF;
    UPDATE waldur_order SET
        verdict = v, job_id = j.id,
        job_error_class = CASE WHEN v = 'erred' THEN coalesce(j.error_class, j.state::text) END,
        seq = seq + CASE WHEN v IS DISTINCT FROM o.verdict OR v IS DISTINCT FROM o.told THEN 1 ELSE 0 END,
        due_at = CASE WHEN v IS NOT NULL AND v IS DISTINCT FROM o.told THEN now() ELSE due_at END,
        updated_at = now()
    WHERE order_uuid = p_order;
    IF v IS NOT NULL AND v IS DISTINCT FROM o.told THEN
        PERFORM pg_notify('provisioner_orders', '');
    END IF;
END $$;

-- In the transaction that ends the job, or begins it anew.
CREATE FUNCTION waldur_job_ended() RETURNS trigger LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
BEGIN
    PERFORM waldur_judge(NEW.order_uuid);
    RETURN NULL;
END $$;
CREATE TRIGGER provisioning_job_tells_waldur AFTER UPDATE OF state ON provisioning_job FOR EACH ROW
    WHEN (OLD.state IS DISTINCT FROM NEW.state
          AND (NEW.state IN ('failed', 'succeeded', 'superseded', 'cancelled') OR OLD.state IN ('failed', 'cancelled')))
    EXECUTE FUNCTION waldur_job_ended();

-- The order executes and is announced: its event goes into the inbox, with this row, or not at all. An order that erred
-- and executes again (Waldur's retry) runs its failed job again. Answers what the inbox said, 'known' where the
-- subscription is wanted so by this order already, 'replayed', or 'lost'.
CREATE FUNCTION waldur_take(p_order uuid, p_owner uuid, p_fence bigint, p_facts jsonb, p_backend_id text,
                            p_source text, p_event_id text, p_type text, p_subscription uuid, p_organization uuid,
                            p_time timestamptz, p_data jsonb, p_deadline_ms bigint, p_runtime_name text)
RETURNS text LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    o waldur_order := waldur_guard(p_order, p_owner, p_fence, p_subscription);
    s subscription;
    v text;
BEGIN
    IF o.order_uuid IS NULL THEN
        RETURN 'lost';
    END IF;
    SELECT * INTO s FROM subscription WHERE uuid = p_subscription;
    IF o.phase = 'reported' AND o.told = 'erred' THEN
        v := CASE (SELECT r.verdict FROM job_replay(p_subscription, NULL, p_deadline_ms, 'waldur', false) r)
                 WHEN 'queued' THEN 'replayed' ELSE 'known' END;
    ELSIF s.order_uuid = p_order
          AND (s.wanted IN ('absent', 'purged')) = (p_type = 'subscription.terminated') THEN
        v := 'known';
    ELSE
        -- A pause may have been seen before an order that is older: that speaks for the subscription all the same, or no job
        -- would bear its number.
        v := inbox_take(p_source, p_event_id, p_type, p_subscription, p_organization, p_order,
                        CASE WHEN p_type = 'subscription.updated' AND p_time >= greatest(s.alive_at, s.spec_at)
                             THEN greatest(p_time, s.wanted_at) ELSE p_time END,
                        p_data, NULL, NULL, NULL, NULL, p_deadline_ms, p_runtime_name);
    END IF;
    PERFORM waldur_learn(p_order, p_facts);
    UPDATE waldur_order SET
        phase = 'taken', reason = NULL, detail = NULL, told = NULL,
        resource_uuid = p_subscription, backend_id = coalesce(p_backend_id, backend_id),
        announced_at = CASE WHEN p_backend_id IS NULL THEN announced_at ELSE coalesce(announced_at, now()) END,
        event_id = p_event_id, inbox = CASE WHEN v IN ('known', 'replayed') THEN coalesce(inbox, v) ELSE v END,
        taken_at = coalesce(taken_at, now()),
        -- A later order is known: this one is never carried out. Or there is nothing left to do for it ('noted').
        verdict = CASE WHEN v = 'stale' OR (v = 'noted' AND s.wanted IN ('absent', 'purged')) THEN 'erred'
                       WHEN v = 'noted' THEN 'done' ELSE verdict END,
        job_error_class = CASE WHEN v IN ('stale', 'noted') THEN 'superseded' ELSE job_error_class END
    WHERE order_uuid = p_order;
    PERFORM waldur_looked(p_order);
    PERFORM waldur_judge(p_order);
    PERFORM waldur_wake(p_order);
    PERFORM waldur_release(p_order, CASE WHEN (SELECT verdict FROM waldur_order WHERE order_uuid = p_order) IS NULL
                                         THEN NULL ELSE now() END);
    IF o.phase NOT IN ('taken', 'reported') OR v = 'replayed' THEN
        PERFORM audit(p_subscription, coalesce(p_organization, s.organization_uuid), NULL, 'waldur', 'waldur.taken',
                      jsonb_build_object('order_uuid', p_order, 'type', p_facts ->> 'type', 'backend_id', p_backend_id,
                                         'inbox', v));
    END IF;
    RETURN v;
END $$;

-- The order is closed at Waldur, and not by this report: p_state 'done', 'erred', 'canceled' or 'rejected'. One that was
-- taken and then undone gets a termination, so that nothing is left without a way to its end. Answers 'dropped', 'told',
-- 'undone', 'lost'.
CREATE FUNCTION waldur_closed(p_order uuid, p_owner uuid, p_fence bigint, p_facts jsonb, p_state text,
                              p_source text, p_event_id text, p_data jsonb, p_deadline_ms bigint)
RETURNS text LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    o waldur_order := waldur_guard(p_order, p_owner, p_fence, (p_facts ->> 'resource')::uuid);
    s subscription;
    v text := 'dropped';
BEGIN
    IF o.order_uuid IS NULL THEN
        RETURN 'lost';
    END IF;
    SELECT * INTO s FROM subscription WHERE uuid = o.resource_uuid;
    PERFORM waldur_learn(p_order, p_facts);
    PERFORM waldur_looked(p_order);
    IF p_state IN ('done', 'erred') AND o.phase IN ('taken', 'reported') THEN
        v := 'told';
        IF p_state = 'done' AND o.phase = 'taken' AND o.verdict IS NULL THEN
            -- By people, ahead of its job: what that makes, Waldur has to be given yet.
            PERFORM waldur_release(p_order, NULL);
            RETURN v;
        END IF;
        UPDATE waldur_order SET phase = 'reported', told = p_state,
            told_at = CASE WHEN told = p_state THEN told_at ELSE now() END WHERE order_uuid = p_order;
        PERFORM waldur_release(p_order, NULL);
        RETURN v;
    END IF;
    IF p_state IN ('canceled', 'rejected') AND o.phase IN ('taken', 'reported') AND s.order_uuid = p_order
       AND s.wanted IN ('present', 'suspended') AND coalesce(p_facts ->> 'type', o.order_type) IN ('Create', 'Restore') THEN
        v := 'undone';
        -- As of the order that it undoes: the next one may have been placed before this was seen, and must not be older.
        PERFORM inbox_take(p_source, p_event_id, 'subscription.terminated', s.uuid, s.organization_uuid, p_order,
                           coalesce(s.alive_at, s.wanted_at), p_data, NULL, NULL, NULL, NULL, p_deadline_ms, NULL);
        PERFORM audit(s.uuid, s.organization_uuid, NULL, 'waldur', 'waldur.undone',
                      jsonb_build_object('order_uuid', p_order, 'state', p_state));
    END IF;
    UPDATE waldur_order SET phase = 'dropped', reason = CASE WHEN v = 'undone' THEN v ELSE p_state END, detail = NULL,
                            accepted_at = NULL WHERE order_uuid = p_order;
    PERFORM waldur_wake(p_order);
    PERFORM waldur_release(p_order, NULL);
    RETURN v;
END $$;

-- Not now: when to come again, and what was wrong. p_counts: it was an attempt.
CREATE FUNCTION waldur_wait(p_order uuid, p_owner uuid, p_fence bigint, p_delay_ms bigint, p_counts boolean,
                            p_error_class text, p_error text)
RETURNS text LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    o waldur_order := waldur_guard(p_order, p_owner, p_fence, NULL);
BEGIN
    IF o.order_uuid IS NULL THEN
        RETURN 'lost';
    END IF;
    -- Hints do not cut an error's wait short: every one of a storm would be an attempt.
    UPDATE waldur_order SET attempts = attempts + p_counts::integer, error_class = p_error_class, error = p_error,
        claimed_by = NULL, due_at = now() + make_interval(secs => p_delay_ms / 1000.0), updated_at = now()
    WHERE order_uuid = p_order;
    RETURN 'ok';
END $$;

-- Waldur has been told, or had been, and was seen to know: p_state 'done' or 'erred'. p_delivered: the key that it holds now;
-- what was kept of it is gone with this.
CREATE FUNCTION waldur_told(p_order uuid, p_owner uuid, p_fence bigint, p_state text, p_backend_id text, p_delivered text)
RETURNS text LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    o waldur_order := waldur_guard(p_order, p_owner, p_fence, NULL);
BEGIN
    IF o.order_uuid IS NULL THEN
        RETURN 'lost';
    END IF;
    UPDATE waldur_order SET phase = 'reported', told = p_state, told_at = now(), order_state = p_state,
        backend_id = coalesce(p_backend_id, backend_id),
        announced_at = CASE WHEN p_backend_id IS NULL THEN announced_at ELSE coalesce(announced_at, now()) END,
        attempts = 0, error_class = NULL, error = NULL
    WHERE order_uuid = p_order;
    IF p_delivered IS NOT NULL THEN
        DELETE FROM waldur_delivery WHERE prefix = p_delivered;
        PERFORM audit(o.resource_uuid, o.organization_uuid, NULL, 'waldur', 'api_key.delivered',
                      jsonb_build_object('prefix', p_delivered));
    END IF;
    PERFORM waldur_looked(p_order);
    PERFORM audit(o.resource_uuid, o.organization_uuid, o.job_id, 'waldur', 'waldur.told',
                  jsonb_build_object('order_uuid', p_order, 'state', p_state, 'verdict', o.verdict));
    PERFORM waldur_release(p_order, NULL);
    RETURN 'ok';
END $$;

-- ---------------------------------------------------------------------------
-- Effects, of orders and of keys

CREATE FUNCTION waldur_intend(p_subject uuid, p_owner uuid, p_fence bigint, p_operation text, p_method text, p_target text,
                              p_body_sha256 text, p_request_id text)
RETURNS TABLE (verdict text, effect_id bigint) LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    v_resource uuid;
BEGIN
    SELECT x.resource_uuid INTO v_resource FROM waldur_order x
    WHERE x.order_uuid = p_subject AND x.claimed_by = p_owner AND x.fence = p_fence FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        SELECT x.resource_uuid INTO v_resource FROM waldur_key x
        WHERE x.key_uuid = p_subject AND x.claimed_by = p_owner AND x.fence = p_fence FOR NO KEY UPDATE;
    END IF;
    verdict := CASE WHEN FOUND THEN 'ok' ELSE 'lost' END;
    IF verdict = 'ok' THEN
        UPDATE waldur_effect SET state = 'replaced', settled_at = now()
        WHERE subject = p_subject AND operation = p_operation AND state IN ('intended', 'unknown');
        INSERT INTO waldur_effect (subject, resource_uuid, fence, operation, method, target, body_sha256, request_id)
        VALUES (p_subject, v_resource, p_fence, p_operation, p_method, p_target, p_body_sha256, p_request_id)
        RETURNING id INTO effect_id;
    END IF;
    RETURN NEXT;
END $$;

CREATE FUNCTION waldur_settle(p_effect bigint, p_fence bigint, p_state effect_state, p_http_status integer,
                              p_error_class text, p_error text)
RETURNS boolean LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
BEGIN
    UPDATE waldur_effect SET state = p_state, http_status = p_http_status, error_class = p_error_class, error = p_error,
        settled_at = CASE WHEN p_state IN ('intended', 'unknown') THEN NULL ELSE now() END
    WHERE id = p_effect AND fence = p_fence AND state IN ('intended', 'unknown');
    RETURN FOUND;
END $$;

-- ---------------------------------------------------------------------------
-- Keys

CREATE FUNCTION waldur_key_claim(p_owner uuid, p_limit integer, p_held uuid[])
RETURNS TABLE (key_uuid uuid, fence bigint, phase text, resource_uuid uuid, prefix text, attempts integer, status text,
               api_key text, delivery text)
LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
#variable_conflict use_column
DECLARE
    ids uuid[];
BEGIN
    PERFORM FROM worker w WHERE w.owner = p_owner AND w.lease_until > now() FOR SHARE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    ids := ARRAY(SELECT k.key_uuid FROM waldur_key k
                 WHERE k.due_at <= now() AND k.key_uuid <> ALL (p_held)
                   AND (k.claimed_by IS NULL OR k.claimed_by = p_owner OR NOT waldur_is_held(k.claimed_by))
                 ORDER BY k.due_at LIMIT p_limit FOR UPDATE SKIP LOCKED);
    -- One that was brought to its end is wanted again where it is due.
    UPDATE waldur_key k SET claimed_by = p_owner, fence = fence + 1, seen = seq, updated_at = now(),
        phase = CASE WHEN phase = 'kept' THEN phase ELSE 'wanted' END
    WHERE k.key_uuid = ANY (ids);
    RETURN QUERY
    SELECT k.key_uuid, k.fence, k.phase, k.resource_uuid, k.prefix, k.attempts, c.status::text, c.api_key,
           encode(d.sealed, 'hex')
    FROM waldur_key k
    LEFT JOIN agent_config c ON c.subscription_uuid = k.resource_uuid
    LEFT JOIN waldur_delivery d ON d.prefix = k.prefix
    WHERE k.key_uuid = ANY (ids) ORDER BY k.due_at;
END $$;

CREATE FUNCTION waldur_key_guard(p_key uuid, p_owner uuid, p_fence bigint) RETURNS waldur_key
LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    k waldur_key;
BEGIN
    PERFORM FROM subscription s WHERE s.uuid = (SELECT x.resource_uuid FROM waldur_key x WHERE x.key_uuid = p_key)
    FOR NO KEY UPDATE;
    SELECT * INTO k FROM waldur_key x WHERE x.key_uuid = p_key AND x.claimed_by = p_owner AND x.fence = p_fence
    FOR NO KEY UPDATE;
    RETURN k;
END $$;

-- The new key is made: kept before Waldur hears of it, and not valid yet.
CREATE FUNCTION waldur_key_keep(p_key uuid, p_owner uuid, p_fence bigint, p_prefix text, p_hash bytea, p_sealed_key bytea,
                                p_sealed bytea)
RETURNS text LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    k waldur_key := waldur_key_guard(p_key, p_owner, p_fence);
BEGIN
    IF k.key_uuid IS NULL THEN
        RETURN 'lost';
    END IF;
    IF NOT EXISTS (SELECT FROM agent_config WHERE subscription_uuid = k.resource_uuid AND status = 'ready') THEN
        RETURN 'inactive';
    END IF;
    UPDATE waldur_key SET phase = 'kept', prefix = p_prefix, key_hash = p_hash, sealed_key = p_sealed_key, reason = NULL
    WHERE key_uuid = p_key;
    INSERT INTO waldur_delivery (prefix, subscription_uuid, sealed) VALUES (p_prefix, k.resource_uuid, p_sealed);
    RETURN 'ok';
END $$;

-- Waldur has the new key and was seen to have it: it is live, the former one is revoked, and nothing clear is left.
CREATE FUNCTION waldur_key_live(p_key uuid, p_owner uuid, p_fence bigint) RETURNS text
LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    k waldur_key := waldur_key_guard(p_key, p_owner, p_fence);
    old agent_api_key;
BEGIN
    IF k.key_uuid IS NULL THEN
        RETURN 'lost';
    END IF;
    DELETE FROM waldur_delivery WHERE prefix = k.prefix;
    PERFORM waldur_looked(p_key);
    UPDATE agent_api_key SET revoked_at = now() WHERE subscription_uuid = k.resource_uuid AND revoked_at IS NULL
    RETURNING * INTO old;
    UPDATE waldur_key SET phase = CASE WHEN old.id IS NULL THEN 'dropped' ELSE 'done' END, former = old.prefix,
        reason = CASE WHEN old.id IS NULL THEN 'revoked' END, key_hash = NULL, sealed_key = NULL, rounds = rounds + 1,
        attempts = 0, error_class = NULL, error = NULL, claimed_by = NULL,
        due_at = CASE WHEN seq > seen THEN now() END, updated_at = now()
    WHERE key_uuid = p_key;
    IF old.id IS NULL THEN
        RETURN 'revoked'; -- the subscription was closed meanwhile: no key of it may live
    END IF;
    INSERT INTO agent_api_key (subscription_uuid, organization_uuid, prefix, key_hash, sealed_key, permissions,
                               allowed_domains, rate_limit, expires_at)
    VALUES (old.subscription_uuid, old.organization_uuid, k.prefix, k.key_hash, k.sealed_key, old.permissions,
            old.allowed_domains, old.rate_limit, old.expires_at);
    UPDATE agent_config SET api_key = k.prefix, updated_at = now() WHERE subscription_uuid = k.resource_uuid;
    PERFORM audit(old.subscription_uuid, old.organization_uuid, NULL, 'waldur', 'api_key.rotated',
                  jsonb_build_object('prefix', k.prefix, 'former', old.prefix, 'key_uuid', p_key));
    RETURN 'ok';
END $$;

-- There is no new key. p_phase: 'erred' (Waldur was told), 'dropped' (it wants none).
CREATE FUNCTION waldur_key_end(p_key uuid, p_owner uuid, p_fence bigint, p_phase text, p_reason text) RETURNS text
LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    k waldur_key := waldur_key_guard(p_key, p_owner, p_fence);
BEGIN
    IF k.key_uuid IS NULL THEN
        RETURN 'lost';
    END IF;
    DELETE FROM waldur_delivery WHERE prefix = k.prefix AND k.phase = 'kept';
    PERFORM waldur_looked(p_key);
    UPDATE waldur_key SET phase = p_phase, reason = p_reason, key_hash = NULL, sealed_key = NULL,
        attempts = 0, error_class = NULL, error = NULL, claimed_by = NULL,
        due_at = CASE WHEN seq > seen THEN now() END, updated_at = now()
    WHERE key_uuid = p_key;
    RETURN 'ok';
END $$;

CREATE FUNCTION waldur_key_wait(p_key uuid, p_owner uuid, p_fence bigint, p_delay_ms bigint, p_counts boolean,
                                p_error_class text, p_error text)
RETURNS text LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
BEGIN
    UPDATE waldur_key SET attempts = attempts + p_counts::integer, error_class = p_error_class, error = p_error,
        claimed_by = NULL, due_at = now() + make_interval(secs => p_delay_ms / 1000.0), updated_at = now()
    WHERE key_uuid = p_key AND claimed_by = p_owner AND fence = p_fence;
    RETURN CASE WHEN FOUND THEN 'ok' ELSE 'lost' END;
END $$;

-- ---------------------------------------------------------------------------
-- The sweep

-- Mine now? A row where it is due and nobody else's. p_every_ms: between two; p_asked_ms: where one was asked for.
CREATE FUNCTION waldur_sweep_begin(p_owner uuid, p_every_ms bigint, p_asked_ms bigint)
RETURNS TABLE (fence bigint, modified_from timestamptz) LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
#variable_conflict use_column
DECLARE
    w waldur_sweep;
BEGIN
    PERFORM FROM worker x WHERE x.owner = p_owner AND x.lease_until > now() FOR SHARE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    SELECT * INTO w FROM waldur_sweep FOR NO KEY UPDATE SKIP LOCKED;
    IF NOT FOUND OR (w.claimed_by <> p_owner AND waldur_is_held(w.claimed_by))
       OR w.started_at > now() - make_interval(secs => CASE WHEN w.asked_at IS NULL THEN p_every_ms ELSE p_asked_ms END / 1000.0)
    THEN
        RETURN;
    END IF;
    RETURN QUERY UPDATE waldur_sweep SET claimed_by = p_owner, fence = fence + 1, started_at = now(), asked_at = NULL
                 RETURNING waldur_sweep.fence, waldur_sweep.modified_from;
END $$;

-- All open orders of our offerings were listed: what calls for a look gets a hint. That is what is new or waits, and what
-- was taken and is not open any more. The database's clock tells which rows the list could not have known.
-- Returns how many; NULL: the sweep is another's.
CREATE FUNCTION waldur_sweep_orders(p_owner uuid, p_fence bigint, p_open uuid[]) RETURNS integer
LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    w waldur_sweep;
    n integer;
BEGIN
    SELECT * INTO w FROM waldur_sweep WHERE claimed_by = p_owner AND fence = p_fence;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    INSERT INTO waldur_hint (kind, source, order_uuid)
    SELECT 'order', 'sweep', x.id FROM unnest(p_open) AS x(id) LEFT JOIN waldur_order o ON o.order_uuid = x.id
    WHERE o.order_uuid IS NULL OR (o.phase IN ('left', 'dropped', 'reported') AND o.due_at IS NULL)
       OR (o.phase = 'hinted' AND o.due_at IS NULL)
    UNION ALL
    SELECT 'order', 'sweep', o.order_uuid FROM waldur_order o
    WHERE o.phase IN ('left', 'taken') AND o.due_at IS NULL AND o.updated_at < w.started_at
      AND o.order_uuid <> ALL (p_open);
    GET DIAGNOSTICS n = ROW_COUNT;
    IF n > 0 THEN
        PERFORM pg_notify('provisioner_orders', '');
    END IF;
    RETURN n;
END $$;

CREATE FUNCTION waldur_sweep_end(p_owner uuid, p_fence bigint, p_modified_from timestamptz, p_error text) RETURNS boolean
LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
BEGIN
    UPDATE waldur_sweep SET claimed_by = NULL, error = p_error,
        finished_at = CASE WHEN p_error IS NULL THEN now() ELSE finished_at END,
        modified_from = coalesce(p_modified_from, modified_from)
    WHERE claimed_by = p_owner AND fence = p_fence;
    RETURN FOUND;
END $$;

-- A resource is paused at Waldur, or no more: an event where the subscription is wanted otherwise. NULL: nothing to do.
CREATE FUNCTION waldur_paused(p_subscription uuid, p_source text, p_event_id text, p_type text, p_time timestamptz,
                              p_data jsonb, p_deadline_ms bigint)
RETURNS text LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    s subscription;
BEGIN
    SELECT * INTO s FROM subscription WHERE uuid = p_subscription FOR NO KEY UPDATE;
    IF NOT FOUND OR s.wanted::text <> (CASE p_type WHEN 'subscription.suspended' THEN 'present' ELSE 'suspended' END) THEN
        RETURN NULL;
    END IF;
    RETURN inbox_take(p_source, p_event_id, p_type, p_subscription, s.organization_uuid, s.order_uuid,
                      greatest(p_time, s.wanted_at), p_data, NULL, NULL, NULL, NULL, p_deadline_ms, s.runtime_name);
END $$;

-- What waits, for metrics: orders by phase and reason, hints, keys.
CREATE FUNCTION waldur_counts() RETURNS TABLE (what text, reason text, n bigint)
LANGUAGE sql STABLE SET search_path = agent_marketplace, pg_temp AS $$
    SELECT o.phase, coalesce(o.reason, ''), count(*) FROM waldur_order o WHERE o.phase IN ('hinted', 'left', 'taken')
    GROUP BY 1, 2
    UNION ALL SELECT 'hints', '', count(*) FROM (SELECT FROM waldur_hint LIMIT 10000) x
    UNION ALL SELECT 'keys', '', count(*) FROM waldur_key k WHERE k.due_at IS NOT NULL
$$;

-- ---------------------------------------------------------------------------
-- What jobs write

-- Passes where Waldur knows the resource by its frozen name, or does not know the order. Else it asks, and the answer is
-- 'wait': the job is held until it is woken, drop the work.
CREATE FUNCTION step_announce(p_job bigint, p_owner uuid, p_fence bigint, p_deadline_ms bigint, p_next job_step) RETURNS text
LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    v text := job_guard(p_job, p_owner, p_fence, p_deadline_ms);
    j provisioning_job;
    o waldur_order;
BEGIN
    IF v <> 'ok' THEN
        RETURN v;
    END IF;
    SELECT * INTO STRICT j FROM provisioning_job WHERE id = p_job;
    INSERT INTO waldur_order (order_uuid, source, resource_uuid, due_at) VALUES (j.order_uuid, 'job', j.subscription_uuid, now())
    ON CONFLICT (order_uuid) DO NOTHING;
    SELECT * INTO STRICT o FROM waldur_order WHERE order_uuid = j.order_uuid FOR NO KEY UPDATE;
    IF o.phase = 'dropped'
       OR o.backend_id = (SELECT c.name FROM agent_config c WHERE c.subscription_uuid = j.subscription_uuid) THEN
        PERFORM job_advance(p_job, p_owner, p_fence, p_next);
        RETURN 'ok';
    END IF;
    UPDATE waldur_order SET resource_uuid = coalesce(resource_uuid, j.subscription_uuid), due_at = least(due_at, now()),
                            seq = seq + 1
    WHERE order_uuid = j.order_uuid;
    -- Held in the transaction that asks: nobody can wake it before it sleeps. By itself it comes back for lost wakes alone.
    IF NOT job_transition(p_job, p_owner, p_fence, 'held', 'worker', p_delay_ms => 60000, p_error_class => 'unavailable',
                          p_error => 'Waldur has to be told the resource''s backend id first') THEN
        RAISE EXCEPTION 'job % lost its fence between guard and write', p_job;
    END IF;
    PERFORM pg_notify('provisioner_orders', '');
    RETURN 'wait';
END $$;

-- The report is the order's row: what the job's end makes due is told from there. An order that came another way than by
-- Waldur's word gets its row here.
CREATE FUNCTION step_report(p_job bigint, p_owner uuid, p_fence bigint, p_deadline_ms bigint, p_next job_step) RETURNS text
LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    v text := job_guard(p_job, p_owner, p_fence, p_deadline_ms);
BEGIN
    IF v <> 'ok' THEN
        RETURN v;
    END IF;
    INSERT INTO waldur_order (order_uuid, source, phase, resource_uuid, organization_uuid, organization_slug, taken_at)
    SELECT j.order_uuid, 'job', 'taken', j.subscription_uuid, j.organization_uuid, nullif(j.organization_slug, ''), now()
    FROM provisioning_job j WHERE j.id = p_job
    ON CONFLICT (order_uuid) DO NOTHING;
    PERFORM job_advance(p_job, p_owner, p_fence, p_next);
    RETURN 'ok';
END $$;

-- Like step_api_key; the clear key is kept, sealed (p_delivery), until Waldur has it.
CREATE FUNCTION step_api_key_for_waldur(p_job bigint, p_owner uuid, p_fence bigint, p_deadline_ms bigint, p_next job_step,
                                        p_prefix text, p_hash bytea, p_sealed bytea, p_terms jsonb, p_delivery bytea)
RETURNS text LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    v text := step_api_key(p_job, p_owner, p_fence, p_deadline_ms, p_next, p_prefix, p_hash, p_sealed, p_terms);
BEGIN
    IF v = 'ok' THEN
        INSERT INTO waldur_delivery (prefix, subscription_uuid, sealed)
        SELECT k.prefix, k.subscription_uuid, p_delivery FROM agent_api_key k
        WHERE k.prefix = p_prefix AND k.revoked_at IS NULL
          -- Of an order that Waldur does not know nobody will ask for it.
          AND NOT EXISTS (SELECT FROM provisioning_job j JOIN waldur_order o ON o.order_uuid = j.order_uuid
                          WHERE j.id = p_job AND o.phase = 'dropped');
    END IF;
    RETURN v;
END $$;

-- A key that is valid no more is delivered to nobody.
CREATE FUNCTION waldur_delivery_ends() RETURNS trigger LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
BEGIN
    DELETE FROM waldur_delivery WHERE prefix = NEW.prefix;
    RETURN NULL;
END $$;
CREATE TRIGGER agent_api_key_revoked AFTER UPDATE OF revoked_at ON agent_api_key FOR EACH ROW
    WHEN (OLD.revoked_at IS NULL AND NEW.revoked_at IS NOT NULL) EXECUTE FUNCTION waldur_delivery_ends();

-- ---------------------------------------------------------------------------
ALTER TABLE waldur_order ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant_sees_its_own ON waldur_order FOR SELECT USING (organization_uuid = current_tenant());
CREATE POLICY worker_sees_all ON waldur_order TO provisioner_worker USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON waldur_hint, waldur_order, waldur_effect, waldur_delivery, waldur_key, waldur_sweep
    TO provisioner_worker;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA agent_marketplace TO provisioner_worker;
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA agent_marketplace FROM PUBLIC;
GRANT EXECUTE ON FUNCTION current_tenant() TO PUBLIC;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA agent_marketplace TO provisioner_worker;
REVOKE EXECUTE ON FUNCTION origin_host(text), domain_allowed(text, text[]) FROM provisioner_worker;
