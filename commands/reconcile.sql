-- :adopt
-- Epochs that units report and nobody here gave, of intents that are locked.
UPDATE unit_intent i SET epoch = greatest(i.epoch, new.epoch)
  FROM unnest(%(unit_ids)s::int[], %(epochs)s::bigint[]) AS new (unit_id, epoch)
 WHERE new.unit_id = i.unit_id;

-- :lifecycles
-- Where units stand in their lives.
SELECT id, lifecycle FROM unit WHERE id = ANY(%(unit_ids)s::int[]);
