-- :due
-- Lock what is due, enables first, and with each command its unit's intent: of one unit only one
-- dispatcher decides at a time. Of a hundred thousand that are due a claim touches only its own: there
-- is no order by id beside due_at, or all would be sorted; and units are looked up one by one (LIMIT 1),
-- for the planner takes the condition on partitions for one that hardly any unit meets.
SELECT *, now()
  FROM (SELECT c.*, u.imei, u.key_generation, u.lifecycle
          FROM command c
          JOIN unit_intent i ON i.unit_id = c.unit_id
         CROSS JOIN LATERAL (
               SELECT imei, key_generation, lifecycle FROM unit
                WHERE id = c.unit_id AND right(imei, 2) BETWEEN %(first)s AND %(last)s
                LIMIT 1) u
         WHERE c.finished_at IS NULL AND c.state = 'queued' AND c.due_at <= now() AND c.expires_at > now()
           AND c.mode = 'enabled'
         ORDER BY c.due_at
         LIMIT %(limit)s
           FOR UPDATE OF c, i SKIP LOCKED) AS enables
 UNION ALL
SELECT *, now()
  FROM (SELECT c.*, u.imei, u.key_generation, u.lifecycle
          FROM command c
          JOIN unit_intent i ON i.unit_id = c.unit_id
         CROSS JOIN LATERAL (
               SELECT imei, key_generation, lifecycle FROM unit
                WHERE id = c.unit_id AND right(imei, 2) BETWEEN %(first)s AND %(last)s
                LIMIT 1) u
         WHERE c.finished_at IS NULL AND c.state = 'queued' AND c.due_at <= now() AND c.expires_at > now()
           AND c.mode IS DISTINCT FROM 'enabled'
         ORDER BY c.due_at
         LIMIT %(limit)s
           FOR UPDATE OF c, i SKIP LOCKED) AS others
 LIMIT %(limit)s;

-- :standing
-- How units stand whose commands are locked: whether they are expected to listen (present, or in contact
-- just now), when they came, what speaks against switching them off, and until when something is in flight
-- to them. Asked after the lock: a contact that is not seen here waits for the lock, and then makes due
-- what was set aside.
SELECT u.id AS unit_id, u.lifecycle = 'IN_REPAIR_SYSTEM' AS in_repair,
       EXISTS (SELECT FROM suspected_clones() d WHERE d.unit_id = u.id) AS suspected_clone,
       (SELECT e.started_at FROM unit_entity e WHERE e.unit_id = u.id AND e.ended_at IS NULL) AS held_since,
       coalesce(s.live_contact_at > now() - make_interval(secs => %(contact_s)s), false)
       OR coalesce(s.presence = 'online' AND greatest(s.contact_at, s.presence_at)
                   > now() - 2 * make_interval(secs => (
                         SELECT i.expected_interval_s FROM unit_interval i WHERE i.unit_id = u.id)), false) AS listens,
       greatest(s.live_contact_at, s.presence_at) AS contact_at,
       -- a filter, not a condition: the index of all that is awaited must not look like a way to one unit
       (SELECT max(c.due_at) FILTER (WHERE c.state IN ('sending', 'sent')) FROM command c
         WHERE c.unit_id = u.id AND c.finished_at IS NULL) AS busy_until
  FROM unit u
  LEFT JOIN LATERAL (SELECT * FROM unit_status WHERE unit_id = u.id LIMIT 1) s ON true
 WHERE u.id = ANY(%(unit_ids)s::int[]);

-- :lock
-- The commands that were claimed.
SELECT * FROM command WHERE id = ANY(%(ids)s) ORDER BY id FOR UPDATE;

-- :lock_free
-- Those of them that nobody else holds.
SELECT * FROM command WHERE id = ANY(%(ids)s) ORDER BY id FOR UPDATE SKIP LOCKED;
