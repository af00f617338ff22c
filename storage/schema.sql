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
    issued_by bigint
    last_used_at timestamp with time zone
    level permission_level NOT NULL
    name text NOT NULL
    revoked_at timestamp with time zone
    scope bigint[]
    token_hash bytea NOT NULL
    api_token_account_id_fkey: FOREIGN KEY (account_id) REFERENCES account(id)
    api_token_expires_after_birth: CHECK ((expires_at > created_at))
    api_token_hash_is_sha256: CHECK ((octet_length(token_hash) = 32))
    api_token_issued_by_fkey: FOREIGN KEY (issued_by) REFERENCES api_token(id)
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
    approved_at timestamp with time zone
    approved_by text
    attempt integer NOT NULL DEFAULT 0
    attempted_at timestamp with time zone
    due_at timestamp with time zone NOT NULL
    epoch bigint NOT NULL
    expires_at timestamp with time zone NOT NULL
    finished_at timestamp with time zone
    held_since timestamp with time zone
    id uuid NOT NULL
    kind text NOT NULL
    mode text
    ordered_at timestamp with time zone NOT NULL
    ordered_by text NOT NULL
    origin text NOT NULL DEFAULT 'person'::text
    plan_id uuid
    reason text NOT NULL
    refusal text
    state text NOT NULL
    unit_id integer NOT NULL
    command_after_fits_mode: CHECK (((after_s = 0) OR (mode = 'offline_disabled'::text)))
    command_after_is_uint32: CHECK (((after_s >= 0) AND (after_s <= '4294967295'::bigint)))
    command_approval_is_whole: CHECK (((approved_by IS NULL) = (approved_at IS NULL)))
    command_attempt_has_its_time: CHECK (((attempt = 0) = (attempted_at IS NULL)))
    command_epoch_fits_kind: CHECK (
CASE
    WHEN (kind = 'ping'::text) THEN (epoch = 0)
    ELSE ((epoch > 0) OR ((attempt = 0) AND (state = ANY (ARRAY['awaiting_approval'::text, 'superseded'::text, 'cancelled'::text, 'expired'::text]))))
END)
    command_epoch_is_uint32: CHECK (((epoch >= 0) AND (epoch <= '4294967295'::bigint)))
    command_expires_after_order: CHECK ((expires_at > ordered_at))
    command_final_has_its_time: CHECK (((state = ANY (ARRAY['confirmed'::text, 'refused'::text, 'superseded'::text, 'cancelled'::text, 'expired'::text])) = (finished_at IS NOT NULL)))
    command_kind_is_known: CHECK ((kind = ANY (ARRAY['set_mode'::text, 'ping'::text])))
    command_mode_fits_kind: CHECK (((kind = 'set_mode'::text) = (mode IS NOT NULL)))
    command_mode_is_known: CHECK ((mode = ANY (ARRAY['enabled'::text, 'offline_disabled'::text])))
    command_origin_is_known: CHECK ((origin = ANY (ARRAY['person'::text, 'intent'::text, 'plan'::text])))
    command_pkey: PRIMARY KEY (id)
    command_plan_has_its_origin: CHECK (((plan_id IS NOT NULL) = (origin = 'plan'::text)))
    command_reason_is_given: CHECK (((length(btrim(reason)) >= 1) AND (length(btrim(reason)) <= 1000)))
    command_refused_has_its_reason: CHECK (((state = 'refused'::text) = (refusal IS NOT NULL)))
    command_state_is_known: CHECK ((state = ANY (ARRAY['awaiting_approval'::text, 'queued'::text, 'sending'::text, 'sent'::text, 'acknowledged'::text, 'confirmed'::text, 'refused'::text, 'superseded'::text, 'cancelled'::text, 'expired'::text])))
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
TABLE command_plan
    abort_pct double precision NOT NULL
    abort_sample integer NOT NULL
    aborted_because jsonb
    after_s bigint NOT NULL
    approved_at timestamp with time zone
    approved_by text
    authored_at timestamp with time zone NOT NULL
    authored_by text NOT NULL
    dropped integer NOT NULL DEFAULT 0
    executed_at timestamp with time zone
    executed_by text
    expires_at timestamp with time zone NOT NULL
    finished_at timestamp with time zone
    gate_pct double precision NOT NULL
    id uuid NOT NULL
    included integer NOT NULL DEFAULT 0
    metered_at timestamp with time zone NOT NULL
    mode text NOT NULL
    next_at timestamp with time zone NOT NULL
    ordered integer NOT NULL DEFAULT 0
    place integer NOT NULL DEFAULT 0
    rate_per_s double precision NOT NULL
    reason text NOT NULL
    scope bigint[]
    selection jsonb NOT NULL
    state text NOT NULL
    summary jsonb
    undo_of uuid
    waits_for text
    waves_pct double precision[] NOT NULL
    command_plan_abort_has_its_cause: CHECK (((state = 'aborted'::text) = (aborted_because IS NOT NULL)))
    command_plan_abort_is_a_share: CHECK (((abort_pct >= (0)::double precision) AND (abort_pct <= (100)::double precision)))
    command_plan_approval_is_whole: CHECK (((approved_by IS NULL) = (approved_at IS NULL)))
    command_plan_counts_add_up: CHECK (((included >= 0) AND (ordered >= 0) AND (dropped >= 0) AND ((ordered + dropped) <= included)))
    command_plan_enabling_is_never_held_back: CHECK (((mode <> 'enabled'::text) OR ((waves_pct = '{100}'::double precision[]) AND (gate_pct = (0)::double precision) AND (abort_pct = (100)::double precision) AND (after_s = 0))))
    command_plan_execution_is_whole: CHECK (((executed_by IS NULL) = (executed_at IS NULL)))
    command_plan_final_has_its_time: CHECK (((state = ANY (ARRAY['ordered'::text, 'aborted'::text, 'cancelled'::text])) = (finished_at IS NOT NULL)))
    command_plan_gate_is_a_share: CHECK (((gate_pct >= (0)::double precision) AND (gate_pct <= (100)::double precision)))
    command_plan_hold_is_known: CHECK ((waits_for = ANY (ARRAY['rate'::text, 'gate'::text, 'daily_cap'::text])))
    command_plan_mode_is_known: CHECK ((mode = ANY (ARRAY['enabled'::text, 'offline_disabled'::text])))
    command_plan_pkey: PRIMARY KEY (id)
    command_plan_rate_moves: CHECK ((rate_per_s > (0)::double precision))
    command_plan_ready_is_summed_up: CHECK (((state = ANY (ARRAY['selecting'::text, 'cancelled'::text])) OR (summary IS NOT NULL)))
    command_plan_running_was_executed: CHECK (((state = ANY (ARRAY['selecting'::text, 'ready'::text, 'cancelled'::text])) OR (executed_at IS NOT NULL)))
    command_plan_sample_counts: CHECK ((abort_sample >= 1))
    command_plan_second_person_is_another: CHECK (((approved_by <> authored_by) AND (approved_by <> executed_by)))
    command_plan_state_is_known: CHECK ((state = ANY (ARRAY['selecting'::text, 'ready'::text, 'awaiting_approval'::text, 'running'::text, 'paused'::text, 'ordered'::text, 'aborted'::text, 'cancelled'::text])))
    command_plan_undo_of_fkey: FOREIGN KEY (undo_of) REFERENCES command_plan(id)
    command_plan_waves_reach_all: CHECK ((waves_pct[array_length(waves_pct, 1)] = (100)::double precision))
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
TABLE dead_letter_fate
    decided_at timestamp with time zone NOT NULL
    decided_by text NOT NULL
    id bigint NOT NULL IDENTITY ALWAYS
    letter_id bigint NOT NULL
    replayed_at timestamp with time zone
    state text NOT NULL
    times bigint NOT NULL
    verdict text
    why text NOT NULL
    dead_letter_fate_has_its_reason: CHECK (((length(btrim(why)) >= 1) AND (length(btrim(why)) <= 1000)))
    dead_letter_fate_letter_id_fkey: FOREIGN KEY (letter_id) REFERENCES dead_letter(id) ON DELETE CASCADE
    dead_letter_fate_pkey: PRIMARY KEY (id)
    dead_letter_fate_replayed_has_its_end: CHECK ((num_nonnulls(replayed_at, verdict) =
CASE state
    WHEN 'replayed'::text THEN 2
    ELSE 0
END))
    dead_letter_fate_state_is_known: CHECK ((state = ANY (ARRAY['marked'::text, 'replayed'::text, 'discarded'::text])))
    dead_letter_fate_verdict_is_known: CHECK ((verdict = ANY (ARRAY['stored'::text, 'duplicate'::text, 'dead_letter'::text])))
