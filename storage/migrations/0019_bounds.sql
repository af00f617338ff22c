-- Nobody who may call what lets go of things can have less kept than is promised.

-- Let go of dead letters that were closed before a moment, and of open ones that came last before another; those are
-- counted. Neither is younger than a day, which is the least that the settings admit. At most so many at once; tells
-- how many went, NULL while somebody decides or does the same.
CREATE OR REPLACE FUNCTION keep_dead_letters(most int, closed_before timestamptz, open_before timestamptz,
                                  OUT closed bigint, OUT opened bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    closed_before := least(closed_before, now() - INTERVAL '1 day');
    open_before := least(open_before, now() - INTERVAL '1 day');
    IF NOT pg_try_advisory_xact_lock('dead_letter_fate'::regclass::oid::int, 0) THEN
        RETURN;
    END IF;
    WITH old AS (
        (SELECT d.id, d.times, d.state
           FROM dead_letter_with_fate d
          WHERE d.last_at < open_before AND d.state = 'open'
          ORDER BY d.last_at LIMIT most)
        UNION
        (SELECT d.id, d.times, d.state
           FROM dead_letter_fate f JOIN dead_letter_with_fate d ON d.id = f.letter_id
          WHERE coalesce(f.replayed_at, f.decided_at) < closed_before
            AND d.state IN ('replayed', 'discarded') AND d.last_at < closed_before
            AND coalesce(d.replayed_at, d.decided_at) < closed_before
          ORDER BY coalesce(f.replayed_at, f.decided_at) LIMIT most)
    ), locked AS (
        -- One that has just come again is left: the next round looks at it anew.
        SELECT d.id, old.state FROM dead_letter d JOIN old ON d.id = old.id AND d.times = old.times
           FOR UPDATE OF d SKIP LOCKED
    ), gone AS (
        DELETE FROM dead_letter d USING locked WHERE d.id = locked.id
        RETURNING d.imei, d.reason, d.first_at, d.last_at, d.times, locked.state
    ), counted AS (
        INSERT INTO dead_letter_overflow AS known (imei, reason, first_at, last_at, times)
        SELECT imei, reason, min(first_at), max(last_at), sum(times)
          FROM gone WHERE state = 'open'
         GROUP BY imei, reason ORDER BY imei COLLATE "C" NULLS FIRST, reason COLLATE "C"
        ON CONFLICT (imei, reason) DO UPDATE
           SET first_at = least(known.first_at, excluded.first_at),
               last_at = greatest(known.last_at, excluded.last_at),
               times = known.times + excluded.times
    )
    SELECT count(*) FILTER (WHERE state <> 'open'), count(*) FILTER (WHERE state = 'open')
      INTO closed, opened FROM gone;
END
$$;

-- Sum up what is older than the newest so many boots of each unit of a range, which are 64 at least, and than its newest
-- report, and let go of its bits; tells how many boots. The application's role may not delete; this function may, and
-- deletes nothing else.
CREATE OR REPLACE FUNCTION sum_boots_up(first_unit int, last_unit int, kept int) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    crowded int[];
    boots bigint;
BEGIN
    kept := greatest(kept, 64);
    SELECT array_agg(unit_id) INTO crowded
      FROM (SELECT unit_id
              FROM (SELECT DISTINCT unit_id, life, boot FROM unit_sequence
                     WHERE unit_id BETWEEN first_unit AND last_unit) b
             GROUP BY unit_id HAVING count(*) > kept) c;
    IF crowded IS NULL THEN
        RETURN 0;
    END IF;
    -- Who writes bits holds this lock.
    PERFORM FROM unit_status WHERE unit_id = ANY(crowded) ORDER BY unit_id FOR UPDATE;
    WITH ranked AS (
        SELECT unit_id, life, boot, row_number() OVER (PARTITION BY unit_id ORDER BY life DESC, boot DESC) AS place
          FROM (SELECT DISTINCT unit_id, life, boot FROM unit_sequence WHERE unit_id = ANY(crowded)) b
    ), old AS (
        SELECT r.unit_id, r.life, r.boot
          FROM ranked r
          JOIN unit_status s ON s.unit_id = r.unit_id AND (r.life, r.boot) < (s.life, s.boot)
         WHERE r.place > kept
    ), gone AS (
        DELETE FROM unit_sequence s USING old o
         WHERE s.unit_id = o.unit_id AND s.life = o.life AND s.boot = o.boot
    ), summed AS (
        INSERT INTO unit_past (unit_id, life, boot, boots, heard, missing, lacking)
        SELECT b.unit_id, (array_agg(b.life ORDER BY b.life DESC, b.boot DESC))[1],
               (array_agg(b.boot ORDER BY b.life DESC, b.boot DESC))[1],
               count(*), sum(b.heard), sum(b.newest - b.heard), count(*) FILTER (WHERE b.newest > b.heard)
          FROM old o
          JOIN unit_boot b ON b.unit_id = o.unit_id AND b.life = o.life AND b.boot = o.boot
         WHERE b.unit_id = ANY(crowded)
         GROUP BY b.unit_id
            ON CONFLICT (unit_id) DO UPDATE
           SET life = excluded.life, boot = excluded.boot, boots = unit_past.boots + excluded.boots,
               heard = unit_past.heard + excluded.heard, missing = unit_past.missing + excluded.missing,
               lacking = unit_past.lacking + excluded.lacking
    )
    SELECT count(*) INTO boots FROM old;
    RETURN boots;
END
$$;

-- On TimescaleDB hours are summed up as far back as heartbeats are kept, which is 60 days at least, and not only as far
-- as the oldest that stood there when that was first written down.
DO $$
BEGIN
    IF to_regclass('heartbeat_dropped') IS NOT NULL THEN
        UPDATE heartbeat_dropped SET before = least(before, now() - INTERVAL '60 days');
    END IF;
END
$$;
