-- What a unit's counters tell: memory that was lost, numbers that leap, two units under one name; and what is
-- missing, kept instead of counted at each question.

-- A life can be over before its unit reports under a later one: then the report that stands has no number.
ALTER TABLE unit_status
    DROP CONSTRAINT unit_status_report_is_whole,
    ADD CONSTRAINT unit_status_report_is_whole
        CHECK (num_nulls(life, boot, seq, reported_at, mode, epoch) IN (0, 6)
               AND (reported_life IS NULL OR life IS NOT NULL));

-- What was heard of each boot, bits and run together.
CREATE VIEW unit_boot AS
SELECT b.unit_id, b.life, b.boot, b.heard + coalesce(s.run_last - s.run_first + 1, 0) AS heard,
       coalesce(s.run_last, b.last_block * 1024::bigint + (length(b.told) - 1) * 8
           + length(ltrim(get_byte(b.told, length(b.told) - 1)::bit(8)::text, '0')) - 1) AS newest
  FROM (SELECT unit_id, life, boot, sum(bit_count(heard))::bigint AS heard, max(block) AS last_block,
               rtrim((array_agg(heard ORDER BY block DESC))[1], '\x00'::bytea) AS told
          FROM unit_sequence
         GROUP BY unit_id, life, boot) b
  -- The run goes on where the bits end: it makes a boot longer, and no hole.
  LEFT JOIN unit_status s ON s.unit_id = b.unit_id AND s.run_life = b.life AND s.run_boot = b.boot;

-- The boots of a unit that are too old for bits, summed up; (life, boot) is the newest of them.
CREATE TABLE unit_past (
    unit_id int PRIMARY KEY REFERENCES unit,
    life    smallint NOT NULL,
    boot    bigint NOT NULL,
    boots   bigint NOT NULL,
    heard   bigint NOT NULL,
    missing bigint NOT NULL,
    lacking bigint NOT NULL   -- boots of which something is missing
);

-- What a unit lacks in all its boots, as last counted; no row means nothing.
CREATE TABLE unit_missing (
    unit_id int PRIMARY KEY REFERENCES unit,
    missing bigint NOT NULL,
    boots   bigint NOT NULL   -- of which something is missing
);
CREATE INDEX unit_missing_worst ON unit_missing (missing DESC, unit_id) WHERE missing > 0;

-- The same of the whole fleet, in one row.
CREATE TABLE fleet_missing (
    one        bool PRIMARY KEY DEFAULT true CONSTRAINT fleet_missing_is_one_row CHECK (one),
    due_at     timestamptz NOT NULL,   -- when a gateway counts next; ahead while one is at it
    counted_at timestamptz,            -- null before the first count
    missing    bigint NOT NULL DEFAULT 0,
    boots      bigint NOT NULL DEFAULT 0,
    units      bigint NOT NULL DEFAULT 0
);
INSERT INTO fleet_missing (due_at) VALUES (now());

-- Live heartbeats older than the newest that is known of their unit: signs that its memory was lost, or that
-- there are two. No row means that none ever came.
CREATE TABLE unit_doubt (
    unit_id      int PRIMARY KEY REFERENCES unit,
    life         smallint NOT NULL,    -- (life, boot, seq): the last of them
    boot         bigint NOT NULL,
    seq          bigint NOT NULL,
    against_life smallint NOT NULL,    -- (…): what was the unit's newest then
    against_boot bigint NOT NULL,
    against_seq  bigint NOT NULL,
    turns        int NOT NULL,         -- how often this boot was gone back to
    heard_at     timestamptz NOT NULL,
    held         text NOT NULL         -- those that begin a new life once they are enough; text, as jsonb rewrites numbers
);

-- What somebody should look at; the same again, while it is open, only counts up.
CREATE TABLE unit_alert (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    unit_id          int NOT NULL REFERENCES unit,
    kind             text NOT NULL,
    raised_at        timestamptz NOT NULL,
    last_at          timestamptz NOT NULL,
    times            bigint NOT NULL DEFAULT 1,
    evidence         jsonb NOT NULL,   -- the newest
    resolved_at      timestamptz,
    resolved_by      text,
    resolved_because text,
    CONSTRAINT unit_alert_kind_is_known CHECK (kind IN ('memory_lost', 'two_units', 'counter_jump', 'too_many_lives')),
    CONSTRAINT unit_alert_resolution_is_whole
        CHECK (num_nulls(resolved_at, resolved_by, resolved_because) IN (0, 3))
);
CREATE UNIQUE INDEX unit_alert_open_once ON unit_alert (unit_id, kind) WHERE resolved_at IS NULL;
CREATE INDEX unit_alert_open ON unit_alert (id) WHERE resolved_at IS NULL;
CREATE INDEX unit_alert_by_unit ON unit_alert (unit_id, id);

-- Sum up what is older than the newest so many boots of each unit of a range and than its newest report, and
-- let go of its bits; tells how many boots. The application's role may not delete; this function may, and
-- deletes nothing else.
CREATE FUNCTION sum_boots_up(first_unit int, last_unit int, kept int) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    crowded int[];
    boots bigint;
BEGIN
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
REVOKE EXECUTE ON FUNCTION sum_boots_up FROM PUBLIC;
