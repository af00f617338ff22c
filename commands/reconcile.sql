-- :adopt
-- Epochs that units report and nobody here gave, of intents that are locked.
UPDATE unit_intent i SET epoch = greatest(i.epoch, new.epoch)
  FROM unnest(%(unit_ids)s::int[], %(epochs)s::bigint[]) AS new (unit_id, epoch)
 WHERE new.unit_id = i.unit_id;

-- :fitness
-- Where units stand in their lives, and whether two are suspected under one IMEI.
SELECT u.id, u.lifecycle,
       EXISTS (SELECT FROM suspected_clones() s WHERE s.unit_id = u.id) AS suspected_clone
  FROM unit u
 WHERE u.id = ANY(%(unit_ids)s::int[]);
