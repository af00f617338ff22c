-- :known
-- The newest ordinal of each life asked for.
SELECT unit_id, life, max(ordinal) AS ordinal
  FROM unit_life
  JOIN unnest(%(unit_ids)s::int[], %(lives)s::bigint[]) AS wanted (unit_id, life) USING (unit_id, life)
 GROUP BY unit_id, life;

-- :add
-- Number lives that are new, in the order given, after those that their units had before; up to so many.
INSERT INTO unit_life (unit_id, ordinal, life, first_heard_at)
SELECT unit_id, ordinal, life, %(now)s
  FROM (SELECT unit_id, life,
               coalesce((SELECT max(ordinal) FROM unit_life u WHERE u.unit_id = new.unit_id), 0)
                   + row_number() OVER (PARTITION BY unit_id ORDER BY place) AS ordinal
          FROM unnest(%(unit_ids)s::int[], %(lives)s::bigint[]) WITH ORDINALITY AS new (unit_id, life, place)) n
 WHERE ordinal <= %(most)s;

-- :counts
-- How many lives each unit has had.
SELECT unit_id, max(ordinal) AS ordinal FROM unit_life WHERE unit_id = ANY(%(unit_ids)s) GROUP BY unit_id;

-- :latest
-- The newest life that bears the same number as one of the unit's.
SELECT n.ordinal, n.life, n.first_heard_at
  FROM unit_life l JOIN unit_life n ON n.unit_id = l.unit_id AND n.life = l.life
 WHERE l.unit_id = %(unit_id)s AND l.ordinal = %(ordinal)s
 ORDER BY n.ordinal DESC LIMIT 1;
