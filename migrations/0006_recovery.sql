-- Ways in which a crash or a lost answer left work for later than need be, or for nobody.

-- What became of the request. 'unknown' keeps it open: the next look decides. One that never left, or changed nothing,
-- stands for nothing: what its intent replaced (in one transaction, so at one time) may still land, and is open again.
CREATE OR REPLACE FUNCTION effect_settle(p_effect bigint, p_fence bigint, p_state effect_state, p_external_id text,
                                         p_http_status integer, p_error_class text, p_error text)
RETURNS boolean LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    e provisioning_effect;
BEGIN
    UPDATE provisioning_effect SET
        state = p_state, external_id = coalesce(p_external_id, external_id), http_status = p_http_status,
        error_class = p_error_class, error = p_error,
        settled_at = CASE WHEN p_state IN ('intended', 'unknown') THEN NULL ELSE now() END
    WHERE id = p_effect AND fence = p_fence AND state IN ('intended', 'unknown')
    RETURNING * INTO e;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    IF p_state IN ('not_sent', 'refused') THEN
        UPDATE provisioning_effect SET state = 'unknown', settled_at = NULL
        WHERE subscription_uuid = e.subscription_uuid AND product = e.product AND operation = e.operation
          AND state = 'replaced' AND settled_at = e.intended_at;
    END IF;
    RETURN true;
END $$;

-- Claimed, and neither the claim nor the claimer's lease has run out: what a dead worker had in hand waits no longer than
-- its jobs do.
CREATE FUNCTION outbox_held(p_by uuid, p_until timestamptz) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT coalesce(p_until > now(), false)
        AND NOT EXISTS (SELECT FROM agent_marketplace.worker w WHERE w.owner = p_by AND w.lease_until <= now())
$$;

-- In order per subscription: a row waits while an older one of its subscription is in another worker's hands. One
-- claims at a time (others get nothing and come again): SKIP LOCKED alone would pass over the older row and take the
-- younger one.
CREATE OR REPLACE FUNCTION outbox_claim(p_owner uuid, p_limit integer)
RETURNS TABLE (id bigint, subscription_uuid uuid, type text, payload text)
LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
#variable_conflict use_column
DECLARE
    r record;
    v_since constant bigint := queue_floor('outbox');
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtext('agent_marketplace.outbox_claim')) THEN
        RETURN;
    END IF;
    FOR r IN SELECT o.id, o.subscription_uuid, o.type, o.payload FROM outbox o
             WHERE o.id >= v_since AND NOT outbox_held(o.claimed_by, o.claimed_until)
               AND NOT EXISTS (SELECT FROM outbox older WHERE older.subscription_uuid = o.subscription_uuid
                               AND older.id < o.id AND older.claimed_by <> p_owner
                               AND outbox_held(older.claimed_by, older.claimed_until))
             ORDER BY o.id LIMIT p_limit FOR UPDATE SKIP LOCKED LOOP
        UPDATE outbox o SET claimed_by = p_owner, claimed_until = now() + interval '60 seconds' WHERE o.id = r.id;
        id := r.id;
        subscription_uuid := r.subscription_uuid;
        type := r.type;
        payload := r.payload;
        RETURN NEXT;
    END LOOP;
END $$;

-- The owner does not know what its last claim got, for the answer was lost: all but what it has in hand is free again.
CREATE FUNCTION outbox_forget(p_owner uuid, p_kept bigint[]) RETURNS integer
LANGUAGE plpgsql SET search_path = agent_marketplace, pg_temp AS $$
DECLARE
    n integer;
BEGIN
    UPDATE outbox SET claimed_by = NULL, claimed_until = NULL WHERE claimed_by = p_owner AND id <> ALL (p_kept);
    GET DIAGNOSTICS n = ROW_COUNT;
    RETURN n;
END $$;

REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA agent_marketplace FROM PUBLIC;
GRANT EXECUTE ON FUNCTION current_tenant() TO PUBLIC;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA agent_marketplace TO provisioner_worker;
REVOKE EXECUTE ON FUNCTION origin_host(text), domain_allowed(text, text[]) FROM provisioner_worker;
