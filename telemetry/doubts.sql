-- :of_units
-- What was heard of units that is older than their newest.
SELECT unit_id, life, boot, seq, against_life, against_boot, against_seq, turns, heard_at, held
  FROM unit_doubt
 WHERE unit_id = ANY(%(unit_ids)s);

-- :write
-- Write doubts down, in the place of earlier ones.
INSERT INTO unit_doubt (unit_id, life, boot, seq, against_life, against_boot, against_seq, turns, heard_at, held)
SELECT * FROM unnest(%(unit_ids)s::int[], %(lives)s::smallint[], %(boots)s::bigint[], %(seqs)s::bigint[],
                     %(against_lives)s::smallint[], %(against_boots)s::bigint[], %(against_seqs)s::bigint[],
                     %(turns)s::int[], %(heard_ats)s::timestamptz[], %(helds)s::text[])
ON CONFLICT (unit_id) DO UPDATE
   SET life = excluded.life, boot = excluded.boot, seq = excluded.seq, against_life = excluded.against_life,
       against_boot = excluded.against_boot, against_seq = excluded.against_seq, turns = excluded.turns,
       heard_at = excluded.heard_at, held = excluded.held;
