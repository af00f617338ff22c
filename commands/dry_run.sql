-- :taken
-- Which of some units a plan has already.
SELECT unit_id FROM plan_unit
 WHERE plan_id = %(plan_id)s AND unit_id = ANY(%(unit_ids)s::int[]) AND exclusion IS DISTINCT FROM 'twice';

-- :now
-- The time by which the age of contacts is told.
SELECT now();

-- :add
-- Lines of a selection with what was found.
INSERT INTO plan_unit (plan_id, place, given, unit_id, outcome, exclusion, decided_at, held_since)
SELECT %(plan_id)s, place, given, unit_id, CASE WHEN exclusion IS NULL THEN 'waiting' ELSE 'excluded' END, exclusion,
       CASE WHEN exclusion IS NOT NULL THEN now() END, held_since
  FROM unnest(%(places)s::int[], %(givens)s::text[], %(unit_ids)s::int[], %(exclusions)s::text[],
              %(holdings)s::timestamptz[])
       AS new (place, given, unit_id, exclusion, held_since);

-- :fleet
-- How many units a scope holds that may still be told something.
SELECT count(*) FROM unit
 WHERE lifecycle <> 'TERMINATED' AND (%(scope)s::bigint[] IS NULL OR entity_id = ANY(%(scope)s));
