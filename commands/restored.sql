-- :plans
-- Plans that switch off and may still be executed or go on.
SELECT id FROM command_plan
 WHERE mode = 'offline_disabled' AND finished_at IS NULL AND (state IN ('running', 'paused') OR expires_at > now())
 ORDER BY id;

-- :units
-- Some units of which an offline-disable is under way.
SELECT DISTINCT unit_id FROM command
 WHERE finished_at IS NULL AND mode = 'offline_disabled'
 ORDER BY unit_id LIMIT %(limit)s;

-- :lock_intents
-- Lock what is wanted of them.
SELECT FROM unit_intent WHERE unit_id = ANY(%(unit_ids)s::int[]) ORDER BY unit_id FOR UPDATE;

-- :lock
-- Lock those offline-disables.
SELECT * FROM command
 WHERE finished_at IS NULL AND mode = 'offline_disabled' AND unit_id = ANY(%(unit_ids)s::int[])
 ORDER BY id
   FOR UPDATE;

-- :serials
-- How people call them.
SELECT id, serial_number FROM unit WHERE id = ANY(%(unit_ids)s::int[]);
