DOMAIN lifecycle AS text: CHECK ((VALUE = ANY (ARRAY['NON_EXISTANT'::text, 'STORED'::text, 'SHIPPED'::text, 'ACTIVATING'::text, 'ACTIVATED'::text, 'MONITORED'::text, 'UNMONITORED'::text, 'IN_REPAIR_SYSTEM'::text, 'TERMINATED'::text])))
DOMAIN permission_level AS text: CHECK ((VALUE = ANY (ARRAY['overview'::text, 'technical'::text, 'admin'::text, 'factory'::text, 'system'::text])))
TABLE account
    created_at timestamp with time zone NOT NULL DEFAULT now()
    disabled_at timestamp with time zone
    email text NOT NULL
    id bigint NOT NULL IDENTITY ALWAYS
    level permission_level NOT NULL
    scope bigint[]
    account_email_is_lower_case: CHECK ((email = lower(email)))
    account_email_unique: UNIQUE (email)
    account_pkey: PRIMARY KEY (id)
    account_scope_is_not_empty: CHECK ((cardinality(scope) > 0))
TABLE api_token
    account_id bigint NOT NULL
    created_at timestamp with time zone NOT NULL DEFAULT now()
    expires_at timestamp with time zone NOT NULL
    id bigint NOT NULL IDENTITY ALWAYS
    last_used_at timestamp with time zone
    level permission_level NOT NULL
    name text NOT NULL
    revoked_at timestamp with time zone
    scope bigint[]
    token_hash bytea NOT NULL
    api_token_account_id_fkey: FOREIGN KEY (account_id) REFERENCES account(id)
    api_token_expires_after_birth: CHECK ((expires_at > created_at))
    api_token_hash_is_sha256: CHECK ((octet_length(token_hash) = 32))
    api_token_name_is_printable: CHECK (((length(btrim(name)) >= 1) AND (length(btrim(name)) <= 100)))
    api_token_pkey: PRIMARY KEY (id)
    api_token_scope_is_not_empty: CHECK ((cardinality(scope) > 0))
    api_token_token_hash_key: UNIQUE (token_hash)
TABLE audit
    action text NOT NULL
    actor text NOT NULL
    after jsonb
    at timestamp with time zone NOT NULL
    before jsonb
    id bigint NOT NULL IDENTITY ALWAYS
    object_id text NOT NULL
    object_kind text NOT NULL
    origin text NOT NULL
    reason text NOT NULL
    audit_pkey: PRIMARY KEY (id)
TABLE command
    acknowledged_at timestamp with time zone
    after_s bigint NOT NULL
    attempt integer NOT NULL DEFAULT 0
    attempted_at timestamp with time zone
    due_at timestamp with time zone NOT NULL
    epoch bigint NOT NULL
    expires_at timestamp with time zone NOT NULL
    finished_at timestamp with time zone
    id uuid NOT NULL
    kind text NOT NULL
    mode text
    ordered_at timestamp with time zone NOT NULL
    ordered_by text NOT NULL
    reason text NOT NULL
    refusal text
    state text NOT NULL
    unit_id integer NOT NULL
    command_after_fits_mode: CHECK (((after_s = 0) OR (mode = 'offline_disabled'::text)))
    command_after_is_uint32: CHECK (((after_s >= 0) AND (after_s <= '4294967295'::bigint)))
    command_attempt_has_its_time: CHECK (((attempt = 0) = (attempted_at IS NULL)))
    command_epoch_fits_kind: CHECK (((kind = 'set_mode'::text) = (epoch > 0)))
    command_epoch_is_uint32: CHECK (((epoch >= 0) AND (epoch <= '4294967295'::bigint)))
    command_expires_after_order: CHECK ((expires_at > ordered_at))
    command_final_has_its_time: CHECK (((state = ANY (ARRAY['confirmed'::text, 'refused'::text, 'superseded'::text, 'cancelled'::text, 'expired'::text])) = (finished_at IS NOT NULL)))
    command_kind_is_known: CHECK ((kind = ANY (ARRAY['set_mode'::text, 'ping'::text])))
    command_mode_fits_kind: CHECK (((kind = 'set_mode'::text) = (mode IS NOT NULL)))
    command_mode_is_known: CHECK ((mode = ANY (ARRAY['enabled'::text, 'offline_disabled'::text])))
    command_pkey: PRIMARY KEY (id)
    command_reason_is_given: CHECK (((length(btrim(reason)) >= 1) AND (length(btrim(reason)) <= 1000)))
    command_refused_has_its_reason: CHECK (((state = 'refused'::text) = (refusal IS NOT NULL)))
    command_state_is_known: CHECK ((state = ANY (ARRAY['queued'::text, 'sending'::text, 'sent'::text, 'acknowledged'::text, 'confirmed'::text, 'refused'::text, 'superseded'::text, 'cancelled'::text, 'expired'::text])))
    command_unit_id_fkey: FOREIGN KEY (unit_id) REFERENCES unit(id)
