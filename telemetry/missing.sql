-- :claim
-- Take the count of the fleet on oneself, if it is due: nobody else does for so long.
UPDATE fleet_missing SET due_at = now() + %(lease)s WHERE due_at <= now();

-- :prolong
-- Keep a count that is under way from falling due.
UPDATE fleet_missing SET due_at = now() + %(lease)s;

-- :last_unit
-- The last row of the units.
SELECT coalesce(max(id), 0) FROM unit;

-- :sum_up
-- Sum up the old boots of a range of units.
SELECT sum_boots_up(%(first)s, %(last)s, %(kept)s);

-- :count
-- Count what is missing of a range of units, in all their boots; only what has changed is written.
INSERT INTO unit_missing (unit_id, missing, boots)
SELECT unit_id, sum(missing)::bigint, sum(boots)::bigint
  FROM (SELECT unit_id, newest - heard AS missing, 1 AS boots
          FROM unit_boot WHERE unit_id BETWEEN %(first)s AND %(last)s AND newest > heard
        UNION ALL
        SELECT unit_id, missing, lacking FROM unit_past WHERE unit_id BETWEEN %(first)s AND %(last)s AND missing > 0
        UNION ALL  -- what lacked something and does so no more
        SELECT unit_id, 0, 0 FROM unit_missing WHERE unit_id BETWEEN %(first)s AND %(last)s) counted
 GROUP BY unit_id
 ORDER BY unit_id
ON CONFLICT (unit_id) DO UPDATE
   SET missing = excluded.missing, boots = excluded.boots
 WHERE (unit_missing.missing, unit_missing.boots) IS DISTINCT FROM (excluded.missing, excluded.boots);

-- :finish
-- Write the fleet's sums down, and when they are due again.
UPDATE fleet_missing
   SET (missing, boots, units) = (SELECT coalesce(sum(missing), 0), coalesce(sum(boots), 0), count(*)
                                    FROM unit_missing WHERE missing > 0),
       counted_at = now(), due_at = now() + %(pause)s;

-- :kept
-- The fleet's sum as last counted.
SELECT missing, extract(epoch FROM counted_at)::float8 AS counted_at FROM fleet_missing;
