-- Hours of each unit, kept by a job; what was touched since is summed up on the fly, so the view is always right.

-- Hours in which heartbeats came and that are not summed up since. Rows are added and taken away, never changed
-- and never unique: an entry that says the same as one which is just being taken away must not vanish with it.
CREATE TABLE heartbeat_touched (
    unit_id int NOT NULL,
    hour    timestamptz NOT NULL
);
CREATE INDEX heartbeat_touched_by_unit ON heartbeat_touched (unit_id, hour);

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

-- One statement notes the hours of all its rows; the application's role needs no right on the notes.
CREATE FUNCTION note_heartbeat_hours() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO heartbeat_touched (unit_id, hour)
    SELECT DISTINCT unit_id, date_bin('1 hour', at, '2000-01-01 00:00+00') FROM new;
    RETURN NULL;
END
$$;
REVOKE EXECUTE ON FUNCTION note_heartbeat_hours FROM PUBLIC;
CREATE TRIGGER heartbeat_hours_are_noted AFTER INSERT ON heartbeat
    REFERENCING NEW TABLE AS new FOR EACH STATEMENT EXECUTE FUNCTION note_heartbeat_hours();

-- Sum up one hour of one unit from its heartbeats; no row when there is none.
CREATE FUNCTION sum_heartbeat_hour(the_unit int, the_hour timestamptz) RETURNS SETOF heartbeat_hour
LANGUAGE sql STABLE SET search_path = public, pg_temp AS $$
    SELECT the_unit, the_hour, count(*),
           count(battery_v) AS battery_v_n, min(battery_v) AS battery_v_min, max(battery_v) AS battery_v_max, sum(battery_v::double precision) AS battery_v_sum,
           count(battery_a) AS battery_a_n, min(battery_a) AS battery_a_min, max(battery_a) AS battery_a_max, sum(battery_a::double precision) AS battery_a_sum,
           count(panel_v) AS panel_v_n, min(panel_v) AS panel_v_min, max(panel_v) AS panel_v_max, sum(panel_v::double precision) AS panel_v_sum,
           count(panel_a) AS panel_a_n, min(panel_a) AS panel_a_min, max(panel_a) AS panel_a_max, sum(panel_a::double precision) AS panel_a_sum,
           count(load_a) AS load_a_n, min(load_a) AS load_a_min, max(load_a) AS load_a_max, sum(load_a::double precision) AS load_a_sum,
           count(soc_pct) AS soc_pct_n, min(soc_pct) AS soc_pct_min, max(soc_pct) AS soc_pct_max, sum(soc_pct::double precision) AS soc_pct_sum,
           count(temp_c) AS temp_c_n, min(temp_c) AS temp_c_min, max(temp_c) AS temp_c_max, sum(temp_c::double precision) AS temp_c_sum,
           count(rssi_dbm) AS rssi_dbm_n, min(rssi_dbm) AS rssi_dbm_min, max(rssi_dbm) AS rssi_dbm_max, sum(rssi_dbm::double precision) AS rssi_dbm_sum,
           count(energy_wh) AS energy_wh_n, min(energy_wh) AS energy_wh_min, max(energy_wh) AS energy_wh_max, sum(energy_wh::double precision) AS energy_wh_sum
      FROM heartbeat
     WHERE unit_id = the_unit AND at >= the_hour AND at < the_hour + INTERVAL '1 hour'
    HAVING count(*) > 0
$$;

CREATE VIEW heartbeat_hourly AS
SELECT summed.*
  FROM heartbeat_hour summed
 WHERE NOT EXISTS (SELECT FROM heartbeat_touched t WHERE t.unit_id = summed.unit_id AND t.hour = summed.hour)
UNION ALL
SELECT t.unit_id, t.hour, fresh.heartbeats,
       fresh.battery_v_n, fresh.battery_v_min, fresh.battery_v_max, fresh.battery_v_sum,
       fresh.battery_a_n, fresh.battery_a_min, fresh.battery_a_max, fresh.battery_a_sum,
       fresh.panel_v_n, fresh.panel_v_min, fresh.panel_v_max, fresh.panel_v_sum,
       fresh.panel_a_n, fresh.panel_a_min, fresh.panel_a_max, fresh.panel_a_sum,
       fresh.load_a_n, fresh.load_a_min, fresh.load_a_max, fresh.load_a_sum,
       fresh.soc_pct_n, fresh.soc_pct_min, fresh.soc_pct_max, fresh.soc_pct_sum,
       fresh.temp_c_n, fresh.temp_c_min, fresh.temp_c_max, fresh.temp_c_sum,
       fresh.rssi_dbm_n, fresh.rssi_dbm_min, fresh.rssi_dbm_max, fresh.rssi_dbm_sum,
       fresh.energy_wh_n, fresh.energy_wh_min, fresh.energy_wh_max, fresh.energy_wh_sum
  FROM (SELECT DISTINCT unit_id, hour FROM heartbeat_touched) t
 CROSS JOIN LATERAL sum_heartbeat_hour(t.unit_id, t.hour) fresh;

-- Sum up noted hours, at most so many notes, and tell how many notes were taken; NULL when another
-- process is at it. An hour that still runs is left until it is over: it would be summed up again.
CREATE FUNCTION roll_heartbeats_up(most int, before timestamptz) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    done bigint;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtext('heartbeat_hour')) THEN
        RETURN NULL;
    END IF;
    WITH taken AS (
        DELETE FROM heartbeat_touched
         WHERE ctid = ANY (ARRAY(SELECT ctid FROM heartbeat_touched WHERE hour < before LIMIT most))
        RETURNING unit_id, hour
    ), summed AS (
        INSERT INTO heartbeat_hour AS known
        SELECT fresh.*
          FROM (SELECT DISTINCT unit_id, hour FROM taken ORDER BY unit_id, hour) t
         CROSS JOIN LATERAL sum_heartbeat_hour(t.unit_id, t.hour) fresh
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
    RETURN done;
END
$$;
REVOKE EXECUTE ON FUNCTION roll_heartbeats_up FROM PUBLIC;

-- Let go of what is older than it is kept for, and tell how many days of heartbeats and rows of hours went.
-- A day that still has notes waits for them. Compression is the other engine's.
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
            OR EXISTS (SELECT FROM heartbeat_touched WHERE hour >= day AND hour < day + INTERVAL '1 day');
        EXECUTE format('DROP TABLE %s', part);
        dropped := dropped + 1;
    END LOOP;
    DELETE FROM heartbeat_hour WHERE hour < hours_since;
    GET DIAGNOSTICS hours = ROW_COUNT;
END
$$;
REVOKE EXECUTE ON FUNCTION keep_heartbeats FROM PUBLIC;
