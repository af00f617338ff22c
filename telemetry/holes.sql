-- :of_unit
-- Boots of one unit that lack heartbeats, the newest first: what was heard of each, and its blocks of bits.
SELECT l.life, b.life AS ordinal, b.boot, b.newest, b.heard, blocks.numbers AS blocks, blocks.bits
  FROM (SELECT life, boot, newest, heard
          FROM unit_boot
         WHERE unit_id = %(unit_id)s AND heard < newest
         ORDER BY life DESC, boot DESC
         LIMIT %(limit)s) b
  JOIN unit_life l ON l.unit_id = %(unit_id)s AND l.ordinal = b.life
  JOIN LATERAL (SELECT array_agg(s.block ORDER BY s.block) AS numbers, array_agg(s.heard ORDER BY s.block) AS bits
                  FROM unit_sequence s
                 WHERE s.unit_id = %(unit_id)s AND s.life = b.life AND s.boot = b.boot) blocks ON true
 ORDER BY b.life DESC, b.boot DESC;

-- :past_of_unit
-- What a unit lacks in the boots that are only summed up.
SELECT l.life, p.boot, p.boots, p.heard, p.missing
  FROM unit_past p
  JOIN unit_life l ON l.unit_id = p.unit_id AND l.ordinal = p.life
 WHERE p.unit_id = %(unit_id)s;

-- :heard_at
-- When heartbeats stand that were heard just before something is missing.
SELECT h.life, h.boot, h.seq, h.at
  FROM heartbeat h
  JOIN unnest(%(lives)s::smallint[], %(boots)s::bigint[], %(seqs)s::bigint[]) AS wanted (life, boot, seq)
    ON h.life = wanted.life AND h.boot = wanted.boot AND h.seq = wanted.seq
 WHERE h.unit_id = %(unit_id)s;

-- :fleet
-- What is missing of the whole fleet, as last counted.
SELECT counted_at, missing, boots, units FROM fleet_missing;

-- :scope
-- What is missing of the units of a scope, as last counted.
SELECT (SELECT counted_at FROM fleet_missing) AS counted_at, coalesce(sum(m.missing), 0)::bigint AS missing,
       coalesce(sum(m.boots), 0)::bigint AS boots, count(*) AS units
  FROM unit_missing m JOIN unit u ON u.id = m.unit_id
 WHERE m.missing > 0 AND u.entity_id = ANY(%(scope)s);

-- :worst
-- Units of a scope that lack most, as last counted.
SELECT u.imei, u.serial_number, m.missing, m.boots
  FROM unit_missing m JOIN unit u ON u.id = m.unit_id
 WHERE m.missing > 0 AND (%(scope)s::bigint[] IS NULL OR u.entity_id = ANY(%(scope)s))
 ORDER BY m.missing DESC, m.unit_id
 LIMIT %(limit)s;
