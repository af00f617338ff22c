-- Heartbeats in a hypertable of TimescaleDB: the same table and functions as on plain PostgreSQL.

-- No unique index: unit_sequence knows what was heard. No foreign key: rows outnumber units by millions.
CREATE TABLE heartbeat (
    at          timestamptz NOT NULL,  -- the unit's time where plausible, else received_at
    received_at timestamptz NOT NULL,
    unit_ts     bigint,                -- as sent
    boot        bigint NOT NULL,
    seq         bigint NOT NULL,
    epoch       bigint NOT NULL,
    energy_wh   double precision,
    unit_id     int NOT NULL,
    battery_v   real,
    battery_a   real,
    panel_v     real,
    panel_a     real,
    load_a      real,
    soc_pct     real,
    temp_c      real,
    rssi_dbm    real,
    life        smallint NOT NULL,
    mode        "char" NOT NULL,
    output      bool,
    tamper      bool,
    lvd         bool,
    fw          text,
    extra       jsonb
);
-- A week to a chunk: a unit's rows of one chunk are compressed together, and a day has too few of them.
SELECT create_hypertable('heartbeat', by_range('at', INTERVAL '7 days'), create_default_indexes => false);
CREATE INDEX heartbeat_by_unit ON heartbeat (unit_id, at);

-- Chunks make themselves; the function is here because the application asks for days on every engine.
CREATE FUNCTION ensure_heartbeat_day(day date) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$ SELECT $$;
REVOKE EXECUTE ON FUNCTION ensure_heartbeat_day FROM PUBLIC;