TABLE dead_letter_overflow
    first_at timestamp with time zone NOT NULL
    imei text
    last_at timestamp with time zone NOT NULL
    reason text NOT NULL
    times bigint NOT NULL
    dead_letter_overflow_is_one_sum: UNIQUE NULLS NOT DISTINCT (imei, reason)
TABLE drift
    cause text NOT NULL
    closed_at timestamp with time zone
    closed_by text
    desired text
    evidence jsonb NOT NULL
    gave_up_at timestamp with time zone
    id bigint NOT NULL IDENTITY ALWAYS
    opened_at timestamp with time zone NOT NULL
    reason text
    reported_epoch bigint NOT NULL
    reported_mode text NOT NULL
    resolution text
    seen_at timestamp with time zone NOT NULL
    sendings integer NOT NULL DEFAULT 0
    unit_id integer NOT NULL
    drift_cause_is_known: CHECK ((cause = ANY (ARRAY['mode_differs'::text, 'unfenced'::text, 'lapsed'::text, 'not_obeyed'::text, 'epoch_went_back'::text, 'epoch_ahead'::text, 'epoch_absurd'::text])))
    drift_closed_is_whole: CHECK ((num_nulls(closed_at, closed_by, resolution) = ANY (ARRAY[0, 3])))
    drift_desired_is_known: CHECK ((desired = ANY (ARRAY['enabled'::text, 'offline_disabled'::text])))
    drift_mode_is_known: CHECK ((reported_mode = ANY (ARRAY['enabled'::text, 'disabled'::text, 'offline_disabled'::text])))
    drift_pkey: PRIMARY KEY (id)
    drift_resolution_is_known: CHECK ((resolution = ANY (ARRAY['in_accord'::text, 'sent_again'::text, 'accepted'::text, 'dismissed'::text])))
    drift_unit_id_fkey: FOREIGN KEY (unit_id) REFERENCES unit(id)
TABLE entity
    created_at timestamp with time zone NOT NULL DEFAULT now()
    id bigint NOT NULL IDENTITY ALWAYS
    name text NOT NULL
    entity_name_is_printable: CHECK (((name = btrim(name)) AND ((length(name) >= 1) AND (length(name) <= 200))))
    entity_name_unique: UNIQUE (name)
    entity_pkey: PRIMARY KEY (id)
TABLE fleet_missing
    boots bigint NOT NULL DEFAULT 0
    counted_at timestamp with time zone
    due_at timestamp with time zone NOT NULL
    missing bigint NOT NULL DEFAULT 0
    one boolean NOT NULL DEFAULT true
    units bigint NOT NULL DEFAULT 0
    fleet_missing_is_one_row: CHECK (one)
    fleet_missing_pkey: PRIMARY KEY (one)
TABLE heartbeat PARTITION BY RANGE (at)
    at timestamp with time zone NOT NULL
    battery_a_x100 smallint
    battery_v_x100 smallint
    boot bigint NOT NULL
    energy_wh_x100 bigint
    epoch bigint NOT NULL
    extra jsonb
    fw text
    life smallint NOT NULL
    load_a_x100 smallint
    lvd boolean
    mode "char" NOT NULL
    output boolean
    panel_a_x100 smallint
    panel_v_x100 smallint
    received_at timestamp with time zone NOT NULL
    rssi_dbm_x100 smallint
    seq bigint NOT NULL
    soc_pct_x100 smallint
    tamper boolean
    temp_c_x100 smallint
    unit_id integer NOT NULL
    unit_ts bigint
