-- :due
-- Lock queued commands that are due and whose units are expected to listen: present, or in contact
-- just now. Enables first.
SELECT c.*, u.imei, u.key_generation, greatest(s.live_contact_at, s.presence_at) AS contact_at, now()
  FROM command c
  JOIN unit u ON u.id = c.unit_id
  JOIN unit_status s ON s.unit_id = c.unit_id
 WHERE c.finished_at IS NULL AND c.state = 'queued' AND c.due_at <= now() AND c.expires_at > now()
   AND u.lifecycle <> 'TERMINATED'
   AND right(u.imei, 2) BETWEEN %(first)s AND %(last)s
   AND (s.live_contact_at > now() - make_interval(secs => %(contact_s)s)
        OR s.presence = 'online'
           AND greatest(s.contact_at, s.presence_at) > now() - 2 * make_interval(secs => u.expected_interval_s))
 ORDER BY (c.mode = 'enabled') IS TRUE DESC, c.due_at, c.id
 LIMIT %(limit)s
   FOR UPDATE OF c SKIP LOCKED;

-- :park
-- Set aside what is due and was not taken because its unit does not listen: its contact makes it due.
-- An order waits for a contact under way (ledger.sql :heard), so no contact falls between the two.
UPDATE command c SET due_at = c.expires_at
 WHERE c.id IN (SELECT c.id
                  FROM command c
                  JOIN unit u ON u.id = c.unit_id
                  LEFT JOIN unit_status s ON s.unit_id = c.unit_id
                 WHERE c.finished_at IS NULL AND c.state = 'queued' AND c.due_at <= now() AND c.expires_at > now()
                   AND right(u.imei, 2) BETWEEN %(first)s AND %(last)s
                   AND (u.lifecycle = 'TERMINATED'
                        OR NOT coalesce(s.live_contact_at > now() - make_interval(secs => %(contact_s)s), false)
                           AND NOT coalesce(s.presence = 'online' AND greatest(s.contact_at, s.presence_at)
                                            > now() - 2 * make_interval(secs => u.expected_interval_s), false))
                 LIMIT 1000
                   FOR UPDATE OF c SKIP LOCKED);

-- :lock
-- The commands that were claimed.
SELECT * FROM command WHERE id = ANY(%(ids)s) ORDER BY id FOR UPDATE;
