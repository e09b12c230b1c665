-- Tables, types and constraints. What must never be is made impossible here, not only avoided in code.

CREATE TYPE wanted_state AS ENUM ('present', 'suspended', 'absent', 'purged');
CREATE TYPE agent_status AS ENUM ('provisioning', 'ready', 'failed', 'suspended', 'terminating', 'archived', 'purged');
CREATE TYPE job_kind AS ENUM ('provision', 'update', 'suspend', 'resume', 'terminate', 'purge');
CREATE TYPE job_state AS ENUM ('queued', 'running', 'retrying', 'held', 'failed', 'superseded', 'succeeded', 'cancelled');
CREATE TYPE job_step AS ENUM ('name', 'announce', 'collection', 'workspace', 'api_key', 'record', 'report',
                              'close_workspace', 'open_workspace', 'revoke', 'archive', 'chat_history');
CREATE TYPE effect_state AS ENUM ('intended', 'unknown', 'done', 'refused', 'not_sent', 'replaced');

-- ---------------------------------------------------------------------------
-- Inbox: one row per distinct event. A Kafka offset moves only after its row is committed.
CREATE TABLE subscription_event (
    seq               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source            text NOT NULL CHECK (source <> ''),
    event_id          text NOT NULL CHECK (event_id <> ''),
    type              text NOT NULL CHECK (type IN ('subscription.created', 'subscription.terminated')),
    subscription_uuid uuid NOT NULL,
    organization_uuid uuid,
    order_uuid        uuid NOT NULL,
    event_time        timestamptz NOT NULL,
    received_at       timestamptz NOT NULL DEFAULT now(),
    kafka_topic       text,
    kafka_partition   integer,
    kafka_offset      bigint,
    traceparent       text,
    verdict           text NOT NULL CHECK (verdict IN ('applied', 'repeated', 'stale')),
    data              jsonb NOT NULL,
    CONSTRAINT subscription_event_once UNIQUE (source, event_id)
);
CREATE INDEX subscription_event_by_subscription ON subscription_event (subscription_uuid, seq);
CREATE INDEX subscription_event_by_age ON subscription_event (received_at);

-- What is wanted of a subscription. generation rises with every accepted wish; jobs work for one generation.
CREATE TABLE subscription (
    uuid              uuid PRIMARY KEY,
    wanted            wanted_state NOT NULL,
    generation        bigint NOT NULL DEFAULT 1 CHECK (generation > 0),
    wanted_at         timestamptz NOT NULL,
    event_seq         bigint NOT NULL,
    order_uuid        uuid NOT NULL,
    organization_uuid uuid,
    organization_slug text,
    spec              jsonb,
    traceparent       text,
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT subscription_present_has_spec CHECK (wanted <> 'present' OR spec IS NOT NULL)
) WITH (fillfactor = 80);

-- ---------------------------------------------------------------------------
-- The recorded runtime of a subscription; read by Waldur's backend and the API gateway.
CREATE TABLE agent_config (
    subscription_uuid    uuid PRIMARY KEY REFERENCES subscription (uuid),
    organization_uuid    uuid NOT NULL,
    organization_slug    text NOT NULL,
    project_uuid         uuid NOT NULL,
    project_slug         text NOT NULL,
    offering_uuid        uuid NOT NULL,
    offering_type        text NOT NULL,
    plan_tier            text NOT NULL CHECK (plan_tier IN ('free', 'plus', 'pro', 'enterprise')),
    capabilities         text[] NOT NULL DEFAULT '{}' CHECK (array_position(capabilities, NULL) IS NULL),
    variables            jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(variables) = 'object'),
    runtime              text NOT NULL CHECK (runtime IN ('shared', 'dedicated')),
    runtime_name         text NOT NULL CHECK (runtime_name <> ''),
    name                 text NOT NULL CHECK (name ~ '^[a-z0-9]([a-z0-9-]{0,126}[a-z0-9])?$'),
    runtime_workspace_id text CHECK (runtime_workspace_id <> ''),
    knowledge_base_id    text CHECK (knowledge_base_id <> ''),
    api_key              text,
    status               agent_status NOT NULL DEFAULT 'provisioning',
    status_reason        text,
    ready_at             timestamptz,
    archived_at          timestamptz,
    created_at           timestamptz NOT NULL DEFAULT now(),
    updated_at           timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT agent_config_name_once UNIQUE (name),
    CONSTRAINT agent_config_ready_is_whole CHECK (status <> 'ready'
        OR (runtime_workspace_id IS NOT NULL AND api_key IS NOT NULL AND ready_at IS NOT NULL
            AND (knowledge_base_id IS NOT NULL OR NOT 'rag' = ANY (capabilities)))),
    CONSTRAINT agent_config_archived_is_closed CHECK (status <> 'archived'
        OR (knowledge_base_id IS NULL AND api_key IS NULL AND archived_at IS NOT NULL)),
    CONSTRAINT agent_config_purged_is_empty CHECK (status <> 'purged'
        OR (knowledge_base_id IS NULL AND api_key IS NULL AND runtime_workspace_id IS NULL))
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX agent_config_workspace_once ON agent_config (runtime_name, runtime_workspace_id)
    WHERE runtime_workspace_id IS NOT NULL;