TABLE heartbeat_hour
    battery_a_max real
    battery_a_min real
    battery_a_n bigint NOT NULL
    battery_a_sum double precision
    battery_v_max real
    battery_v_min real
    battery_v_n bigint NOT NULL
    battery_v_sum double precision
    energy_wh_max double precision
    energy_wh_min double precision
    energy_wh_n bigint NOT NULL
    energy_wh_sum double precision
    heartbeats bigint NOT NULL
    hour timestamp with time zone NOT NULL
    load_a_max real
    load_a_min real
    load_a_n bigint NOT NULL
    load_a_sum double precision
    panel_a_max real
    panel_a_min real
    panel_a_n bigint NOT NULL
    panel_a_sum double precision
    panel_v_max real
    panel_v_min real
    panel_v_n bigint NOT NULL
    panel_v_sum double precision
    rssi_dbm_max real
    rssi_dbm_min real
    rssi_dbm_n bigint NOT NULL
    rssi_dbm_sum double precision
    soc_pct_max real
    soc_pct_min real
    soc_pct_n bigint NOT NULL
    soc_pct_sum double precision
    temp_c_max real
    temp_c_min real
    temp_c_n bigint NOT NULL
    temp_c_sum double precision
    unit_id integer NOT NULL
    heartbeat_hour_pkey: PRIMARY KEY (unit_id, hour)
TABLE heartbeat_summing
    noted_before timestamp with time zone NOT NULL
    single boolean NOT NULL DEFAULT true
    summed_before timestamp with time zone NOT NULL
    heartbeat_summing_is_one_row: CHECK (single)
    heartbeat_summing_notes_first: CHECK ((summed_before <= noted_before))
    heartbeat_summing_pkey: PRIMARY KEY (single)
TABLE heartbeat_touched
    hour timestamp with time zone NOT NULL
    unit_id integer NOT NULL
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
TABLE plan_unit
    command_id uuid
    decided_at timestamp with time zone
    exclusion text
    given text
    held_since timestamp with time zone
    outcome text NOT NULL
    place integer NOT NULL
    plan_id uuid NOT NULL
    unit_id integer
    plan_unit_command_fits: CHECK (((outcome = 'ordered'::text) = (command_id IS NOT NULL)))
    plan_unit_exclusion_fits: CHECK (((outcome = 'excluded'::text) = (exclusion IS NOT NULL)))
    plan_unit_exclusion_is_known: CHECK ((exclusion = ANY (ARRAY['not_a_name'::text, 'unknown'::text, 'twice'::text, 'terminated'::text, 'in_repair'::text, 'already_pending'::text, 'already_so'::text, 'suspected_clone'::text, 'not_enabled'::text, 'enabled_since'::text, 'changed_hands'::text, 'epochs_exhausted'::text])))
    plan_unit_is_known_unless_excluded: CHECK (((unit_id IS NOT NULL) OR (outcome = 'excluded'::text)))
    plan_unit_outcome_is_known: CHECK ((outcome = ANY (ARRAY['waiting'::text, 'excluded'::text, 'ordered'::text])))
    plan_unit_pkey: PRIMARY KEY (plan_id, place)
    plan_unit_place_counts: CHECK ((place >= 1))
    plan_unit_plan_id_fkey: FOREIGN KEY (plan_id) REFERENCES command_plan(id)
    plan_unit_unit_id_fkey: FOREIGN KEY (unit_id) REFERENCES unit(id)
    plan_unit_waiting_is_undecided: CHECK (((outcome = 'waiting'::text) = (decided_at IS NULL)))
TABLE product_type
    expected_interval_s integer NOT NULL
    name text NOT NULL
    product_type_expected_interval_is_sane: CHECK (((expected_interval_s >= 1) AND (expected_interval_s <= 2592000)))
    product_type_name_is_short: CHECK (((length(name) >= 1) AND (length(name) <= 64)))
    product_type_pkey: PRIMARY KEY (name)
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
    expected_interval_s integer
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
TABLE unit_alert
    evidence jsonb NOT NULL
    id bigint NOT NULL IDENTITY ALWAYS
    kind text NOT NULL
    last_at timestamp with time zone NOT NULL
    raised_at timestamp with time zone NOT NULL
    resolved_at timestamp with time zone
    resolved_because text
    resolved_by text
    times bigint NOT NULL DEFAULT 1
    unit_id integer NOT NULL
    unit_alert_kind_is_known: CHECK ((kind = ANY (ARRAY['memory_lost'::text, 'two_units'::text, 'counter_jump'::text, 'too_many_lives'::text])))
    unit_alert_pkey: PRIMARY KEY (id)
    unit_alert_resolution_is_whole: CHECK ((num_nulls(resolved_at, resolved_by, resolved_because) = ANY (ARRAY[0, 3])))
    unit_alert_unit_id_fkey: FOREIGN KEY (unit_id) REFERENCES unit(id)
TABLE unit_doubt
    against_boot bigint NOT NULL
    against_life smallint NOT NULL
    against_seq bigint NOT NULL
    boot bigint NOT NULL
    heard_at timestamp with time zone NOT NULL
    held text NOT NULL
    life smallint NOT NULL
    seq bigint NOT NULL
    turns integer NOT NULL
    unit_id integer NOT NULL
    unit_doubt_pkey: PRIMARY KEY (unit_id)
    unit_doubt_unit_id_fkey: FOREIGN KEY (unit_id) REFERENCES unit(id)
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
    after_s bigint NOT NULL DEFAULT 0
    desired text
    doubted_to bigint
    drifted boolean NOT NULL DEFAULT false
    enable_asked_at timestamp with time zone
    epoch bigint NOT NULL
    floor bigint NOT NULL DEFAULT 0
    given bigint NOT NULL DEFAULT 0
    lapsed boolean NOT NULL DEFAULT false
    proven bigint NOT NULL DEFAULT 0
    unit_id integer NOT NULL
    wished_by text
    unit_intent_desired_is_known: CHECK ((desired = ANY (ARRAY['enabled'::text, 'offline_disabled'::text])))
    unit_intent_epoch_is_uint32: CHECK (((epoch >= 0) AND (epoch <= '4294967295'::bigint)))
    unit_intent_floor_was_given: CHECK (((0 <= proven) AND (proven <= floor) AND (floor <= epoch)))
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
TABLE unit_missing
    boots bigint NOT NULL
    missing bigint NOT NULL
    unit_id integer NOT NULL
    unit_missing_pkey: PRIMARY KEY (unit_id)
    unit_missing_unit_id_fkey: FOREIGN KEY (unit_id) REFERENCES unit(id)