TABLE command_event
    actor text NOT NULL
    at timestamp with time zone NOT NULL
    attempt integer NOT NULL
    command_id uuid NOT NULL
    event text NOT NULL
    evidence jsonb NOT NULL
    from_state text
    id bigint NOT NULL IDENTITY ALWAYS
    to_state text NOT NULL
    command_event_command_id_fkey: FOREIGN KEY (command_id) REFERENCES command(id)
    command_event_pkey: PRIMARY KEY (id)
TABLE dead_letter
    body bytea NOT NULL
    detail text NOT NULL
    fingerprint bytea NOT NULL
    first_at timestamp with time zone NOT NULL
    gateway text NOT NULL
    id bigint NOT NULL IDENTITY ALWAYS
    imei text
    last_at timestamp with time zone NOT NULL
    path text NOT NULL
    reason text NOT NULL
    times bigint NOT NULL DEFAULT 1
    topic text NOT NULL
    unit_id integer
    dead_letter_kept_once: UNIQUE (fingerprint)
    dead_letter_pkey: PRIMARY KEY (id)
    dead_letter_unit_id_fkey: FOREIGN KEY (unit_id) REFERENCES unit(id)
TABLE entity
    created_at timestamp with time zone NOT NULL DEFAULT now()
    id bigint NOT NULL IDENTITY ALWAYS
    name text NOT NULL
    entity_name_is_printable: CHECK (((name = btrim(name)) AND ((length(name) >= 1) AND (length(name) <= 200))))
    entity_name_unique: UNIQUE (name)
    entity_pkey: PRIMARY KEY (id)
TABLE heartbeat PARTITION BY RANGE (at)
    at timestamp with time zone NOT NULL
    battery_a real
    battery_v real
    boot bigint NOT NULL
    energy_wh double precision
    epoch bigint NOT NULL
    extra jsonb
    fw text
    life smallint NOT NULL
    load_a real
    lvd boolean
    mode "char" NOT NULL
    output boolean
    panel_a real
    panel_v real
    received_at timestamp with time zone NOT NULL
    rssi_dbm real
    seq bigint NOT NULL
    soc_pct real
    tamper boolean
    temp_c real
    unit_id integer NOT NULL
    unit_ts bigint
TABLE idempotency
    account_id bigint NOT NULL
    answer jsonb NOT NULL
    created_at timestamp with time zone NOT NULL DEFAULT now()
    key text NOT NULL
    request_hash bytea NOT NULL
    route text NOT NULL
    status integer NOT NULL
    idempotency_account_id_fkey: FOREIGN KEY (account_id) REFERENCES account(id)
    idempotency_key_is_short: CHECK (((length(key) >= 1) AND (length(key) <= 200)))
    idempotency_pkey: PRIMARY KEY (account_id, key)
TABLE lifecycle_change
    changed_at timestamp with time zone NOT NULL
    changed_by text NOT NULL
    from_state lifecycle NOT NULL
    id bigint NOT NULL IDENTITY ALWAYS
    reason text NOT NULL
    to_state lifecycle NOT NULL
    unit_id integer NOT NULL
    lifecycle_change_pkey: PRIMARY KEY (id)
    lifecycle_change_unit_id_fkey: FOREIGN KEY (unit_id) REFERENCES unit(id)
