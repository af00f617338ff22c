-- :of_unit
-- Boots of one unit that lack heartbeats, the newest first: what was heard of each, and its blocks of bits.
WITH boots AS (
    SELECT life, boot, max(block) AS last_block, sum(bit_count(heard)) AS heard,
           array_agg(block ORDER BY block) AS blocks, array_agg(heard ORDER BY block) AS bits
      FROM unit_sequence
     WHERE unit_id = %(unit_id)s
     GROUP BY life, boot
), ends AS (
    SELECT boots.*, rtrim(bits[cardinality(bits)], '\x00'::bytea) AS told FROM boots
), newest AS (
    SELECT ends.*, last_block * 1024::bigint + (length(told) - 1) * 8
                   + length(ltrim(get_byte(told, length(told) - 1)::bit(8)::text, '0')) - 1 AS newest
      FROM ends
)
SELECT l.life, n.life AS ordinal, n.boot, coalesce(s.run_last, n.newest) AS newest,
       (n.heard + coalesce(s.run_last - s.run_first + 1, 0))::bigint AS heard, n.blocks, n.bits
  FROM newest n
  JOIN unit_life l ON l.unit_id = %(unit_id)s AND l.ordinal = n.life
  -- The run goes on where the bits end: it makes a boot longer, and no hole.
  LEFT JOIN unit_status s ON s.unit_id = %(unit_id)s AND s.run_life = n.life AND s.run_boot = n.boot
 WHERE n.heard < n.newest
 ORDER BY n.life DESC, n.boot DESC
 LIMIT %(limit)s;

-- :heard_at
-- When heartbeats stand that were heard just before something is missing.
SELECT h.life, h.boot, h.seq, h.at
  FROM heartbeat h
  JOIN unnest(%(lives)s::smallint[], %(boots)s::bigint[], %(seqs)s::bigint[]) AS wanted (life, boot, seq)
    ON h.life = wanted.life AND h.boot = wanted.boot AND h.seq = wanted.seq
 WHERE h.unit_id = %(unit_id)s;

-- :worst
-- Units of a scope that lack most, with the sums over all of them. Runs have no holes and stand behind the bits.
WITH boots AS (
    SELECT s.unit_id, s.life, s.boot, max(s.block) AS last_block, sum(bit_count(s.heard)) AS heard,
           rtrim((array_agg(s.heard ORDER BY s.block DESC))[1], '\x00'::bytea) AS told
      FROM unit_sequence s
      JOIN unit u ON u.id = s.unit_id
     WHERE %(scope)s::bigint[] IS NULL OR u.entity_id = ANY(%(scope)s)
     GROUP BY s.unit_id, s.life, s.boot
), lacking AS (
    SELECT unit_id, last_block * 1024::bigint + (length(told) - 1) * 8
                    + length(ltrim(get_byte(told, length(told) - 1)::bit(8)::text, '0')) - 1 - heard AS missing
      FROM boots
), units AS (
    SELECT unit_id, sum(missing)::bigint AS missing, count(*) AS boots
      FROM lacking WHERE missing > 0 GROUP BY unit_id
)
SELECT u.imei, u.serial_number, units.missing, units.boots,
       sum(units.missing) OVER ()::bigint AS all_missing, sum(units.boots) OVER ()::bigint AS all_boots,
       count(*) OVER () AS all_units
  FROM units JOIN unit u ON u.id = units.unit_id
 ORDER BY units.missing DESC, units.unit_id
 LIMIT %(limit)s;