TABLE unit_past
    boot bigint NOT NULL
    boots bigint NOT NULL
    heard bigint NOT NULL
    lacking bigint NOT NULL
    life smallint NOT NULL
    missing bigint NOT NULL
    unit_id integer NOT NULL
    unit_past_pkey: PRIMARY KEY (unit_id)
    unit_past_unit_id_fkey: FOREIGN KEY (unit_id) REFERENCES unit(id)
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
    at timestamp with time zone
    boot bigint
    contact_at timestamp with time zone
    epoch bigint
    fw text
    life smallint
    live_contact_at timestamp with time zone
    live_online_at timestamp with time zone
    mode "char"
    next_s bigint
    output boolean
    presence text
    presence_at timestamp with time zone
    presence_boot bigint
    presence_conn bigint
    presence_fields jsonb
    presence_life smallint
    reported_at timestamp with time zone
    reported_life bigint
    reported_live boolean
    run_boot bigint
    run_first bigint
    run_last bigint
    run_life smallint
    seq bigint
    unit_id integer NOT NULL
    unit_ts bigint
    unit_status_mode_is_known: CHECK ((mode = ANY (ARRAY['e'::"char", 'd'::"char", 'o'::"char"])))
    unit_status_pkey: PRIMARY KEY (unit_id)
    unit_status_presence_is_known: CHECK ((presence = ANY (ARRAY['online'::text, 'offline'::text])))
    unit_status_report_is_whole: CHECK (((num_nulls(life, boot, seq, reported_at, mode, epoch) = ANY (ARRAY[0, 6])) AND ((reported_life IS NULL) OR (life IS NOT NULL))))
    unit_status_run_ends: CHECK ((run_first <= (run_last + 1)))
    unit_status_run_is_whole: CHECK ((num_nulls(run_life, run_boot, run_first, run_last) = ANY (ARRAY[0, 4])))
    unit_status_unit_id_fkey: FOREIGN KEY (unit_id) REFERENCES unit(id)
CREATE INDEX api_token_by_account ON public.api_token USING btree (account_id, id)
CREATE INDEX api_token_by_issuer ON public.api_token USING btree (issued_by) WHERE (issued_by IS NOT NULL)
CREATE INDEX audit_by_object ON public.audit USING btree (object_kind, object_id, id)
CREATE INDEX command_awaited_due ON public.command USING btree (due_at) WHERE ((finished_at IS NULL) AND (state = ANY (ARRAY['sending'::text, 'sent'::text, 'acknowledged'::text])))
CREATE INDEX command_by_plan ON public.command USING btree (plan_id) WHERE (plan_id IS NOT NULL)
CREATE INDEX command_by_unit ON public.command USING btree (unit_id, id)
CREATE INDEX command_disabling ON public.command USING btree (ordered_at) WHERE (mode = 'offline_disabled'::text)
CREATE UNIQUE INDEX command_epoch_is_given_once ON public.command USING btree (unit_id, epoch) WHERE (epoch > 0)
CREATE INDEX command_event_by_command ON public.command_event USING btree (command_id, id)
CREATE UNIQUE INDEX command_one_awaiting_wish ON public.command USING btree (unit_id) WHERE ((kind = 'set_mode'::text) AND (state = 'awaiting_approval'::text))
CREATE UNIQUE INDEX command_one_open_wish ON public.command USING btree (unit_id) WHERE ((kind = 'set_mode'::text) AND (finished_at IS NULL) AND (state <> 'awaiting_approval'::text))
CREATE INDEX command_open_by_unit ON public.command USING btree (unit_id) WHERE (finished_at IS NULL)
CREATE INDEX command_open_expiry ON public.command USING btree (expires_at) WHERE ((finished_at IS NULL) AND (expires_at < 'infinity'::timestamp with time zone))
CREATE INDEX command_plan_running ON public.command_plan USING btree (next_at) WHERE (state = 'running'::text)
CREATE INDEX command_queued_due ON public.command USING btree (due_at) WHERE ((finished_at IS NULL) AND (state = 'queued'::text))
CREATE INDEX dead_letter_by_age ON public.dead_letter USING btree (last_at)
CREATE INDEX dead_letter_by_imei ON public.dead_letter USING btree (imei, id)
CREATE INDEX dead_letter_by_reason ON public.dead_letter USING btree (reason, id)
CREATE INDEX dead_letter_by_speaker ON public.dead_letter USING btree (COALESCE(imei, ''::text), first_at)
CREATE INDEX dead_letter_fate_by_end ON public.dead_letter_fate USING btree (COALESCE(replayed_at, decided_at))
CREATE INDEX dead_letter_fate_by_letter ON public.dead_letter_fate USING btree (letter_id, id)
CREATE UNIQUE INDEX dead_letter_fate_marked ON public.dead_letter_fate USING btree (letter_id) WHERE (state = 'marked'::text)
CREATE INDEX drift_by_unit ON public.drift USING btree (unit_id, id)
CREATE INDEX drift_open ON public.drift USING btree (id) WHERE (closed_at IS NULL)
CREATE UNIQUE INDEX drift_open_once ON public.drift USING btree (unit_id, cause) WHERE (closed_at IS NULL)
CREATE INDEX heartbeat_by_time ON ONLY public.heartbeat USING brin (at) WITH (pages_per_range='64', autosummarize='on')
CREATE INDEX heartbeat_by_unit ON ONLY public.heartbeat USING btree (unit_id, at)
CREATE INDEX heartbeat_hour_by_time ON public.heartbeat_hour USING brin (hour) WITH (pages_per_range='16', autosummarize='on')
CREATE INDEX heartbeat_touched_by_unit ON public.heartbeat_touched USING btree (unit_id, hour)
CREATE INDEX lifecycle_change_by_unit ON public.lifecycle_change USING btree (unit_id, id)
CREATE UNIQUE INDEX plan_unit_taken_once ON public.plan_unit USING btree (unit_id, plan_id) WHERE (exclusion IS DISTINCT FROM 'twice'::text)
CREATE INDEX unit_alert_by_unit ON public.unit_alert USING btree (unit_id, id)
CREATE INDEX unit_alert_open ON public.unit_alert USING btree (id) WHERE (resolved_at IS NULL)
CREATE UNIQUE INDEX unit_alert_open_once ON public.unit_alert USING btree (unit_id, kind) WHERE (resolved_at IS NULL)
CREATE INDEX unit_by_entity ON public.unit USING btree (entity_id, serial_number)
CREATE UNIQUE INDEX unit_entity_one_open ON public.unit_entity USING btree (unit_id) WHERE (ended_at IS NULL)
CREATE INDEX unit_missing_worst ON public.unit_missing USING btree (missing DESC, unit_id) WHERE (missing > 0)
VIEW dead_letter_with_fate
 SELECT d.id,
    d.fingerprint,
    d.first_at,
    d.last_at,
    d.times,
    d.gateway,
    d.topic,
    d.imei,
    d.unit_id,
    d.reason,
    d.path,
    d.detail,
    d.body,
    ((d.path !~~ '/%/%'::text) AND (d.reason <> ALL (ARRAY['malformed_packet'::text, 'too_large'::text]))) AS is_message,
        CASE
            WHEN ((f.state = 'marked'::text) OR (f.times >= d.times)) THEN f.state
            ELSE 'open'::text
        END AS state,
    f.state AS decision,
    f.decided_at,
    f.decided_by,
    f.why,
    f.replayed_at,
    f.verdict
   FROM (dead_letter d
     LEFT JOIN LATERAL ( SELECT f_1.id,
            f_1.letter_id,
            f_1.times,
            f_1.state,
            f_1.decided_at,
            f_1.decided_by,
            f_1.why,
            f_1.replayed_at,
            f_1.verdict
           FROM dead_letter_fate f_1
          WHERE (f_1.letter_id = d.id)
          ORDER BY f_1.id DESC
         LIMIT 1) f ON (true));
