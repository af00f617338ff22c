-- :heard
-- Wait for contacts of units under way, so that these orders come after them, and tell who may listen now; the
-- dispatcher looks closer.
SELECT unit_id, presence = 'online' OR live_contact_at > now() - make_interval(secs => %(contact_s)s) AS may_listen
  FROM unit_status WHERE unit_id = ANY(%(unit_ids)s::int[])
 ORDER BY unit_id
   FOR SHARE;

-- :make_intents
-- Intents of units that never had one.
INSERT INTO unit_intent (unit_id, epoch)
SELECT u.id, 0 FROM unit u WHERE u.id = ANY(%(unit_ids)s::int[]) ORDER BY u.id
ON CONFLICT DO NOTHING;

-- :lock_intents
-- Lock the intents of units.
SELECT FROM unit_intent WHERE unit_id = ANY(%(unit_ids)s::int[]) ORDER BY unit_id FOR UPDATE;

-- :enabled_since
-- Units that people wanted to be enabled since then: one by one, or by a plan that was executed, also where it had
-- nothing to order of them.
SELECT unit_id FROM unit_intent WHERE unit_id = ANY(%(unit_ids)s::int[]) AND enable_asked_at > %(since)s
 UNION
SELECT line.unit_id
  FROM plan_unit line JOIN command_plan p ON p.id = line.plan_id
 WHERE line.unit_id = ANY(%(unit_ids)s::int[]) AND line.exclusion IS DISTINCT FROM 'twice'
   AND coalesce(line.exclusion, 'already_so') IN ('already_so', 'already_pending')
   AND p.mode = 'enabled' AND p.executed_at > %(since)s;

-- :changed_hands
-- Units of a plan that have come to another entity since it found them.
SELECT line.unit_id
  FROM plan_unit line JOIN unit_entity e ON e.unit_id = line.unit_id AND e.ended_at IS NULL
 WHERE line.unit_id = ANY(%(unit_ids)s::int[]) AND line.plan_id = %(plan_id)s
   AND line.exclusion IS DISTINCT FROM 'twice' AND line.held_since <> e.started_at;

-- :lock_open
-- What is under way for units, looked for unit by unit (`OFFSET 0`) however few the planner believes in.
SELECT * FROM command
 WHERE id = ANY(ARRAY(
        SELECT o.id
          FROM unnest(%(unit_ids)s::int[]) AS u (id)
         CROSS JOIN LATERAL (SELECT id FROM command WHERE unit_id = u.id AND finished_at IS NULL OFFSET 0) o))
   AND finished_at IS NULL
 ORDER BY id
   FOR UPDATE;
