-- Letting go waits for nobody who reads for long, a dump say: all who write would wait behind it.

DROP FUNCTION keep_heartbeats;

-- Let go of what is older than it is kept for, compress what no late heartbeat can reach any more,
-- and tell how many chunks of heartbeats and of hours went and how many were compressed; nothing while another
-- process does the same. Nobody who calls it can have less kept than the settings admit. What a dead letter brings
-- that is taken in late stands anywhere among what is kept, so the refresh looks back as far, and no further: it would
-- sum up anew what is gone. `held` when somebody reads what was to go or to be compressed.
CREATE FUNCTION keep_heartbeats(since timestamptz, hours_since timestamptz, compress_before timestamptz,
                                OUT dropped bigint, OUT hours bigint, OUT compressed bigint, OUT held bool)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '1s' AS $$
DECLARE
    reach text;
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
    UPDATE heartbeat_dropped SET before = greatest(before, since);
    SELECT date_trunc('hour', now() - before)::text INTO reach FROM heartbeat_dropped;
    PERFORM alter_job(job_id, config => jsonb_set(config, '{start_offset}', to_jsonb(reach)))
       FROM timescaledb_information.jobs
      WHERE proc_name = 'policy_refresh_continuous_aggregate' AND hypertable_name = 'heartbeat_hourly'
        AND config->>'start_offset' <> reach;
    BEGIN
        SELECT count(*) INTO dropped FROM drop_chunks('heartbeat', older_than => since);
    EXCEPTION WHEN lock_not_available THEN
        held := true;
    END;
    BEGIN
        SELECT count(*) INTO hours FROM drop_chunks('heartbeat_hourly', older_than => hours_since);
    EXCEPTION WHEN lock_not_available THEN
        held := true;
    END;
    -- One chunk at a time: a week of a large fleet takes minutes, and the next round is near.
    BEGIN
        SELECT count(compress_chunk(chunk)) INTO compressed
          FROM (SELECT format('%I.%I', chunk_schema, chunk_name)::regclass AS chunk
                  FROM timescaledb_information.chunks
                 WHERE hypertable_name = 'heartbeat' AND NOT is_compressed AND range_end <= compress_before
                 ORDER BY range_end LIMIT 1) oldest;
    EXCEPTION WHEN lock_not_available THEN
        held := true;
    END;
END
$$;
REVOKE EXECUTE ON FUNCTION keep_heartbeats FROM PUBLIC;