TABLE schema_engine
    engine text NOT NULL
    only_row boolean NOT NULL DEFAULT true
    schema_engine_engine_check: CHECK ((engine = ANY (ARRAY['plain'::text, 'timescale'::text])))
    schema_engine_only_row_check: CHECK (only_row)
    schema_engine_pkey: PRIMARY KEY (only_row)
TABLE schema_migration
    applied_at timestamp with time zone NOT NULL DEFAULT now()
    checksum text NOT NULL
    name text NOT NULL
    number integer NOT NULL
    schema_migration_pkey: PRIMARY KEY (number)
TABLE unit
    broker_login text NOT NULL
    enrolled_at timestamp with time zone NOT NULL DEFAULT now()
    entity_id bigint NOT NULL DEFAULT 1
    expected_interval_s integer NOT NULL DEFAULT 14400
    id integer NOT NULL IDENTITY ALWAYS
    imei text NOT NULL
    key_generation integer NOT NULL DEFAULT 1
    lifecycle lifecycle NOT NULL DEFAULT 'STORED'::text
    product_type text
    serial_number text NOT NULL
    unit_broker_login_is_a_hash: CHECK ((broker_login ~ '^\$7\$[0-9]+\$[A-Za-z0-9+/=]+\$[A-Za-z0-9+/=]+$'::text))
    unit_entity_exists: FOREIGN KEY (entity_id) REFERENCES entity(id)
    unit_expected_interval_is_sane: CHECK (((expected_interval_s >= 1) AND (expected_interval_s <= 2592000)))
    unit_imei_is_fifteen_digits: CHECK ((imei ~ '^[0-9]{15}$'::text))
    unit_imei_unique: UNIQUE (imei)
    unit_key_generation_counts: CHECK ((key_generation >= 1))
    unit_pkey: PRIMARY KEY (id)
    unit_product_type_is_short: CHECK (((length(product_type) >= 1) AND (length(product_type) <= 64)))
    unit_serial_number_is_not_empty: CHECK ((serial_number <> ''::text))
    unit_serial_number_unique: UNIQUE (serial_number)
TABLE unit_entity
    ended_at timestamp with time zone
    entity_id bigint NOT NULL
    started_at timestamp with time zone NOT NULL
    unit_id integer NOT NULL
    unit_entity_ends_after_start: CHECK ((ended_at > started_at))
    unit_entity_entity_id_fkey: FOREIGN KEY (entity_id) REFERENCES entity(id)
    unit_entity_pkey: PRIMARY KEY (unit_id, started_at)
    unit_entity_unit_id_fkey: FOREIGN KEY (unit_id) REFERENCES unit(id)
TABLE unit_intent
    desired text
    epoch bigint NOT NULL
    unit_id integer NOT NULL
    unit_intent_desired_is_known: CHECK ((desired = ANY (ARRAY['enabled'::text, 'offline_disabled'::text])))
    unit_intent_epoch_is_uint32: CHECK (((epoch >= 0) AND (epoch <= '4294967295'::bigint)))
    unit_intent_pkey: PRIMARY KEY (unit_id)
    unit_intent_unit_id_fkey: FOREIGN KEY (unit_id) REFERENCES unit(id)
TABLE unit_life
    first_heard_at timestamp with time zone NOT NULL
    life bigint NOT NULL
    ordinal smallint NOT NULL
    unit_id integer NOT NULL
    unit_life_ordinal_counts: CHECK ((ordinal >= 1))
    unit_life_pkey: PRIMARY KEY (unit_id, ordinal)
    unit_life_unit_id_fkey: FOREIGN KEY (unit_id) REFERENCES unit(id)
TABLE unit_sequence
    block integer NOT NULL
    boot bigint NOT NULL
    heard bytea NOT NULL
    life smallint NOT NULL
    unit_id integer NOT NULL
    unit_sequence_has_1024_bits: CHECK ((octet_length(heard) = 128))
    unit_sequence_pkey: PRIMARY KEY (unit_id, life, boot, block)
    unit_sequence_unit_id_fkey: FOREIGN KEY (unit_id) REFERENCES unit(id)
