-- :adopt
-- Epochs that units report and nobody here gave, of intents that are locked.
UPDATE unit_intent i SET epoch = greatest(i.epoch, new.epoch)
  FROM unnest(%(unit_ids)s::int[], %(epochs)s::bigint[]) AS new (unit_id, epoch)
 WHERE new.unit_id = i.unit_id;

-- :fitness
-- Where units stand in their lives, whether two are suspected under one IMEI, since when they are whose they are,
-- and whether a person last wanted them dark when they were somebody else's; NULL where nobody did.
SELECT u.id, u.lifecycle,
       EXISTS (SELECT FROM suspected_clones() s WHERE s.unit_id = u.id) AS suspected_clone,
       e.started_at AS held_since,
       (SELECT coalesce(e.started_at <> c.held_since, e.started_at > coalesce(c.approved_at, c.ordered_at))
          FROM command c
         WHERE c.unit_id = u.id AND c.mode = 'offline_disabled'
           AND (c.origin <> 'intent' OR c.approved_at IS NOT NULL)
         ORDER BY coalesce(c.approved_at, c.ordered_at) DESC LIMIT 1) AS moved
  FROM unit u JOIN unit_entity e ON e.unit_id = u.id AND e.ended_at IS NULL
 WHERE u.id = ANY(%(unit_ids)s::int[]);
