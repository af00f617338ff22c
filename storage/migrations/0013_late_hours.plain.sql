-- A late hour is summed up from the heartbeats of its unit, found by the index, not from those of the whole fleet.

-- Sum up heartbeats of one unit by hour. OFFSET keeps it a query of its own, which is told the unit before it reads: as
-- part of a join, it would sum up all units and then choose.
CREATE FUNCTION sum_heartbeats(unit int, since timestamptz, until timestamptz) RETURNS SETOF heartbeat_hour
LANGUAGE sql STABLE AS $$
    SELECT * FROM sum_heartbeats(since, until) WHERE unit_id = unit OFFSET 0
$$;

-- As before, late hours by unit. The join compares what is equal anyhow: so a unit that is asked for chooses its notes
-- before they are summed up.
CREATE OR REPLACE VIEW heartbeat_hourly AS
SELECT summed.*
  FROM heartbeat_hour summed
 WHERE NOT EXISTS (SELECT FROM heartbeat_touched t WHERE t.unit_id = summed.unit_id AND t.hour = summed.hour)
UNION ALL
SELECT fresh.*
  FROM (SELECT DISTINCT unit_id, hour FROM heartbeat_touched, heartbeat_summing WHERE hour < summed_before) t
 INNER JOIN LATERAL sum_heartbeats(t.unit_id, t.hour, t.hour + INTERVAL '1 hour') fresh ON fresh.unit_id = t.unit_id
UNION ALL
SELECT fresh.*
  FROM heartbeat_summing
 CROSS JOIN LATERAL sum_heartbeats(summed_before, 'infinity') fresh;

-- As before, late hours by unit.
--
-- Take one step, and tell how much it did, 0 when nothing is left; NULL when another process is at it. A step is
-- to note from now on what comes before a moment, or to sum up one hour, or to sum up anew at most so many noted
-- hours. Each is a transaction: who stores meanwhile is waited for between the first and the second.
CREATE OR REPLACE FUNCTION roll_heartbeats_up(most int, before timestamptz) RETURNS bigint
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
$$;
