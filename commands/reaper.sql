-- :waited
-- Commands whose life has ended, or that have waited long enough for what was hoped for.
(SELECT id, unit_id, mode IS NOT NULL AND expires_at <= now() AS ends_wish FROM command
  WHERE finished_at IS NULL AND expires_at <= now() AND expires_at < 'infinity' LIMIT %(limit)s)
 UNION ALL
(SELECT id, unit_id, false FROM command
  WHERE finished_at IS NULL AND due_at <= now() AND expires_at > now() AND state IN ('sending', 'sent', 'acknowledged')
  LIMIT %(limit)s);

-- :lock_intents
-- Lock what is wanted of units before their commands, as everybody does; what others hold is left to them.
SELECT unit_id FROM unit_intent WHERE unit_id = ANY(%(unit_ids)s::int[]) ORDER BY unit_id FOR UPDATE SKIP LOCKED;

-- :overdue
-- Lock those of them that still are; where a wish ends its unit's intent must be locked.
SELECT * FROM command
 WHERE id = ANY(%(ids)s::uuid[]) AND finished_at IS NULL
   AND CASE WHEN expires_at <= now() THEN mode IS NULL OR unit_id = ANY(%(locked)s::int[])
            ELSE due_at <= now() AND state IN ('sending', 'sent', 'acknowledged') END
 ORDER BY id
   FOR UPDATE SKIP LOCKED;
