-- :sent
-- What each unit was sent under the epoch that it reports, and under higher ones since that report; oldest first. A
-- command that was refused was not applied, unless the unit showed later that it was.
SELECT c.unit_id, c.mode, c.after_s, c.epoch, c.at, c.acknowledged_at IS NOT NULL OR c.state = 'confirmed' AS applied
  FROM unnest(%(unit_ids)s::int[], %(epochs)s::bigint[], %(ats)s::timestamptz[]) AS reported (unit_id, epoch, at)
 CROSS JOIN LATERAL (
       SELECT *, greatest(attempted_at, acknowledged_at) AS at
         FROM command
        WHERE unit_id = reported.unit_id AND epoch >= reported.epoch AND epoch > 0
        ORDER BY epoch DESC LIMIT %(limit)s) c
 WHERE c.attempt > 0 AND (c.state <> 'refused' OR c.acknowledged_at IS NOT NULL)
   AND (c.epoch = reported.epoch OR reported.at IS NULL OR c.at > reported.at)
 ORDER BY c.unit_id, c.epoch;