VIEW heartbeat_hourly
 SELECT summed.unit_id,
    summed.hour,
    summed.heartbeats,
    summed.battery_v_n,
    summed.battery_v_min,
    summed.battery_v_max,
    summed.battery_v_sum,
    summed.battery_a_n,
    summed.battery_a_min,
    summed.battery_a_max,
    summed.battery_a_sum,
    summed.panel_v_n,
    summed.panel_v_min,
    summed.panel_v_max,
    summed.panel_v_sum,
    summed.panel_a_n,
    summed.panel_a_min,
    summed.panel_a_max,
    summed.panel_a_sum,
    summed.load_a_n,
    summed.load_a_min,
    summed.load_a_max,
    summed.load_a_sum,
    summed.soc_pct_n,
    summed.soc_pct_min,
    summed.soc_pct_max,
    summed.soc_pct_sum,
    summed.temp_c_n,
    summed.temp_c_min,
    summed.temp_c_max,
    summed.temp_c_sum,
    summed.rssi_dbm_n,
    summed.rssi_dbm_min,
    summed.rssi_dbm_max,
    summed.rssi_dbm_sum,
    summed.energy_wh_n,
    summed.energy_wh_min,
    summed.energy_wh_max,
    summed.energy_wh_sum
   FROM heartbeat_hour summed
  WHERE (NOT (EXISTS ( SELECT
           FROM heartbeat_touched t
          WHERE ((t.unit_id = summed.unit_id) AND (t.hour = summed.hour)))))
UNION ALL
 SELECT fresh.unit_id,
    fresh.hour,
    fresh.heartbeats,
    fresh.battery_v_n,
    fresh.battery_v_min,
    fresh.battery_v_max,
    fresh.battery_v_sum,
    fresh.battery_a_n,
    fresh.battery_a_min,
    fresh.battery_a_max,
    fresh.battery_a_sum,
    fresh.panel_v_n,
    fresh.panel_v_min,
    fresh.panel_v_max,
    fresh.panel_v_sum,
    fresh.panel_a_n,
    fresh.panel_a_min,
    fresh.panel_a_max,
    fresh.panel_a_sum,
    fresh.load_a_n,
    fresh.load_a_min,
    fresh.load_a_max,
    fresh.load_a_sum,
    fresh.soc_pct_n,
    fresh.soc_pct_min,
    fresh.soc_pct_max,
    fresh.soc_pct_sum,
    fresh.temp_c_n,
    fresh.temp_c_min,
    fresh.temp_c_max,
    fresh.temp_c_sum,
    fresh.rssi_dbm_n,
    fresh.rssi_dbm_min,
    fresh.rssi_dbm_max,
    fresh.rssi_dbm_sum,
    fresh.energy_wh_n,
    fresh.energy_wh_min,
    fresh.energy_wh_max,
    fresh.energy_wh_sum
   FROM (( SELECT DISTINCT heartbeat_touched.unit_id,
            heartbeat_touched.hour
           FROM heartbeat_touched,
            heartbeat_summing
          WHERE (heartbeat_touched.hour < heartbeat_summing.summed_before)) t
     JOIN LATERAL sum_heartbeats(t.unit_id, t.hour, (t.hour + '01:00:00'::interval)) fresh(unit_id, hour, heartbeats, battery_v_n, battery_v_min, battery_v_max, battery_v_sum, battery_a_n, battery_a_min, battery_a_max, battery_a_sum, panel_v_n, panel_v_min, panel_v_max, panel_v_sum, panel_a_n, panel_a_min, panel_a_max, panel_a_sum, load_a_n, load_a_min, load_a_max, load_a_sum, soc_pct_n, soc_pct_min, soc_pct_max, soc_pct_sum, temp_c_n, temp_c_min, temp_c_max, temp_c_sum, rssi_dbm_n, rssi_dbm_min, rssi_dbm_max, rssi_dbm_sum, energy_wh_n, energy_wh_min, energy_wh_max, energy_wh_sum) ON ((fresh.unit_id = t.unit_id)))
