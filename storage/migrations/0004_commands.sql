-- What units are told, and everything that happened on the way.

-- Each unit's newest wish. The epoch only rises.
CREATE TABLE unit_intent (
    unit_id int PRIMARY KEY REFERENCES unit,
    epoch   bigint NOT NULL CONSTRAINT unit_intent_epoch_is_uint32 CHECK (epoch BETWEEN 0 AND 4294967295),
    desired text CONSTRAINT unit_intent_desired_is_known CHECK (desired IN ('enabled', 'offline_disabled'))
);

CREATE TABLE command (
    id              uuid PRIMARY KEY,
    unit_id         int NOT NULL REFERENCES unit,
    kind            text NOT NULL CONSTRAINT command_kind_is_known CHECK (kind IN ('set_mode', 'ping')),
    mode            text CONSTRAINT command_mode_is_known CHECK (mode IN ('enabled', 'offline_disabled')),
    after_s         bigint NOT NULL CONSTRAINT command_after_is_uint32 CHECK (after_s BETWEEN 0 AND 4294967295),
    epoch           bigint NOT NULL CONSTRAINT command_epoch_is_uint32 CHECK (epoch BETWEEN 0 AND 4294967295),
    state           text NOT NULL CONSTRAINT command_state_is_known CHECK (state IN (
                        'queued', 'sending', 'sent', 'acknowledged',
                        'confirmed', 'refused', 'superseded', 'cancelled', 'expired')),
    reason          text NOT NULL CONSTRAINT command_reason_is_given CHECK (length(btrim(reason)) BETWEEN 1 AND 1000),
    ordered_by      text NOT NULL,
    ordered_at      timestamptz NOT NULL,
    expires_at      timestamptz NOT NULL CONSTRAINT command_expires_after_order CHECK (expires_at > ordered_at),
    -- when the next step is due: sending it, or no longer waiting for what was hoped for
    due_at          timestamptz NOT NULL,
    attempt         int NOT NULL DEFAULT 0,
    attempted_at    timestamptz,
    acknowledged_at timestamptz,
    finished_at     timestamptz,
    refusal         text,
    CONSTRAINT command_mode_fits_kind CHECK ((kind = 'set_mode') = (mode IS NOT NULL)),
    CONSTRAINT command_epoch_fits_kind CHECK ((kind = 'set_mode') = (epoch > 0)),
    CONSTRAINT command_after_fits_mode CHECK (after_s = 0 OR mode = 'offline_disabled'),
    CONSTRAINT command_final_has_its_time CHECK (
        (state IN ('confirmed', 'refused', 'superseded', 'cancelled', 'expired')) = (finished_at IS NOT NULL)),
    CONSTRAINT command_refused_has_its_reason CHECK ((state = 'refused') = (refusal IS NOT NULL)),
    CONSTRAINT command_attempt_has_its_time CHECK ((attempt = 0) = (attempted_at IS NULL))
);
CREATE UNIQUE INDEX command_epoch_is_given_once ON command (unit_id, epoch) WHERE epoch > 0;
CREATE UNIQUE INDEX command_one_open_wish ON command (unit_id) WHERE kind = 'set_mode' AND finished_at IS NULL;
CREATE INDEX command_by_unit ON command (unit_id, id);
CREATE INDEX command_open_by_unit ON command (unit_id) WHERE finished_at IS NULL;
CREATE INDEX command_queued_due ON command (due_at) WHERE finished_at IS NULL AND state = 'queued';
CREATE INDEX command_awaited_due ON command (due_at)
    WHERE finished_at IS NULL AND state IN ('sending', 'sent', 'acknowledged');
CREATE INDEX command_open_expiry ON command (expires_at) WHERE finished_at IS NULL;

-- Every move with its evidence; written once.
CREATE TABLE command_event (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    command_id uuid NOT NULL REFERENCES command,
    at         timestamptz NOT NULL,
    event      text NOT NULL,
    from_state text,
    to_state   text NOT NULL,
    attempt    int NOT NULL,
    actor      text NOT NULL,
    evidence   jsonb NOT NULL
);
CREATE INDEX command_event_by_command ON command_event (command_id, id);
