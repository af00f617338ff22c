-- Hours of each unit. An hour is summed up once it is over; until then, and while it is noted as touched by
-- something late, it is summed up on the fly, so that the view is always right.

CREATE TABLE heartbeat_hour (
    unit_id    int NOT NULL,
    hour       timestamptz NOT NULL,
    heartbeats bigint NOT NULL,
    battery_v_n bigint NOT NULL, battery_v_min real, battery_v_max real, battery_v_sum double precision,
    battery_a_n bigint NOT NULL, battery_a_min real, battery_a_max real, battery_a_sum double precision,
    panel_v_n bigint NOT NULL, panel_v_min real, panel_v_max real, panel_v_sum double precision,
    panel_a_n bigint NOT NULL, panel_a_min real, panel_a_max real, panel_a_sum double precision,
    load_a_n bigint NOT NULL, load_a_min real, load_a_max real, load_a_sum double precision,
    soc_pct_n bigint NOT NULL, soc_pct_min real, soc_pct_max real, soc_pct_sum double precision,
    temp_c_n bigint NOT NULL, temp_c_min real, temp_c_max real, temp_c_sum double precision,
    rssi_dbm_n bigint NOT NULL, rssi_dbm_min real, rssi_dbm_max real, rssi_dbm_sum double precision,
    energy_wh_n bigint NOT NULL, energy_wh_min double precision, energy_wh_max double precision, energy_wh_sum double precision,
    PRIMARY KEY (unit_id, hour)
);

-- How far it has come, one row. What is stored before `noted_before` is noted; hours before `summed_before` are
-- summed up. The first goes ahead of the second: between the two nothing comes that is not noted.
CREATE TABLE heartbeat_summing (
    single        bool PRIMARY KEY DEFAULT true CONSTRAINT heartbeat_summing_is_one_row CHECK (single),
    noted_before  timestamptz NOT NULL,
    summed_before timestamptz NOT NULL,
    CONSTRAINT heartbeat_summing_notes_first CHECK (summed_before <= noted_before)
);
INSERT INTO heartbeat_summing (noted_before, summed_before)
SELECT since, since
  FROM (SELECT date_bin('1 hour', coalesce(min(at), now()), '2000-01-01 00:00+00') AS since FROM heartbeat) first;

-- Hours in which something came late. Rows are added and taken away, never changed and never unique: an entry
-- that says the same as one which is just being taken away must not vanish with it.
CREATE TABLE heartbeat_touched (
    unit_id int NOT NULL,
    hour    timestamptz NOT NULL
);
CREATE INDEX heartbeat_touched_by_unit ON heartbeat_touched (unit_id, hour);

-- Rows of one hour stand together: a small index finds them without one entry for each.
CREATE INDEX heartbeat_by_time ON heartbeat USING brin (at) WITH (pages_per_range = 64, autosummarize = on);

-- Sum up heartbeats by unit and hour. Without SET, so that it becomes part of the query that asks.
CREATE FUNCTION sum_heartbeats(since timestamptz, until timestamptz) RETURNS SETOF heartbeat_hour
LANGUAGE sql STABLE AS $$
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
$$;

CREATE VIEW heartbeat_hourly AS
SELECT summed.*
  FROM heartbeat_hour summed
 WHERE NOT EXISTS (SELECT FROM heartbeat_touched t WHERE t.unit_id = summed.unit_id AND t.hour = summed.hour)
UNION ALL
SELECT fresh.*
  FROM (SELECT DISTINCT unit_id, hour FROM heartbeat_touched, heartbeat_summing WHERE hour < summed_before) t
 CROSS JOIN LATERAL sum_heartbeats(t.hour, t.hour + INTERVAL '1 hour') fresh
 WHERE fresh.unit_id = t.unit_id
UNION ALL
SELECT fresh.*
  FROM heartbeat_summing
 CROSS JOIN LATERAL sum_heartbeats(summed_before, 'infinity') fresh;

-- Tell before which moment a heartbeat must be noted, and keep it so until the transaction ends.
CREATE FUNCTION heartbeats_noted_before() RETURNS timestamptz
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtext('heartbeat_summing'));
    RETURN (SELECT noted_before FROM heartbeat_summing);
END
$$;
REVOKE EXECUTE ON FUNCTION heartbeats_noted_before FROM PUBLIC;

-- Note the hours of units in which something came late.
CREATE FUNCTION note_heartbeat_hours(units int[], hours timestamptz[]) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    INSERT INTO heartbeat_touched (unit_id, hour) SELECT * FROM unnest(units, hours)
$$;
REVOKE EXECUTE ON FUNCTION note_heartbeat_hours FROM PUBLIC;

-- Take one step, and tell how much it did, 0 when nothing is left; NULL when another process is at it. A step is
-- to note from now on what comes before a moment, or to sum up one hour, or to sum up anew at most so many noted
-- hours. Each is a transaction: who stores meanwhile is waited for between the first and the second.
CREATE FUNCTION roll_heartbeats_up(most int, before timestamptz) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
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
         CROSS JOIN LATERAL sum_heartbeats(t.hour, t.hour + INTERVAL '1 hour') f
         WHERE f.unit_id = t.unit_id
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
$$;
REVOKE EXECUTE ON FUNCTION roll_heartbeats_up FROM PUBLIC;

-- Let go of what is older than it is kept for, and tell how many days of heartbeats and rows of hours went.
-- A day that is not summed up yet, or has notes, waits for that. Compression is the other engine's.
CREATE FUNCTION keep_heartbeats(since timestamptz, hours_since timestamptz, compress_before timestamptz,
                                OUT dropped bigint, OUT hours bigint, OUT compressed bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    part regclass;
    day  timestamptz;
BEGIN
    dropped := 0;
    compressed := 0;
    FOR part, day IN
        SELECT c.oid::regclass, to_date(right(c.relname, 8), 'YYYYMMDD')::timestamp AT TIME ZONE 'UTC'
          FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
         WHERE i.inhparent = 'heartbeat'::regclass
         ORDER BY c.relname
    LOOP
        CONTINUE WHEN day + INTERVAL '1 day' > since
            OR day + INTERVAL '1 day' > (SELECT summed_before FROM heartbeat_summing)
            OR EXISTS (SELECT FROM heartbeat_touched WHERE hour >= day AND hour < day + INTERVAL '1 day');
        EXECUTE format('DROP TABLE %s', part);
        dropped := dropped + 1;
    END LOOP;
    DELETE FROM heartbeat_hour WHERE hour < hours_since;
    GET DIAGNOSTICS hours = ROW_COUNT;
END
$$;
REVOKE EXECUTE ON FUNCTION keep_heartbeats FROM PUBLIC;