UNION ALL
 SELECT fresh.unit_id,
    fresh.hour,
    fresh.heartbeats,
    fresh.battery_v_n,
    fresh.battery_v_min,
    fresh.battery_v_max,
    fresh.battery_v_sum,
    fresh.battery_a_n,
    fresh.battery_a_min,
    fresh.battery_a_max,
    fresh.battery_a_sum,
    fresh.panel_v_n,
    fresh.panel_v_min,
    fresh.panel_v_max,
    fresh.panel_v_sum,
    fresh.panel_a_n,
    fresh.panel_a_min,
    fresh.panel_a_max,
    fresh.panel_a_sum,
    fresh.load_a_n,
    fresh.load_a_min,
    fresh.load_a_max,
    fresh.load_a_sum,
    fresh.soc_pct_n,
    fresh.soc_pct_min,
    fresh.soc_pct_max,
    fresh.soc_pct_sum,
    fresh.temp_c_n,
    fresh.temp_c_min,
    fresh.temp_c_max,
    fresh.temp_c_sum,
    fresh.rssi_dbm_n,
    fresh.rssi_dbm_min,
    fresh.rssi_dbm_max,
    fresh.rssi_dbm_sum,
    fresh.energy_wh_n,
    fresh.energy_wh_min,
    fresh.energy_wh_max,
    fresh.energy_wh_sum
   FROM (heartbeat_summing
     CROSS JOIN LATERAL sum_heartbeats(heartbeat_summing.summed_before, 'infinity'::timestamp with time zone) fresh(unit_id, hour, heartbeats, battery_v_n, battery_v_min, battery_v_max, battery_v_sum, battery_a_n, battery_a_min, battery_a_max, battery_a_sum, panel_v_n, panel_v_min, panel_v_max, panel_v_sum, panel_a_n, panel_a_min, panel_a_max, panel_a_sum, load_a_n, load_a_min, load_a_max, load_a_sum, soc_pct_n, soc_pct_min, soc_pct_max, soc_pct_sum, temp_c_n, temp_c_min, temp_c_max, temp_c_sum, rssi_dbm_n, rssi_dbm_min, rssi_dbm_max, rssi_dbm_sum, energy_wh_n, energy_wh_min, energy_wh_max, energy_wh_sum));
VIEW unit_boot
 SELECT b.unit_id,
    b.life,
    b.boot,
    (b.heard + COALESCE(((s.run_last - s.run_first) + 1), (0)::bigint)) AS heard,
    COALESCE(s.run_last, ((((b.last_block * (1024)::bigint) + ((length(b.told) - 1) * 8)) + length(ltrim(((get_byte(b.told, (length(b.told) - 1)))::bit(8))::text, '0'::text))) - 1)) AS newest
   FROM (( SELECT unit_sequence.unit_id,
            unit_sequence.life,
            unit_sequence.boot,
            (sum(bit_count(unit_sequence.heard)))::bigint AS heard,
            max(unit_sequence.block) AS last_block,
            rtrim((array_agg(unit_sequence.heard ORDER BY unit_sequence.block DESC))[1], '\x00'::bytea) AS told
           FROM unit_sequence
          GROUP BY unit_sequence.unit_id, unit_sequence.life, unit_sequence.boot) b
     LEFT JOIN unit_status s ON (((s.unit_id = b.unit_id) AND (s.run_life = b.life) AND (s.run_boot = b.boot))));
VIEW unit_interval
 SELECT u.id AS unit_id,
    COALESCE(u.expected_interval_s, t.expected_interval_s, 14400) AS expected_interval_s
   FROM (unit u
     LEFT JOIN product_type t ON ((t.name = u.product_type)));
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

FUNCTION heartbeats_noted_before() RETURNS timestamp with time zone SECURITY DEFINER

BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtext('heartbeat_summing'));
    RETURN (SELECT noted_before FROM heartbeat_summing);
END

FUNCTION keep_dead_letters(most integer, closed_before timestamp with time zone, open_before timestamp with time zone, OUT closed bigint, OUT opened bigint) RETURNS record SECURITY DEFINER

BEGIN
    closed_before := least(closed_before, now() - INTERVAL '1 day');
    open_before := least(open_before, now() - INTERVAL '1 day');
    IF NOT pg_try_advisory_xact_lock('dead_letter_fate'::regclass::oid::int, 0) THEN
        RETURN;
    END IF;
    WITH old AS (
        (SELECT d.id, d.times, d.state
           FROM dead_letter_with_fate d
          WHERE d.last_at < open_before AND d.state = 'open'
          ORDER BY d.last_at LIMIT most)
        UNION
        (SELECT d.id, d.times, d.state
           FROM dead_letter_fate f JOIN dead_letter_with_fate d ON d.id = f.letter_id
          WHERE coalesce(f.replayed_at, f.decided_at) < closed_before
            AND d.state IN ('replayed', 'discarded') AND d.last_at < closed_before
            AND coalesce(d.replayed_at, d.decided_at) < closed_before
          ORDER BY coalesce(f.replayed_at, f.decided_at) LIMIT most)
    ), locked AS (
        -- One that has just come again is left: the next round looks at it anew.
        SELECT d.id, old.state FROM dead_letter d JOIN old ON d.id = old.id AND d.times = old.times
           FOR UPDATE OF d SKIP LOCKED
    ), gone AS (
        DELETE FROM dead_letter d USING locked WHERE d.id = locked.id
        RETURNING d.imei, d.reason, d.first_at, d.last_at, d.times, locked.state
    ), counted AS (
        INSERT INTO dead_letter_overflow AS known (imei, reason, first_at, last_at, times)
        SELECT imei, reason, min(first_at), max(last_at), sum(times)
          FROM gone WHERE state = 'open'
         GROUP BY imei, reason ORDER BY imei COLLATE "C" NULLS FIRST, reason COLLATE "C"
        ON CONFLICT (imei, reason) DO UPDATE
           SET first_at = least(known.first_at, excluded.first_at),
               last_at = greatest(known.last_at, excluded.last_at),
               times = known.times + excluded.times
    )
    SELECT count(*) FILTER (WHERE state <> 'open'), count(*) FILTER (WHERE state = 'open')
      INTO closed, opened FROM gone;
