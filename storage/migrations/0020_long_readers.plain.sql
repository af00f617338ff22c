-- Letting go waits for nobody who reads for long, a dump say: all who write would wait behind it.

DROP FUNCTION keep_heartbeats;

-- Let go of what is older than it is kept for, and tell how many days of heartbeats and rows of hours went: at most a
-- million of these at once, and nothing while another process does the same or sums up. Nobody who calls it can have
-- less kept than the settings admit. A day that is not summed up yet, or has notes, waits for that; `held` when somebody
-- reads days that were to go. Compression is the other engine's.
CREATE FUNCTION keep_heartbeats(since timestamptz, hours_since timestamptz, compress_before timestamptz,
                                OUT dropped bigint, OUT hours bigint, OUT compressed bigint, OUT held bool)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '1s' AS $$
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
$$;
REVOKE EXECUTE ON FUNCTION keep_heartbeats FROM PUBLIC;
