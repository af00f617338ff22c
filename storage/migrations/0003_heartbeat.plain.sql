-- Heartbeats in daily range partitions of plain PostgreSQL.

-- Columns stand in order of their alignment: a row is 30 bytes shorter so.
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
) PARTITION BY RANGE (at);
CREATE INDEX heartbeat_by_unit ON heartbeat (unit_id, at);

-- Make the partition of one day (UTC) unless it is there. The application's role may not make
-- tables; this function may, and makes nothing else. A table is made first and attached then,
-- because that does not stop those who are writing.
CREATE FUNCTION ensure_heartbeat_day(day date) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
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
$$;
REVOKE EXECUTE ON FUNCTION ensure_heartbeat_day FROM PUBLIC;
