-- What exists and who holds it: entities, units, accounts, and the record of who did what.

-- The nine states as the field publishes them, its spelling of NON_EXISTANT included.
CREATE DOMAIN lifecycle AS text CONSTRAINT lifecycle_is_published CHECK (VALUE IN (
    'NON_EXISTANT', 'STORED', 'SHIPPED', 'ACTIVATING', 'ACTIVATED',
    'MONITORED', 'UNMONITORED', 'IN_REPAIR_SYSTEM', 'TERMINATED'
));

CREATE DOMAIN permission_level AS text CONSTRAINT permission_level_is_known CHECK (VALUE IN (
    'overview', 'technical', 'admin', 'factory', 'system'
));

CREATE TABLE entity (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text NOT NULL CONSTRAINT entity_name_unique UNIQUE
               CONSTRAINT entity_name_is_printable CHECK (name = btrim(name) AND length(name) BETWEEN 1 AND 200),
    created_at timestamptz NOT NULL DEFAULT now()
);

-- A unit that nobody owns belongs here: there is no unit without an entity.
INSERT INTO entity (id, name) OVERRIDING SYSTEM VALUE VALUES (1, 'Unknown Entity');
ALTER TABLE entity ALTER COLUMN id RESTART WITH 2;

-- A unit is never deleted: what it said and did stays its own. It leaves as TERMINATED.
-- Collation "C" makes the order of lists the same on every server and lets a prefix use the index.
CREATE TABLE unit (
    id                  int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    imei                text COLLATE "C" NOT NULL CONSTRAINT unit_imei_unique UNIQUE
                        CONSTRAINT unit_imei_is_fifteen_digits CHECK (imei ~ '^[0-9]{15}$'),
    serial_number       text COLLATE "C" NOT NULL CONSTRAINT unit_serial_number_unique UNIQUE
                        CONSTRAINT unit_serial_number_is_not_empty CHECK (serial_number <> ''),
    entity_id           bigint NOT NULL DEFAULT 1 CONSTRAINT unit_entity_exists REFERENCES entity,
    product_type        text CONSTRAINT unit_product_type_is_short CHECK (length(product_type) BETWEEN 1 AND 64),
    lifecycle           lifecycle NOT NULL DEFAULT 'STORED',
    key_generation      int NOT NULL DEFAULT 1 CONSTRAINT unit_key_generation_counts CHECK (key_generation >= 1),
    -- The broker's hash of the password, as it stands in the broker's password file: no colon, no line end.
    broker_login        text NOT NULL CONSTRAINT unit_broker_login_is_a_hash
                        CHECK (broker_login ~ '^\$7\$[0-9]+\$[A-Za-z0-9+/=]+\$[A-Za-z0-9+/=]+$'),
    -- Seconds between two contacts of a healthy unit; presence and command deadlines follow it.
    expected_interval_s int NOT NULL DEFAULT 14400
                        CONSTRAINT unit_expected_interval_is_sane CHECK (expected_interval_s BETWEEN 1 AND 2592000),
    enrolled_at         timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX unit_by_entity ON unit (entity_id, serial_number);

-- Who held a unit, and when. The open row says the same as unit.entity_id.
CREATE TABLE unit_entity (
    unit_id    int NOT NULL REFERENCES unit,
    entity_id  bigint NOT NULL REFERENCES entity,
    started_at timestamptz NOT NULL,
    ended_at   timestamptz CONSTRAINT unit_entity_ends_after_start CHECK (ended_at > started_at),
    PRIMARY KEY (unit_id, started_at)
);
CREATE UNIQUE INDEX unit_entity_one_open ON unit_entity (unit_id) WHERE ended_at IS NULL;

CREATE TABLE lifecycle_change (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    unit_id    int NOT NULL REFERENCES unit,
    from_state lifecycle NOT NULL,
    to_state   lifecycle NOT NULL,
    changed_at timestamptz NOT NULL,
    changed_by text NOT NULL,
    reason     text NOT NULL
);
CREATE INDEX lifecycle_change_by_unit ON lifecycle_change (unit_id, id);

-- The broker's password file follows these two: a login that comes, goes or changes cannot go untold.
CREATE FUNCTION tell_unit_login() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('unit_login', '');
    RETURN NULL;
END $$;
CREATE TRIGGER unit_enrolled AFTER INSERT ON unit
    FOR EACH STATEMENT EXECUTE FUNCTION tell_unit_login();
CREATE TRIGGER unit_login_changed AFTER UPDATE OF broker_login, lifecycle ON unit
    FOR EACH ROW WHEN (NEW.broker_login <> OLD.broker_login
                       OR (NEW.lifecycle = 'TERMINATED') <> (OLD.lifecycle = 'TERMINATED'))
    EXECUTE FUNCTION tell_unit_login();

-- An absent scope is every entity, those to come included; an empty one would be nobody's.
CREATE TABLE account (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    email       text NOT NULL CONSTRAINT account_email_unique UNIQUE
                CONSTRAINT account_email_is_lower_case CHECK (email = lower(email)),
    level       permission_level NOT NULL,
    scope       bigint[] CONSTRAINT account_scope_is_not_empty CHECK (cardinality(scope) > 0),
    created_at  timestamptz NOT NULL DEFAULT now(),
    disabled_at timestamptz
);

-- Level and scope are the most that the token may ever do; its account may have been lowered since.
CREATE TABLE api_token (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id   bigint NOT NULL REFERENCES account,
    name         text NOT NULL CONSTRAINT api_token_name_is_printable CHECK (length(btrim(name)) BETWEEN 1 AND 100),
    token_hash   bytea NOT NULL UNIQUE CONSTRAINT api_token_hash_is_sha256 CHECK (octet_length(token_hash) = 32),
    level        permission_level NOT NULL,
    scope        bigint[] CONSTRAINT api_token_scope_is_not_empty CHECK (cardinality(scope) > 0),
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz NOT NULL CONSTRAINT api_token_expires_after_birth CHECK (expires_at > created_at),
    revoked_at   timestamptz,
    last_used_at timestamptz
);
CREATE INDEX api_token_by_account ON api_token (account_id, id);

-- Append-only: the application's role may insert and select, nothing else (storage/grants.sql).
CREATE TABLE audit (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at          timestamptz NOT NULL,
    actor       text NOT NULL,
    action      text NOT NULL,
    object_kind text NOT NULL,
    object_id   text NOT NULL,
    before      jsonb,
    after       jsonb,
    reason      text NOT NULL,
    origin      text NOT NULL
);
CREATE INDEX audit_by_object ON audit (object_kind, object_id, id);

-- A row is written together with the work that it answers for, so there is none without an answer.
CREATE TABLE idempotency (
    account_id   bigint NOT NULL REFERENCES account,
    key          text NOT NULL CONSTRAINT idempotency_key_is_short CHECK (length(key) BETWEEN 1 AND 200),
    route        text NOT NULL,
    request_hash bytea NOT NULL,
    status       int NOT NULL,
    answer       jsonb NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account_id, key)
);
