-- Readings in hundredths, as the sensors of units resolve them: whole numbers are half as long as floats, and
-- compress far better. What is finer or larger than its column stands in full in `extra` beside it.
-- The columns have new names, so that a gateway of the release before ends instead of writing something else.

CREATE FUNCTION pg_temp.hundredths(value double precision) RETURNS smallint LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN abs(value) <= 327.67 THEN round(value * 100)::smallint END
$$;
-- A float of single precision that came from hundredths is this near to them.
CREATE FUNCTION pg_temp.unless_told(value double precision) RETURNS double precision LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN abs(value) <= 327.67 AND abs(value * 100 - round(value * 100)) < 0.005 THEN NULL ELSE value END
$$;

ALTER TABLE heartbeat RENAME TO heartbeat_before;
ALTER INDEX heartbeat_by_unit RENAME TO heartbeat_before_by_unit;

CREATE TABLE heartbeat (
    at              timestamptz NOT NULL,  -- the unit's time where plausible, else received_at
    received_at     timestamptz NOT NULL,
    unit_ts         bigint,                -- as sent, where `at` does not tell it: null when at <> received_at
    boot            bigint NOT NULL,
    seq             bigint NOT NULL,
    epoch           bigint NOT NULL,
    energy_wh_x100  bigint,
    unit_id         int NOT NULL,
    life            smallint NOT NULL,
    battery_v_x100  smallint,
    battery_a_x100  smallint,
    panel_v_x100    smallint,
    panel_a_x100    smallint,
    load_a_x100     smallint,
    soc_pct_x100    smallint,
    temp_c_x100     smallint,
    rssi_dbm_x100   smallint,
    mode            "char" NOT NULL,
    output          bool,
    tamper          bool,
    lvd             bool,
    fw              text,
    extra           jsonb                  -- readings and fields without a column, and readings that one rounds
);
SELECT create_hypertable('heartbeat', by_range('at', INTERVAL '7 days'), create_default_indexes => false);
INSERT INTO heartbeat
SELECT at, received_at, CASE WHEN at = received_at THEN unit_ts END, boot, seq, epoch,
       CASE WHEN abs(energy_wh) < 9e14 THEN round(energy_wh * 100)::bigint END, unit_id, life,
       pg_temp.hundredths(battery_v), pg_temp.hundredths(battery_a), pg_temp.hundredths(panel_v), pg_temp.hundredths(panel_a),
       pg_temp.hundredths(load_a), pg_temp.hundredths(soc_pct), pg_temp.hundredths(temp_c), pg_temp.hundredths(rssi_dbm),
       mode, output, tamper, lvd, fw,
       nullif(coalesce(extra, '{}') || CASE WHEN finer = '{}' THEN '{}'
              ELSE jsonb_build_object('readings', coalesce(extra -> 'readings', '{}') || finer) END, '{}')
  FROM heartbeat_before
 CROSS JOIN LATERAL (
       SELECT jsonb_strip_nulls(jsonb_build_object(
              'battery_v', pg_temp.unless_told(battery_v), 'battery_a', pg_temp.unless_told(battery_a), 'panel_v', pg_temp.unless_told(panel_v), 'panel_a', pg_temp.unless_told(panel_a),
              'load_a', pg_temp.unless_told(load_a), 'soc_pct', pg_temp.unless_told(soc_pct), 'temp_c', pg_temp.unless_told(temp_c), 'rssi_dbm', pg_temp.unless_told(rssi_dbm),
              'energy_wh', CASE WHEN abs(energy_wh) < 9e14 AND round(energy_wh * 100) / 100 = energy_wh
                                THEN NULL ELSE energy_wh END)) AS finer) f;
DROP TABLE heartbeat_before;
CREATE INDEX heartbeat_by_unit ON heartbeat (unit_id, at);
