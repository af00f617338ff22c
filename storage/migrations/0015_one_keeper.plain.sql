-- Letting go is for one gateway at a time, finds old hours without reading all, and locks the heartbeats last.

-- Rows of one hour are written together.
CREATE INDEX heartbeat_hour_by_time ON heartbeat_hour USING brin (hour) WITH (pages_per_range = 16, autosummarize = on);

-- Let go of what is older than it is kept for, and tell how many days of heartbeats and rows of hours went: at most a
-- million of these at once, and nothing while another process does the same or sums up. Nobody who calls it can have
-- less kept than the settings admit. A day that is not summed up yet, or has notes, waits for that. Compression is the
-- other engine's.
CREATE OR REPLACE FUNCTION keep_heartbeats(since timestamptz, hours_since timestamptz, compress_before timestamptz,
                                           OUT dropped bigint, OUT hours bigint, OUT compressed bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    part regclass;
    day  timestamptz;
BEGIN
    dropped := 0;
    hours := 0;
    compressed := 0;
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
        EXECUTE format('DROP TABLE %s', part);
        dropped := dropped + 1;
    END LOOP;
END
$$;