TABLE unit_status
    boot bigint
    contact_at timestamp with time zone
    epoch bigint
    fw text
    life smallint
    live_contact_at timestamp with time zone
    mode "char"
    next_s bigint
    output boolean
    presence text
    presence_at timestamp with time zone
    presence_boot bigint
    presence_conn bigint
    presence_fields jsonb
    presence_life smallint
    readings jsonb
    reported_at timestamp with time zone
    seq bigint
    unit_id integer NOT NULL
    unit_ts bigint
    unit_status_mode_is_known: CHECK ((mode = ANY (ARRAY['e'::"char", 'd'::"char", 'o'::"char"])))
    unit_status_pkey: PRIMARY KEY (unit_id)
    unit_status_presence_is_known: CHECK ((presence = ANY (ARRAY['online'::text, 'offline'::text])))
    unit_status_report_is_whole: CHECK ((num_nulls(life, boot, seq, reported_at, mode, epoch) = ANY (ARRAY[0, 6])))
    unit_status_unit_id_fkey: FOREIGN KEY (unit_id) REFERENCES unit(id)
CREATE INDEX api_token_by_account ON public.api_token USING btree (account_id, id)
CREATE INDEX audit_by_object ON public.audit USING btree (object_kind, object_id, id)
CREATE INDEX command_awaited_due ON public.command USING btree (due_at) WHERE ((finished_at IS NULL) AND (state = ANY (ARRAY['sending'::text, 'sent'::text, 'acknowledged'::text])))
CREATE INDEX command_by_unit ON public.command USING btree (unit_id, id)
CREATE UNIQUE INDEX command_epoch_is_given_once ON public.command USING btree (unit_id, epoch) WHERE (epoch > 0)
CREATE INDEX command_event_by_command ON public.command_event USING btree (command_id, id)
CREATE UNIQUE INDEX command_one_open_wish ON public.command USING btree (unit_id) WHERE ((kind = 'set_mode'::text) AND (finished_at IS NULL))
CREATE INDEX command_open_by_unit ON public.command USING btree (unit_id) WHERE (finished_at IS NULL)
CREATE INDEX command_open_expiry ON public.command USING btree (expires_at) WHERE (finished_at IS NULL)
CREATE INDEX command_queued_due ON public.command USING btree (due_at) WHERE ((finished_at IS NULL) AND (state = 'queued'::text))
CREATE INDEX dead_letter_by_imei ON public.dead_letter USING btree (imei, id)
CREATE INDEX dead_letter_by_reason ON public.dead_letter USING btree (reason, id)
CREATE INDEX heartbeat_by_unit ON ONLY public.heartbeat USING btree (unit_id, at)
CREATE INDEX lifecycle_change_by_unit ON public.lifecycle_change USING btree (unit_id, id)
CREATE INDEX unit_by_entity ON public.unit USING btree (entity_id, serial_number)
CREATE UNIQUE INDEX unit_entity_one_open ON public.unit_entity USING btree (unit_id) WHERE (ended_at IS NULL)
FUNCTION ensure_heartbeat_day(day date) RETURNS void SECURITY DEFINER

DECLARE
    part text := format('heartbeat_%s', to_char(day, 'YYYYMMDD'));
BEGIN
    IF to_regclass(part) IS NOT NULL THEN
        RETURN;
    END IF;
    LOCK TABLE heartbeat IN SHARE UPDATE EXCLUSIVE MODE;
    IF to_regclass(part) IS NOT NULL THEN
        RETURN;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE heartbeat INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', part);
    EXECUTE format('ALTER TABLE heartbeat ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', part,
                   day::timestamp AT TIME ZONE 'UTC', (day + 1)::timestamp AT TIME ZONE 'UTC');
END

FUNCTION tell_unit_login() RETURNS trigger

BEGIN
    PERFORM pg_notify('unit_login', '');
    RETURN NULL;
END 
CREATE TRIGGER unit_enrolled AFTER INSERT ON public.unit FOR EACH STATEMENT EXECUTE FUNCTION tell_unit_login()
CREATE TRIGGER unit_login_changed AFTER UPDATE OF broker_login, lifecycle ON public.unit FOR EACH ROW WHEN (((new.broker_login <> old.broker_login) OR (((new.lifecycle)::text = 'TERMINATED'::text) <> ((old.lifecycle)::text = 'TERMINATED'::text)))) EXECUTE FUNCTION tell_unit_login()
