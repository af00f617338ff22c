-- :newest
-- What the bits know of boots that are asked for: the newest boot of the life, the last block of the boot.
SELECT wanted.unit_id, wanted.life, wanted.boot, newest.boot, last.block, last.heard
  FROM unnest(%(unit_ids)s::int[], %(lives)s::smallint[], %(boots)s::bigint[]) AS wanted (unit_id, life, boot)
  LEFT JOIN LATERAL (SELECT max(s.boot) AS boot FROM unit_sequence s
                      WHERE s.unit_id = wanted.unit_id AND s.life = wanted.life) newest ON true
  LEFT JOIN LATERAL (SELECT s.block, s.heard FROM unit_sequence s
                      WHERE s.unit_id = wanted.unit_id AND s.life = wanted.life AND s.boot = wanted.boot
                      ORDER BY s.block DESC LIMIT 1) last ON true;

-- :past
-- The newest boot of each unit that is only summed up.
SELECT unit_id, life, boot FROM unit_past WHERE unit_id = ANY(%(unit_ids)s);