CREATE UNIQUE INDEX agent_config_collection_once ON agent_config (runtime_name, knowledge_base_id)
    WHERE knowledge_base_id IS NOT NULL;
CREATE INDEX agent_config_by_organization ON agent_config (organization_uuid);
CREATE INDEX agent_config_archived ON agent_config (archived_at) WHERE status = 'archived';

CREATE TABLE agent_api_key (
    id                bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subscription_uuid uuid NOT NULL REFERENCES agent_config (subscription_uuid),
    organization_uuid uuid NOT NULL,
    prefix            text NOT NULL UNIQUE CHECK (prefix ~ '^pk_live_[0-9A-Za-z]{8}$'),
    key_hash          bytea NOT NULL UNIQUE CHECK (octet_length(key_hash) = 32),
    sealed_key        bytea NOT NULL CHECK (octet_length(sealed_key) > 48),
    permissions       text[] NOT NULL DEFAULT '{}',
    allowed_domains   text[] NOT NULL DEFAULT '{}',
    rate_limit        text NOT NULL CHECK (rate_limit ~ '^[1-9][0-9]*/(second|minute|hour|day)$'),
    created_at        timestamptz NOT NULL DEFAULT now(),
    expires_at        timestamptz,
    revoked_at        timestamptz,
    last_used_at      timestamptz
);
CREATE UNIQUE INDEX agent_api_key_one_live ON agent_api_key (subscription_uuid) WHERE revoked_at IS NULL;
CREATE INDEX agent_api_key_by_subscription ON agent_api_key (subscription_uuid, id);
CREATE INDEX agent_api_key_by_organization ON agent_api_key (organization_uuid);

-- ---------------------------------------------------------------------------
-- The machine as data. The program holds the same table; a test compares them.
CREATE TABLE job_plan (
    kind     job_kind NOT NULL,
    position smallint NOT NULL,
    step     job_step NOT NULL,
    PRIMARY KEY (kind, position),
    UNIQUE (kind, step)
);
INSERT INTO job_plan (kind, position, step) VALUES
    ('provision', 1, 'name'), ('provision', 2, 'announce'), ('provision', 3, 'collection'), ('provision', 4, 'workspace'),
    ('provision', 5, 'api_key'), ('provision', 6, 'record'), ('provision', 7, 'report'),
    ('update', 1, 'workspace'), ('update', 2, 'record'), ('update', 3, 'report'),
    ('suspend', 1, 'close_workspace'), ('suspend', 2, 'report'),
    ('resume', 1, 'open_workspace'), ('resume', 2, 'report'),
    ('terminate', 1, 'revoke'), ('terminate', 2, 'close_workspace'), ('terminate', 3, 'collection'),
    ('terminate', 4, 'archive'), ('terminate', 5, 'report'),
    ('purge', 1, 'chat_history'), ('purge', 2, 'workspace'), ('purge', 3, 'record');

