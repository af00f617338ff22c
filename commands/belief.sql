-- :sent
-- What each unit was sent from the epoch on that it reports, oldest first. A command that was refused was not
-- applied, unless the unit showed later that it was.
SELECT c.unit_id, c.mode, c.after_s, c.epoch, c.acknowledged_at IS NOT NULL OR c.state = 'confirmed' AS applied,
       greatest(c.attempted_at, c.acknowledged_at) AS at
  FROM unnest(%(unit_ids)s::int[], %(epochs)s::bigint[]) AS reported (unit_id, epoch)
 CROSS JOIN LATERAL (
       SELECT * FROM command
        WHERE unit_id = reported.unit_id AND epoch >= reported.epoch AND epoch > 0
        ORDER BY epoch DESC LIMIT %(limit)s) c
 WHERE c.attempt > 0 AND (c.state <> 'refused' OR c.acknowledged_at IS NOT NULL)
 ORDER BY c.unit_id, c.epoch;
