-- What becomes of dead letters: people decide, gateways carry it out; and what is only counted, so that a
-- broken unit cannot fill the disk.

-- Every decision about a dead letter; the newest one holds until the same thing comes again. Those to be replayed
-- are locked here and not in dead_letter, whose rows are locked last of all.
CREATE TABLE dead_letter_fate (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    letter_id   bigint NOT NULL REFERENCES dead_letter ON DELETE CASCADE,
    times       bigint NOT NULL,      -- how often it had come by then
    state       text NOT NULL CONSTRAINT dead_letter_fate_state_is_known CHECK (state IN ('marked', 'replayed', 'discarded')),
    decided_at  timestamptz NOT NULL,
    decided_by  text NOT NULL,
    why         text NOT NULL CONSTRAINT dead_letter_fate_has_its_reason CHECK (length(btrim(why)) BETWEEN 1 AND 1000),
    replayed_at timestamptz,
    verdict     text CONSTRAINT dead_letter_fate_verdict_is_known CHECK (verdict IN ('stored', 'duplicate', 'dead_letter')),
    CONSTRAINT dead_letter_fate_replayed_has_its_end CHECK (
        num_nonnulls(replayed_at, verdict) = CASE state WHEN 'replayed' THEN 2 ELSE 0 END)
);
CREATE INDEX dead_letter_fate_by_letter ON dead_letter_fate (letter_id, id);
CREATE INDEX dead_letter_fate_by_end ON dead_letter_fate (coalesce(replayed_at, decided_at));
CREATE UNIQUE INDEX dead_letter_fate_marked ON dead_letter_fate (letter_id) WHERE state = 'marked';

-- Dead letters of which only the number is known: beyond a day's share, or open for longer than they are kept.
CREATE TABLE dead_letter_overflow (
    imei     text,
    reason   text NOT NULL,
    first_at timestamptz NOT NULL,
    last_at  timestamptz NOT NULL,
    times    bigint NOT NULL,
    CONSTRAINT dead_letter_overflow_is_one_sum UNIQUE NULLS NOT DISTINCT (imei, reason)
);

-- How many came of an IMEI on a day; and which are old.
CREATE INDEX dead_letter_by_speaker ON dead_letter (coalesce(imei, ''), first_at);
CREATE INDEX dead_letter_by_age ON dead_letter (last_at);

-- Each dead letter with the decision that was made last; what came again since is open again. `is_message` tells a
-- whole message from a piece of one, to which a path of two steps and more leads, from a packet that is none, and
-- from what is too large to be kept whole.
CREATE VIEW dead_letter_with_fate AS
SELECT d.id, d.fingerprint, d.first_at, d.last_at, d.times, d.gateway, d.topic, d.imei, d.unit_id, d.reason, d.path,
       d.detail, d.body, d.path NOT LIKE '/%/%' AND d.reason NOT IN ('malformed_packet', 'too_large') AS is_message,
       CASE WHEN f.state = 'marked' OR f.times >= d.times THEN f.state ELSE 'open' END AS state,
       f.state AS decision, f.decided_at, f.decided_by, f.why, f.replayed_at, f.verdict
  FROM dead_letter d
  LEFT JOIN LATERAL (SELECT * FROM dead_letter_fate f WHERE f.letter_id = d.id ORDER BY f.id DESC LIMIT 1) f ON true;

-- Let go of dead letters that were closed before a moment, and of open ones that came last before another; those are
-- counted. At most so many at once; tells how many went, NULL while somebody decides or does the same.
CREATE FUNCTION keep_dead_letters(most int, closed_before timestamptz, open_before timestamptz,
                                  OUT closed bigint, OUT opened bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
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
REVOKE EXECUTE ON FUNCTION keep_dead_letters FROM PUBLIC;
