-- :heard
-- What the unit itself reported last; waits for a contact under way, so that this order comes after it.
SELECT epoch, mode FROM unit_status WHERE unit_id = %(unit_id)s FOR SHARE;

-- :lock_intent
-- Lock the unit's intent, made at first need.
INSERT INTO unit_intent (unit_id, epoch) VALUES (%(unit_id)s, 0)
ON CONFLICT (unit_id) DO UPDATE SET epoch = unit_intent.epoch
RETURNING *;

-- :ask_to_enable
-- Note that a person wants the unit to be enabled; its intent is locked. The time of this moment: that at which the
-- transaction began may lie before a plan that is newer than it.
UPDATE unit_intent SET enable_asked_at = clock_timestamp() WHERE unit_id = %(unit_id)s;

-- :lock_open
-- The unit's commands under way.
SELECT * FROM command WHERE unit_id = %(unit_id)s AND finished_at IS NULL ORDER BY id FOR UPDATE;

-- :told
-- Whether two units are suspected under this one's IMEI, and since when it is its entity's; asked behind the locks.
SELECT EXISTS (SELECT FROM suspected_clones() s WHERE s.unit_id = %(unit_id)s) AS suspected_clone,
       (SELECT e.started_at FROM unit_entity e WHERE e.unit_id = %(unit_id)s AND e.ended_at IS NULL) AS held_since;

-- :holding
-- The mode command that holds, if the newest that was not given up is confirmed; its unit's intent is locked.
SELECT * FROM command
 WHERE unit_id = %(unit_id)s AND epoch = %(proven)s AND state = 'confirmed';

-- :of_unit
-- A page of a unit's commands, newest first.
SELECT * FROM command
 WHERE unit_id = %(unit_id)s AND (%(before)s::uuid IS NULL OR id < %(before)s)
 ORDER BY id DESC LIMIT %(limit)s;

-- :by_id
-- One command.
SELECT * FROM command WHERE id = %(id)s;

-- :events
-- What happened to a command.
SELECT at, event, from_state, to_state, attempt, actor, evidence
  FROM command_event WHERE command_id = %(id)s ORDER BY id;

-- :standings
-- Reported mode, and the newest mode command that is under way or confirmed.
SELECT u.id AS unit_id, s.mode AS reported, c.id, c.mode, c.state, c.ordered_at, c.ordered_by, c.finished_at
  FROM unnest(%(unit_ids)s::int[]) AS u (id)
  LEFT JOIN unit_status s ON s.unit_id = u.id
  LEFT JOIN LATERAL (
        SELECT * FROM command
         WHERE unit_id = u.id AND epoch > 0 AND (finished_at IS NULL OR state = 'confirmed')
         ORDER BY epoch DESC LIMIT 1) c ON true;
