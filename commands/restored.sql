-- :plans
-- Plans that switch off and may still be executed or go on.
SELECT id FROM command_plan
 WHERE mode = 'offline_disabled' AND finished_at IS NULL AND (state IN ('running', 'paused') OR expires_at > now())
 ORDER BY id;

-- :units
-- The next units that are to be off, or may become so.
SELECT i.unit_id FROM unit_intent i
 WHERE i.unit_id > %(after)s
   AND (i.desired = 'offline_disabled'
        OR EXISTS (SELECT FROM command c
                    WHERE c.unit_id = i.unit_id AND c.finished_at IS NULL AND c.mode = 'offline_disabled'))
 ORDER BY i.unit_id LIMIT %(limit)s;

-- :lock_intents
-- Lock what is wanted of them.
SELECT FROM unit_intent WHERE unit_id = ANY(%(unit_ids)s::int[]) ORDER BY unit_id FOR UPDATE;

-- :lock
-- Lock their offline-disables under way.
SELECT * FROM command
 WHERE finished_at IS NULL AND mode = 'offline_disabled' AND unit_id = ANY(%(unit_ids)s::int[])
 ORDER BY id
   FOR UPDATE;

-- :doubt
-- What is still wanted dark is doubted until somebody orders anew.
UPDATE unit_intent SET doubted_to = epoch
 WHERE unit_id = ANY(%(unit_ids)s::int[]) AND desired = 'offline_disabled';

-- :serials
-- How people call them.
SELECT id, serial_number FROM unit WHERE id = ANY(%(unit_ids)s::int[]);
