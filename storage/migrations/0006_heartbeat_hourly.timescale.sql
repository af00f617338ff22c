-- Hours of each unit as a continuous aggregate; what came since its last refresh is summed up on the fly.

CREATE MATERIALIZED VIEW heartbeat_hourly
WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT unit_id, time_bucket('1 hour', at) AS hour, count(*) AS heartbeats,
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
 GROUP BY unit_id, time_bucket('1 hour', at)
WITH NO DATA;

-- A heartbeat stands at most 45 days before its arrival: what comes late is within this window.
SELECT add_continuous_aggregate_policy('heartbeat_hourly', start_offset => INTERVAL '46 days',
                                       end_offset => INTERVAL '1 hour', schedule_interval => INTERVAL '10 minutes');

ALTER TABLE heartbeat SET (timescaledb.compress, timescaledb.compress_segmentby = 'unit_id',
                           timescaledb.compress_orderby = 'at');

-- The engine and its policy do it here; the functions are here because the application asks on every engine.
CREATE FUNCTION heartbeats_noted_before() RETURNS timestamptz
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$ SELECT NULL::timestamptz $$;
REVOKE EXECUTE ON FUNCTION heartbeats_noted_before FROM PUBLIC;
CREATE FUNCTION note_heartbeat_hours(units int[], hours timestamptz[]) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$ SELECT $$;
REVOKE EXECUTE ON FUNCTION note_heartbeat_hours FROM PUBLIC;
CREATE FUNCTION roll_heartbeats_up(most int, before timestamptz) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$ SELECT 0::bigint $$;
REVOKE EXECUTE ON FUNCTION roll_heartbeats_up FROM PUBLIC;

-- Let go of what is older than it is kept for, compress what no late heartbeat can reach any more,
-- and tell how many chunks of heartbeats and of hours went and how many were compressed.
CREATE FUNCTION keep_heartbeats(since timestamptz, hours_since timestamptz, compress_before timestamptz,
                                OUT dropped bigint, OUT hours bigint, OUT compressed bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    SELECT count(*) INTO dropped FROM drop_chunks('heartbeat', older_than => since);
    SELECT count(*) INTO hours FROM drop_chunks('heartbeat_hourly', older_than => hours_since);
    -- One chunk at a time: a week of a large fleet takes minutes, and the next round is near.
    SELECT count(compress_chunk(chunk)) INTO compressed
      FROM (SELECT format('%I.%I', chunk_schema, chunk_name)::regclass AS chunk
              FROM timescaledb_information.chunks
             WHERE hypertable_name = 'heartbeat' AND NOT is_compressed AND range_end <= compress_before
             ORDER BY range_end LIMIT 1) oldest;
END
$$;
REVOKE EXECUTE ON FUNCTION keep_heartbeats FROM PUBLIC;