CREATE TABLE job_edge (
    from_state job_state NOT NULL,
    to_state   job_state NOT NULL,
    PRIMARY KEY (from_state, to_state)
);
INSERT INTO job_edge (from_state, to_state) VALUES
    ('queued', 'running'), ('queued', 'superseded'), ('queued', 'cancelled'),
    ('running', 'queued'), ('running', 'retrying'), ('running', 'held'), ('running', 'failed'),
    ('running', 'superseded'), ('running', 'succeeded'), ('running', 'cancelled'),
    ('retrying', 'running'), ('retrying', 'superseded'), ('retrying', 'cancelled'),
    ('held', 'running'), ('held', 'queued'), ('held', 'superseded'), ('held', 'cancelled'),
    ('failed', 'queued'), ('failed', 'superseded');

-- A running worker. Its lease covers every job that names it as lease_owner: one row to renew, not thousands.
CREATE TABLE worker (
    owner       uuid PRIMARY KEY,
    host        text NOT NULL,
    pid         integer NOT NULL,
    version     text NOT NULL,
    started_at  timestamptz NOT NULL DEFAULT now(),
    lease_until timestamptz NOT NULL
);

-- A row changes with every step: room on its page keeps the versions there, and the indexes out of it.
CREATE TABLE provisioning_job (
    id                bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subscription_uuid uuid NOT NULL REFERENCES subscription (uuid),
    organization_uuid uuid NOT NULL,
    organization_slug text NOT NULL DEFAULT '',
    order_uuid        uuid NOT NULL,
    runtime_name      text,
    kind              job_kind NOT NULL,
    generation        bigint NOT NULL,
    state             job_state NOT NULL DEFAULT 'queued',
    step              job_step NOT NULL,
    attempts          integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    next_attempt_at   timestamptz NOT NULL DEFAULT now(),
    deadline_at       timestamptz NOT NULL,
    fence             bigint NOT NULL DEFAULT 0,
    lease_owner       uuid,
    error_class       text,
    error             text,
    traceparent       text,
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now(),
    finished_at       timestamptz,
    FOREIGN KEY (kind, step) REFERENCES job_plan (kind, step),
    CONSTRAINT provisioning_job_running_is_leased CHECK ((state = 'running') = (lease_owner IS NOT NULL)),
    CONSTRAINT provisioning_job_live_is_unfinished
        CHECK ((state IN ('queued', 'running', 'retrying', 'held')) = (finished_at IS NULL)),
    CONSTRAINT provisioning_job_failed_says_why CHECK (state <> 'failed' OR (error_class IS NOT NULL AND coalesce(error, '') <> ''))
) WITH (fillfactor = 50);
CREATE UNIQUE INDEX provisioning_job_one_live ON provisioning_job (subscription_uuid)
    WHERE state IN ('queued', 'running', 'retrying', 'held');
-- Claims walk this one organization after the other: their cost does not grow with the backlog.
CREATE INDEX provisioning_job_waiting ON provisioning_job (organization_uuid, next_attempt_at)
    WHERE state IN ('queued', 'retrying', 'held');
-- Is anything due at all? An expression, so that no plan ever walks this one for an organization's next jobs.
CREATE INDEX provisioning_job_due ON provisioning_job ((next_attempt_at AT TIME ZONE 'UTC'))
    WHERE state IN ('queued', 'retrying', 'held');
CREATE INDEX provisioning_job_leased ON provisioning_job (lease_owner) WHERE state = 'running';
CREATE INDEX provisioning_job_held ON provisioning_job (runtime_name) WHERE state = 'held';
-- Not by updated_at: an index on what every step changes would cost each of them a new entry in every index.
CREATE INDEX provisioning_job_failed ON provisioning_job (finished_at) WHERE state = 'failed';
CREATE INDEX provisioning_job_by_subscription ON provisioning_job (subscription_uuid, id);

CREATE FUNCTION provisioning_job_check_edge() RETURNS trigger LANGUAGE plpgsql
    SET search_path = agent_marketplace, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM job_edge WHERE from_state = OLD.state AND to_state = NEW.state) THEN
        RAISE EXCEPTION 'job % may not go from % to %', OLD.id, OLD.state, NEW.state USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER provisioning_job_edge BEFORE UPDATE ON provisioning_job FOR EACH ROW
    WHEN (OLD.state IS DISTINCT FROM NEW.state) EXECUTE FUNCTION provisioning_job_check_edge();

