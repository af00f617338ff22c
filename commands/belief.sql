-- :sent
-- What each unit was sent under the epoch that it reports, and under higher ones since that report; oldest first. What
-- the unit refused it did not apply. Its newest answer counts, also one that came when the command had ended.
SELECT c.unit_id, c.mode, c.after_s, c.epoch, c.at, coalesce(answer.result = 'applied', false) AS applied
  FROM unnest(%(unit_ids)s::int[], %(epochs)s::bigint[], %(ats)s::timestamptz[]) AS reported (unit_id, epoch, at)
 CROSS JOIN LATERAL (
       SELECT *, greatest(attempted_at, acknowledged_at) AS at
         FROM command
        WHERE unit_id = reported.unit_id AND epoch >= reported.epoch AND epoch > 0
        ORDER BY epoch DESC LIMIT %(limit)s) c
  LEFT JOIN LATERAL (
       SELECT evidence ->> 'result' AS result
         FROM command_event
        WHERE command_id = c.id AND evidence ->> 'result' IS NOT NULL
        ORDER BY id DESC LIMIT 1) answer ON true
 WHERE c.attempt > 0 AND answer.result IS DISTINCT FROM 'refused'
   AND (c.epoch = reported.epoch OR reported.at IS NULL OR c.at > reported.at)
 ORDER BY c.unit_id, c.epoch;