END

FUNCTION keep_heartbeats(since timestamp with time zone, hours_since timestamp with time zone, compress_before timestamp with time zone, OUT dropped bigint, OUT hours bigint, OUT compressed bigint, OUT held boolean) RETURNS record SECURITY DEFINER

DECLARE
    part regclass;
    day  timestamptz;
BEGIN
    dropped := 0;
    hours := 0;
    compressed := 0;
    held := false;
    IF NOT pg_try_advisory_xact_lock(hashtext('heartbeat_hour')) THEN
        RETURN;
    END IF;
    since := least(since, now() - INTERVAL '60 days');
    hours_since := least(hours_since, now() - INTERVAL '60 days');
    DELETE FROM heartbeat_hour
     WHERE ctid = ANY (ARRAY(SELECT ctid FROM heartbeat_hour WHERE hour < hours_since LIMIT 1000000));
    GET DIAGNOSTICS hours = ROW_COUNT;
    FOR part, day IN
        SELECT c.oid::regclass, to_date(right(c.relname, 8), 'YYYYMMDD')::timestamp AT TIME ZONE 'UTC'
          FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
         WHERE i.inhparent = 'heartbeat'::regclass
         ORDER BY c.relname
    LOOP
        CONTINUE WHEN day + INTERVAL '1 day' > since
            OR day + INTERVAL '1 day' > (SELECT summed_before FROM heartbeat_summing)
            OR EXISTS (SELECT FROM heartbeat_touched WHERE hour >= day AND hour < day + INTERVAL '1 day');
        BEGIN
            EXECUTE format('DROP TABLE %s', part);
        EXCEPTION WHEN lock_not_available THEN
            held := true;
            EXIT;
        END;
        dropped := dropped + 1;
    END LOOP;
END

FUNCTION note_heartbeat_hours(units integer[], hours timestamp with time zone[]) RETURNS void SECURITY DEFINER

    INSERT INTO heartbeat_touched (unit_id, hour) SELECT * FROM unnest(units, hours)

FUNCTION roll_heartbeats_up(most integer, before timestamp with time zone) RETURNS bigint SECURITY DEFINER

DECLARE
    noted  timestamptz;
    summed timestamptz;
    done   bigint;
BEGIN
    before := date_bin('1 hour', before, '2000-01-01 00:00+00');
    IF NOT pg_try_advisory_xact_lock(hashtext('heartbeat_hour')) THEN
        RETURN NULL;
    END IF;
    SELECT noted_before, summed_before INTO noted, summed FROM heartbeat_summing;
    IF noted < before THEN
        PERFORM pg_advisory_xact_lock(hashtext('heartbeat_summing'));
        UPDATE heartbeat_summing SET noted_before = before;
        RETURN 1;
    END IF;
    WITH taken AS (
        DELETE FROM heartbeat_touched
         WHERE ctid = ANY (ARRAY(SELECT ctid FROM heartbeat_touched WHERE hour < summed LIMIT most))
        RETURNING unit_id, hour
    ), fresh AS (
        SELECT f.* FROM sum_heartbeats(summed, summed + INTERVAL '1 hour') f WHERE summed < noted
        UNION ALL
        SELECT f.*
          FROM (SELECT DISTINCT unit_id, hour FROM taken) t
         CROSS JOIN LATERAL sum_heartbeats(t.unit_id, t.hour, t.hour + INTERVAL '1 hour') f
    ), written AS (
        INSERT INTO heartbeat_hour AS known
        SELECT * FROM fresh ORDER BY unit_id, hour
        ON CONFLICT (unit_id, hour) DO UPDATE
           SET heartbeats = excluded.heartbeats,
               battery_v_n = excluded.battery_v_n, battery_v_min = excluded.battery_v_min, battery_v_max = excluded.battery_v_max, battery_v_sum = excluded.battery_v_sum,
               battery_a_n = excluded.battery_a_n, battery_a_min = excluded.battery_a_min, battery_a_max = excluded.battery_a_max, battery_a_sum = excluded.battery_a_sum,
               panel_v_n = excluded.panel_v_n, panel_v_min = excluded.panel_v_min, panel_v_max = excluded.panel_v_max, panel_v_sum = excluded.panel_v_sum,
               panel_a_n = excluded.panel_a_n, panel_a_min = excluded.panel_a_min, panel_a_max = excluded.panel_a_max, panel_a_sum = excluded.panel_a_sum,
               load_a_n = excluded.load_a_n, load_a_min = excluded.load_a_min, load_a_max = excluded.load_a_max, load_a_sum = excluded.load_a_sum,
               soc_pct_n = excluded.soc_pct_n, soc_pct_min = excluded.soc_pct_min, soc_pct_max = excluded.soc_pct_max, soc_pct_sum = excluded.soc_pct_sum,
               temp_c_n = excluded.temp_c_n, temp_c_min = excluded.temp_c_min, temp_c_max = excluded.temp_c_max, temp_c_sum = excluded.temp_c_sum,
               rssi_dbm_n = excluded.rssi_dbm_n, rssi_dbm_min = excluded.rssi_dbm_min, rssi_dbm_max = excluded.rssi_dbm_max, rssi_dbm_sum = excluded.rssi_dbm_sum,
               energy_wh_n = excluded.energy_wh_n, energy_wh_min = excluded.energy_wh_min, energy_wh_max = excluded.energy_wh_max, energy_wh_sum = excluded.energy_wh_sum
    )
    SELECT count(*) INTO done FROM taken;
    IF summed < noted THEN
        UPDATE heartbeat_summing SET summed_before = summed + INTERVAL '1 hour';
        done := done + 1;
    END IF;
    RETURN done;
END

FUNCTION sum_boots_up(first_unit integer, last_unit integer, kept integer) RETURNS bigint SECURITY DEFINER

DECLARE
    crowded int[];
    boots bigint;
