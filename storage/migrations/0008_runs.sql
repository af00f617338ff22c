-- A unit's newest heartbeats without a hole are two numbers of its status; only what is odd is kept in bits.
-- And the newest readings are those of the heartbeat that the status points to: no second copy of them.

ALTER TABLE unit_status
    ADD COLUMN at timestamptz,       -- where the newest report stands in `heartbeat`
    ADD COLUMN reported_life bigint, -- its life as the unit calls it
    -- (run_life, run_boot): the newest boot heard; run_last: its highest number heard. All from run_first to
    -- run_last were heard, and none of them has a bit in unit_sequence; empty when run_first = run_last + 1.
    ADD COLUMN run_life smallint,
    ADD COLUMN run_boot bigint,
    ADD COLUMN run_first bigint,
    ADD COLUMN run_last bigint,
    -- A gateway of the release before would advance a status without its run, and heartbeats would be taken for
    -- known. Without this column it ends with an error instead, and what it holds stays with the broker.
    DROP COLUMN readings;

UPDATE unit_status s
   SET run_life = n.life, run_boot = n.boot, run_first = n.newest + 1, run_last = n.newest
  FROM (SELECT DISTINCT ON (unit_id) unit_id, life, boot,
               block * 1024::bigint + (length(told) - 1) * 8
                   + length(ltrim(get_byte(told, length(told) - 1)::bit(8)::text, '0')) - 1 AS newest
          FROM (SELECT unit_id, life, boot, block, rtrim(heard, '\x00'::bytea) AS told FROM unit_sequence) u
         ORDER BY unit_id, life DESC, boot DESC, block DESC) n
 WHERE s.unit_id = n.unit_id;

UPDATE unit_status s
   SET reported_life = (SELECT l.life FROM unit_life l WHERE l.unit_id = s.unit_id AND l.ordinal = s.life),
       at = (SELECT h.at FROM heartbeat h
              WHERE h.unit_id = s.unit_id AND h.life = s.life AND h.boot = s.boot AND h.seq = s.seq
              ORDER BY h.at DESC LIMIT 1)
 WHERE s.life IS NOT NULL;

ALTER TABLE unit_status
    DROP CONSTRAINT unit_status_report_is_whole,
    ADD CONSTRAINT unit_status_report_is_whole
        CHECK (num_nulls(life, boot, seq, reported_life, reported_at, mode, epoch) IN (0, 7)),
    ADD CONSTRAINT unit_status_run_is_whole CHECK (num_nulls(run_life, run_boot, run_first, run_last) IN (0, 4)),
    ADD CONSTRAINT unit_status_run_ends CHECK (run_first <= run_last + 1);
