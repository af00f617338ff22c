-- :claim
-- The running plan that is due first, held; those that enable before all others.
SELECT *, now() AS read_at FROM command_plan
 WHERE state = 'running' AND next_at <= now()
 ORDER BY (mode = 'enabled') DESC, next_at LIMIT 1
   FOR UPDATE SKIP LOCKED;

-- :lock_cap
-- Wait for other plans that count what the day's cap has left.
SELECT pg_advisory_xact_lock(hashtext('command_plan_daily_cap'));

-- :disabled_today
-- How many units were told to switch off within a day, as far as that matters.
SELECT count(*)
  FROM (SELECT FROM command
         WHERE mode = 'offline_disabled' AND ordered_at > now() - interval '24 hours' LIMIT %(cap)s) told;

-- :turn
-- The units whose turn is next, also of lines that were left out for some causes, with whether one was.
SELECT place, unit_id, exclusion IS NOT NULL AS left_out FROM plan_unit
 WHERE plan_id = %(plan_id)s AND place > %(after)s
   AND (outcome = 'waiting' OR exclusion = ANY(%(spoken_for)s::text[]))
 ORDER BY place LIMIT %(limit)s;

-- :settle
-- What became of them; each is found by itself, and by its address, which nobody else can change while the plan is held.
UPDATE plan_unit p
   SET outcome = CASE WHEN new.command_id IS NULL THEN 'excluded' ELSE 'ordered' END,
       exclusion = new.exclusion, command_id = new.command_id, decided_at = now()
  FROM unnest(%(places)s::int[], %(command_ids)s::uuid[], %(exclusions)s::text[]) AS new (place, command_id, exclusion)
 CROSS JOIN LATERAL (SELECT ctid FROM plan_unit WHERE plan_id = %(plan_id)s AND place = new.place LIMIT 1) found
 WHERE p.ctid = found.ctid;
