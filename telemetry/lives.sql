-- :known
-- The newest ordinal of each life asked for.
SELECT unit_id, life, max(ordinal) AS ordinal
  FROM unit_life
  JOIN unnest(%(unit_ids)s::int[], %(lives)s::bigint[]) AS wanted (unit_id, life) USING (unit_id, life)
 GROUP BY unit_id, life;

-- :add
-- Number lives that are new, in the order given, after those that their units had before.
INSERT INTO unit_life (unit_id, ordinal, life, first_heard_at)
SELECT unit_id,
       coalesce((SELECT max(ordinal) FROM unit_life u WHERE u.unit_id = new.unit_id), 0)
           + row_number() OVER (PARTITION BY unit_id ORDER BY place),
       life, %(now)s
  FROM unnest(%(unit_ids)s::int[], %(lives)s::bigint[]) WITH ORDINALITY AS new (unit_id, life, place);
