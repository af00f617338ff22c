-- :overdue
-- Commands whose life has ended, or that have waited long enough for what was hoped for.
SELECT * FROM command
 WHERE id IN ((SELECT id FROM command
                WHERE finished_at IS NULL AND expires_at <= now() LIMIT %(limit)s)
              UNION ALL
              (SELECT id FROM command
                WHERE finished_at IS NULL AND due_at <= now() AND state IN ('sending', 'sent', 'acknowledged')
                LIMIT %(limit)s))
   AND finished_at IS NULL
   AND (expires_at <= now() OR due_at <= now() AND state IN ('sending', 'sent', 'acknowledged'))
 ORDER BY id
   FOR UPDATE SKIP LOCKED;
