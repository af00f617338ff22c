-- :lock
-- What acks name, what is under way for units that spoke, and what a report may prove; in the order of ids.
SELECT * FROM command
 WHERE id IN (SELECT unnest(%(acked)s::uuid[])
              UNION SELECT id FROM command WHERE unit_id = ANY(%(units)s::int[]) AND finished_at IS NULL
              UNION SELECT c.id FROM command c
                      JOIN unnest(%(reporting)s::int[], %(epochs)s::bigint[]) AS r (unit_id, epoch)
                        ON c.unit_id = r.unit_id AND c.epoch = r.epoch AND c.epoch > 0
                     WHERE c.state <> 'confirmed')
 ORDER BY id
   FOR UPDATE;

-- :notify
-- Wake the dispatchers when this commits.
SELECT pg_notify('command_due', '');

-- :intervals
-- How often units are expected to make contact, in seconds.
SELECT id, expected_interval_s FROM unit WHERE id = ANY(%(unit_ids)s::int[]);