BEGIN
    kept := greatest(kept, 64);
    SELECT array_agg(unit_id) INTO crowded
      FROM (SELECT unit_id
              FROM (SELECT DISTINCT unit_id, life, boot FROM unit_sequence
                     WHERE unit_id BETWEEN first_unit AND last_unit) b
             GROUP BY unit_id HAVING count(*) > kept) c;
    IF crowded IS NULL THEN
        RETURN 0;
    END IF;
    -- Who writes bits holds this lock.
    PERFORM FROM unit_status WHERE unit_id = ANY(crowded) ORDER BY unit_id FOR UPDATE;
    WITH ranked AS (
        SELECT unit_id, life, boot, row_number() OVER (PARTITION BY unit_id ORDER BY life DESC, boot DESC) AS place
          FROM (SELECT DISTINCT unit_id, life, boot FROM unit_sequence WHERE unit_id = ANY(crowded)) b
    ), old AS (
        SELECT r.unit_id, r.life, r.boot
          FROM ranked r
          JOIN unit_status s ON s.unit_id = r.unit_id AND (r.life, r.boot) < (s.life, s.boot)
         WHERE r.place > kept
    ), gone AS (
        DELETE FROM unit_sequence s USING old o
         WHERE s.unit_id = o.unit_id AND s.life = o.life AND s.boot = o.boot
    ), summed AS (
        INSERT INTO unit_past (unit_id, life, boot, boots, heard, missing, lacking)
        SELECT b.unit_id, (array_agg(b.life ORDER BY b.life DESC, b.boot DESC))[1],
               (array_agg(b.boot ORDER BY b.life DESC, b.boot DESC))[1],
               count(*), sum(b.heard), sum(b.newest - b.heard), count(*) FILTER (WHERE b.newest > b.heard)
          FROM old o
          JOIN unit_boot b ON b.unit_id = o.unit_id AND b.life = o.life AND b.boot = o.boot
         WHERE b.unit_id = ANY(crowded)
         GROUP BY b.unit_id
            ON CONFLICT (unit_id) DO UPDATE
           SET life = excluded.life, boot = excluded.boot, boots = unit_past.boots + excluded.boots,
               heard = unit_past.heard + excluded.heard, missing = unit_past.missing + excluded.missing,
               lacking = unit_past.lacking + excluded.lacking
    )
    SELECT count(*) INTO boots FROM old;
    RETURN boots;
END

FUNCTION sum_heartbeats(since timestamp with time zone, until timestamp with time zone) RETURNS SETOF heartbeat_hour

    SELECT unit_id, date_bin('1 hour', at, '2000-01-01 00:00+00') AS hour, count(*) AS heartbeats,
           count(battery_v_x100) AS battery_v_n, (min(battery_v_x100) / 100.0)::real AS battery_v_min, (max(battery_v_x100) / 100.0)::real AS battery_v_max, (sum(battery_v_x100) / 100.0)::double precision AS battery_v_sum,
           count(battery_a_x100) AS battery_a_n, (min(battery_a_x100) / 100.0)::real AS battery_a_min, (max(battery_a_x100) / 100.0)::real AS battery_a_max, (sum(battery_a_x100) / 100.0)::double precision AS battery_a_sum,
           count(panel_v_x100) AS panel_v_n, (min(panel_v_x100) / 100.0)::real AS panel_v_min, (max(panel_v_x100) / 100.0)::real AS panel_v_max, (sum(panel_v_x100) / 100.0)::double precision AS panel_v_sum,
           count(panel_a_x100) AS panel_a_n, (min(panel_a_x100) / 100.0)::real AS panel_a_min, (max(panel_a_x100) / 100.0)::real AS panel_a_max, (sum(panel_a_x100) / 100.0)::double precision AS panel_a_sum,
           count(load_a_x100) AS load_a_n, (min(load_a_x100) / 100.0)::real AS load_a_min, (max(load_a_x100) / 100.0)::real AS load_a_max, (sum(load_a_x100) / 100.0)::double precision AS load_a_sum,
           count(soc_pct_x100) AS soc_pct_n, (min(soc_pct_x100) / 100.0)::real AS soc_pct_min, (max(soc_pct_x100) / 100.0)::real AS soc_pct_max, (sum(soc_pct_x100) / 100.0)::double precision AS soc_pct_sum,
           count(temp_c_x100) AS temp_c_n, (min(temp_c_x100) / 100.0)::real AS temp_c_min, (max(temp_c_x100) / 100.0)::real AS temp_c_max, (sum(temp_c_x100) / 100.0)::double precision AS temp_c_sum,
           count(rssi_dbm_x100) AS rssi_dbm_n, (min(rssi_dbm_x100) / 100.0)::real AS rssi_dbm_min, (max(rssi_dbm_x100) / 100.0)::real AS rssi_dbm_max, (sum(rssi_dbm_x100) / 100.0)::double precision AS rssi_dbm_sum,
           count(energy_wh_x100) AS energy_wh_n, (min(energy_wh_x100) / 100.0)::double precision AS energy_wh_min, (max(energy_wh_x100) / 100.0)::double precision AS energy_wh_max, (sum(energy_wh_x100) / 100.0)::double precision AS energy_wh_sum
      FROM heartbeat
     WHERE at >= since AND at < until
     GROUP BY unit_id, date_bin('1 hour', at, '2000-01-01 00:00+00')

FUNCTION sum_heartbeats(unit integer, since timestamp with time zone, until timestamp with time zone) RETURNS SETOF heartbeat_hour

    SELECT * FROM sum_heartbeats(since, until) WHERE unit_id = unit OFFSET 0

FUNCTION suspected_clones() RETURNS TABLE(unit_id integer)

    SELECT a.unit_id FROM unit_alert a WHERE a.kind = 'two_units' AND a.resolved_at IS NULL

FUNCTION tell_unit_login() RETURNS trigger

BEGIN
    PERFORM pg_notify('unit_login', '');
    RETURN NULL;
END 
CREATE TRIGGER unit_enrolled AFTER INSERT ON public.unit FOR EACH STATEMENT EXECUTE FUNCTION tell_unit_login()
CREATE TRIGGER unit_login_changed AFTER UPDATE OF broker_login, lifecycle ON public.unit FOR EACH ROW WHEN (((new.broker_login <> old.broker_login) OR (((new.lifecycle)::text = 'TERMINATED'::text) <> ((old.lifecycle)::text = 'TERMINATED'::text)))) EXECUTE FUNCTION tell_unit_login()
