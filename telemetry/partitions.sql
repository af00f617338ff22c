-- :ensure
-- Make the partition of one day unless it is there.
SELECT ensure_heartbeat_day(%(day)s);
