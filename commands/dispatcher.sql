-- :due
-- Lock queued commands that are due, enables first, and tell whether their units are expected to
-- listen: present or in contact just now, and nothing else on the way to them.
SELECT c.*, u.imei, u.key_generation, greatest(s.live_contact_at, s.presence_at) AS contact_at, now(),
       coalesce(s.presence = 'online'
                    AND greatest(s.contact_at, s.presence_at) > now() - 2 * make_interval(secs => u.expected_interval_s)
                OR s.live_contact_at > now() - make_interval(secs => %(contact_s)s), false)
       AND NOT EXISTS (SELECT FROM command o
                        WHERE o.unit_id = c.unit_id AND o.finished_at IS NULL AND o.id <> c.id
                          AND o.state IN ('sending', 'sent')) AS listening
  FROM command c
  JOIN unit u ON u.id = c.unit_id
  LEFT JOIN unit_status s ON s.unit_id = c.unit_id
 WHERE c.finished_at IS NULL AND c.state = 'queued' AND c.due_at <= now() AND c.expires_at > now()
   AND right(u.imei, 2) BETWEEN %(first)s AND %(last)s
 ORDER BY (c.mode = 'enabled') IS TRUE DESC, c.due_at, c.id
 LIMIT %(limit)s
   FOR UPDATE OF c SKIP LOCKED;

-- :lock
-- The commands that were claimed.
SELECT * FROM command WHERE id = ANY(%(ids)s) ORDER BY id FOR UPDATE;
