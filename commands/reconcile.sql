-- :adopt
-- Epochs that units report and nobody here gave, of intents that are locked.
UPDATE unit_intent i SET epoch = greatest(i.epoch, new.epoch)
  FROM unnest(%(unit_ids)s::int[], %(epochs)s::bigint[]) AS new (unit_id, epoch)
 WHERE new.unit_id = i.unit_id;

-- :fitness
-- Where units stand in their lives, whether two are suspected under one IMEI, and whether they have become somebody
-- else's since a person last wanted them dark.
SELECT u.id, u.lifecycle,
       EXISTS (SELECT FROM suspected_clones() s WHERE s.unit_id = u.id) AS suspected_clone,
       EXISTS (SELECT FROM unit_entity e
                WHERE e.unit_id = u.id AND e.ended_at IS NULL
                  AND e.started_at > (SELECT max(coalesce(c.approved_at, c.ordered_at)) FROM command c
                                       WHERE c.unit_id = u.id AND c.mode = 'offline_disabled'
                                         AND (c.origin <> 'intent' OR c.approved_at IS NOT NULL))) AS moved
  FROM unit u
 WHERE u.id = ANY(%(unit_ids)s::int[]);