CREATE FUNCTION provisioning_job_begins_queued() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a job begins queued, not %', NEW.state USING ERRCODE = 'check_violation';
END $$;
CREATE TRIGGER provisioning_job_begin BEFORE INSERT ON provisioning_job FOR EACH ROW
    WHEN (NEW.state <> 'queued') EXECUTE FUNCTION provisioning_job_begins_queued();

-- ---------------------------------------------------------------------------
-- The journal of changes in other systems. The row is committed before the request leaves.
CREATE TABLE provisioning_effect (
    id                bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subscription_uuid uuid NOT NULL REFERENCES subscription (uuid),
    job_id            bigint NOT NULL REFERENCES provisioning_job (id),
    fence             bigint NOT NULL,
    step              job_step NOT NULL,
    runtime_name      text NOT NULL,
    product           text NOT NULL CHECK (product IN ('langflow', 'ragflow', 'waldur')),
    operation         text NOT NULL CHECK (operation <> ''),
    method            text NOT NULL,
    target            text NOT NULL,
    name              text NOT NULL,
    marker            text NOT NULL,
    body_sha256       text NOT NULL,
    request_id        text NOT NULL,
    state             effect_state NOT NULL DEFAULT 'intended',
    external_id       text,
    http_status       integer,
    error_class       text,
    error             text,
    intended_at       timestamptz NOT NULL DEFAULT now(),
    settled_at        timestamptz,
    CONSTRAINT provisioning_effect_open_is_unsettled CHECK ((state IN ('intended', 'unknown')) = (settled_at IS NULL))
);
CREATE UNIQUE INDEX provisioning_effect_one_open ON provisioning_effect (subscription_uuid, product, operation)
    WHERE state IN ('intended', 'unknown');
CREATE INDEX provisioning_effect_by_subscription ON provisioning_effect (subscription_uuid, id);

-- ---------------------------------------------------------------------------
CREATE TABLE audit_log (
    id                bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at                timestamptz NOT NULL DEFAULT clock_timestamp(),
    subscription_uuid uuid,
    organization_uuid uuid,
    job_id            bigint,
    actor             text NOT NULL,
    action            text NOT NULL,
    detail            jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX audit_log_by_subscription ON audit_log (subscription_uuid, id);

CREATE FUNCTION audit_log_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit_log is append-only' USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION audit_log_is_append_only();

-- Outcome events, written in the transaction of the state that they tell; deleted once the broker has them.
CREATE TABLE outbox (
    id                bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subscription_uuid uuid NOT NULL,
    type              text NOT NULL,
    payload           jsonb NOT NULL,
    created_at        timestamptz NOT NULL DEFAULT now(),
    claimed_by        uuid,
    claimed_until     timestamptz
);
CREATE INDEX outbox_by_subscription ON outbox (subscription_uuid, id);

CREATE TABLE dead_letter (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kafka_topic     text NOT NULL,
    kafka_partition integer NOT NULL,
    kafka_offset    bigint NOT NULL,
    message_time    timestamptz,
    key             bytea,
    value           bytea,
    value_bytes     bigint NOT NULL,
    headers         jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(headers) = 'array'),
    pointer         text NOT NULL,
    reason          text NOT NULL CHECK (reason <> ''),
    state           text NOT NULL DEFAULT 'new' CHECK (state IN ('new', 'replayed', 'discarded')),
    replays         integer NOT NULL DEFAULT 0,
    received_at     timestamptz NOT NULL DEFAULT now(),
    published_at    timestamptz,
    resolved_at     timestamptz,
    -- The time too: a topic that was made anew counts its offsets from 0 again.
    CONSTRAINT dead_letter_once UNIQUE NULLS NOT DISTINCT (kafka_topic, kafka_partition, kafka_offset, message_time),
    CONSTRAINT dead_letter_resolved CHECK ((state = 'new') = (resolved_at IS NULL))
);
CREATE INDEX dead_letter_by_age ON dead_letter (received_at);
