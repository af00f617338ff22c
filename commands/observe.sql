-- :concerned
-- Units of whose commands something is under way or may be proven late, or whose report is not in accord with what is
-- wanted. Locks on their status rows keep others from ordering meanwhile.
SELECT unit_id FROM command WHERE finished_at IS NULL AND unit_id = ANY(%(units)s::int[])
 UNION
SELECT r.unit_id
  FROM unnest(%(reporting)s::int[], %(epochs)s::bigint[], %(modes)s::text[]) AS r (unit_id, epoch, mode)
  LEFT JOIN unit_intent i USING (unit_id)
 WHERE r.epoch > coalesce(i.epoch, 0) OR r.epoch < i.floor OR r.mode <> i.desired OR i.drifted
 UNION
SELECT c.unit_id
  FROM command c
  JOIN unnest(%(reporting)s::int[], %(epochs)s::bigint[]) AS r (unit_id, epoch)
    ON c.unit_id = r.unit_id AND c.epoch = r.epoch AND c.epoch > 0
 WHERE c.state <> 'confirmed'
 ORDER BY 1;

-- :lock_intents
-- Lock what is wanted of units, in the order of ids.
SELECT * FROM unit_intent WHERE unit_id = ANY(%(unit_ids)s::int[]) ORDER BY unit_id FOR UPDATE;

-- :make_intents
-- Rows for units of which nothing was ever wanted.
INSERT INTO unit_intent (unit_id, epoch)
SELECT unit_id, 0 FROM unnest(%(unit_ids)s::int[]) AS new (unit_id) ORDER BY unit_id
ON CONFLICT (unit_id) DO NOTHING;

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

-- :intervals
-- How often units are expected to make contact, in seconds.
SELECT unit_id, expected_interval_s FROM unit_interval WHERE unit_id = ANY(%(unit_ids)s::int[]);
