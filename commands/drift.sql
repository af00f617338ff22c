-- :reopen
-- What agreed for a while only is still the same contradiction, of the same wish; unless people have
-- ordered anything since it was seen.
UPDATE drift SET closed_at = NULL, closed_by = NULL, resolution = NULL
 WHERE id IN (SELECT DISTINCT ON (d.unit_id, d.cause) d.id
                FROM drift d
                JOIN unnest(%(unit_ids)s::int[], %(causes)s::text[], %(desired)s::text[])
                     AS n (unit_id, cause, desired) USING (unit_id, cause)
               WHERE d.desired IS NOT DISTINCT FROM n.desired AND d.resolution = 'in_accord'
                 AND d.closed_at > now() - make_interval(secs => %(memory_s)s)
                 AND NOT EXISTS (SELECT FROM command c  -- a newer word of people, taken back meanwhile or not
                                  WHERE c.unit_id = d.unit_id AND c.epoch > (d.evidence ->> 'given')::bigint
                                    AND c.origin <> 'intent')
                 AND NOT EXISTS (SELECT FROM drift o
                                  WHERE o.unit_id = d.unit_id AND o.cause = d.cause AND o.closed_at IS NULL)
               ORDER BY d.unit_id, d.cause, d.id DESC);

-- :note
-- Contradictions as they came, each once while it is open; for another wish the count begins anew.
INSERT INTO drift (unit_id, cause, opened_at, seen_at, desired, reported_mode, reported_epoch, evidence)
SELECT unit_id, cause, now(), now(), desired, mode, epoch, evidence
  FROM unnest(%(unit_ids)s::int[], %(causes)s::text[], %(desired)s::text[], %(modes)s::text[], %(epochs)s::bigint[],
              %(evidence)s::jsonb[]) AS new (unit_id, cause, desired, mode, epoch, evidence)
 ORDER BY unit_id
ON CONFLICT (unit_id, cause) WHERE closed_at IS NULL
DO UPDATE SET seen_at = excluded.seen_at, desired = excluded.desired, reported_mode = excluded.reported_mode,
              reported_epoch = excluded.reported_epoch, evidence = excluded.evidence,
              sendings = CASE WHEN drift.desired IS NOT DISTINCT FROM excluded.desired THEN drift.sendings ELSE 0 END,
              gave_up_at = CASE WHEN drift.desired IS NOT DISTINCT FROM excluded.desired THEN drift.gave_up_at END
RETURNING id, unit_id, cause, sendings, gave_up_at IS NOT NULL AS gave_up, (xmax = 0) AS fresh;

-- :count
-- The wish was sent for these once more; those are a person's from now on.
UPDATE drift
   SET sendings = sendings + (id = ANY(%(sent)s::bigint[]))::int,
       gave_up_at = CASE WHEN id = ANY(%(given_up)s::bigint[]) THEN now() ELSE gave_up_at END
 WHERE id = ANY(%(sent)s::bigint[] || %(given_up)s::bigint[]);

-- :flag
-- Whether a drift is open that ends by accord.
UPDATE unit_intent i
   SET drifted = EXISTS (SELECT FROM drift d
                          WHERE d.unit_id = i.unit_id AND d.closed_at IS NULL AND d.cause = ANY(%(causes)s))
 WHERE i.unit_id = ANY(%(unit_ids)s::int[]);

-- :agree
-- The units' own reports agree again.
UPDATE drift SET closed_at = now(), closed_by = %(by)s, resolution = 'in_accord'
 WHERE unit_id = ANY(%(unit_ids)s::int[]) AND closed_at IS NULL AND cause = ANY(%(causes)s);

-- :open_page
-- Open drifts of a scope, oldest first.
SELECT d.*, u.imei, u.serial_number
  FROM drift d
  JOIN unit u ON u.id = d.unit_id
 WHERE d.closed_at IS NULL AND d.id > %(after)s
   AND (%(scope)s::int[] IS NULL OR u.entity_id = ANY(%(scope)s))
   AND (%(cause)s::text IS NULL OR d.cause = %(cause)s)
   AND (%(given_up)s::boolean IS NULL OR (d.gave_up_at IS NOT NULL) = %(given_up)s)
 ORDER BY d.id LIMIT %(limit)s;

-- :of_unit
-- A unit's drifts, newest first.
SELECT d.*, u.imei, u.serial_number
  FROM drift d
  JOIN unit u ON u.id = d.unit_id
 WHERE d.unit_id = %(unit_id)s AND (%(before)s::bigint IS NULL OR d.id < %(before)s)
 ORDER BY d.id DESC LIMIT %(limit)s;

-- :by_id
-- One drift of a scope.
SELECT d.*, u.imei, u.serial_number FROM drift d JOIN unit u ON u.id = d.unit_id
 WHERE d.id = %(id)s AND (%(scope)s::int[] IS NULL OR u.entity_id = ANY(%(scope)s));

-- :in_order
-- Drifts in the order of their units.
SELECT id FROM drift WHERE id = ANY(%(ids)s::bigint[]) ORDER BY unit_id, id;

-- :lock_intent
-- Lock what is wanted of a unit before its drift changes.
SELECT FROM unit_intent WHERE unit_id = %(unit_id)s FOR UPDATE;

-- :close
-- Somebody has looked.
UPDATE drift SET closed_at = now(), closed_by = %(by)s, resolution = %(resolution)s, reason = %(reason)s
 WHERE id = %(id)s AND closed_at IS NULL;
