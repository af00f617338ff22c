-- What the application's role may do; run after every migration, so that it is true of every table.
-- The role is made by whoever sets the server up; where it is missing, the owner's role does it all.
DO $$
DECLARE
    part regclass;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'heliograph_app') OR current_user = 'heliograph_app' THEN
        RETURN;
    END IF;
    REVOKE ALL ON ALL TABLES IN SCHEMA public FROM heliograph_app;
    GRANT USAGE ON SCHEMA public TO heliograph_app;
    -- Nothing is ever deleted by the application.
    GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO heliograph_app;
    -- Histories are written once: nobody who breaks into the application can rewrite them.
    REVOKE UPDATE ON audit, lifecycle_change, command_event, heartbeat FROM heliograph_app;
    IF to_regclass('unit_entity') IS NOT NULL THEN
        REVOKE UPDATE ON unit_entity FROM heliograph_app;
        GRANT UPDATE (ended_at) ON unit_entity TO heliograph_app;
    END IF;
    REVOKE INSERT, UPDATE ON schema_migration, schema_engine FROM heliograph_app;
    GRANT EXECUTE ON FUNCTION ensure_heartbeat_day TO heliograph_app;
    IF to_regclass('unit_past') IS NOT NULL THEN
        REVOKE INSERT, UPDATE ON unit_past FROM heliograph_app;
        GRANT EXECUTE ON FUNCTION sum_boots_up TO heliograph_app;
    END IF;
    IF to_regclass('heartbeat_hourly') IS NOT NULL THEN
        REVOKE INSERT, UPDATE ON heartbeat_hourly FROM heliograph_app;
        GRANT EXECUTE ON FUNCTION roll_heartbeats_up, keep_heartbeats, heartbeats_noted_before, note_heartbeat_hours
            TO heliograph_app;
    END IF;
    IF to_regclass('dead_letter_fate') IS NOT NULL THEN
        GRANT EXECUTE ON FUNCTION keep_dead_letters TO heliograph_app;
    END IF;
    -- The sums of hours are read through their view and written by functions alone.
    IF to_regclass('heartbeat_hour') IS NOT NULL THEN
        REVOKE ALL ON heartbeat_hour, heartbeat_touched, heartbeat_summing FROM heliograph_app;
    END IF;
    IF to_regclass('heartbeat_dropped') IS NOT NULL THEN
        REVOKE ALL ON heartbeat_dropped FROM heliograph_app;
    END IF;
    -- Partitions are reached through their parent alone.
    FOR part IN SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'heartbeat'::regclass LOOP
        EXECUTE format('REVOKE ALL ON %s FROM heliograph_app', part);
    END LOOP;
END
$$;
