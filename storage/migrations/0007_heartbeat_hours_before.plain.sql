-- Note the hours of heartbeats that were stored before anything was noted. A step of its own, after the
-- trigger is there: it reads everything and must not hold back those who write. What is noted twice does no harm.
INSERT INTO heartbeat_touched (unit_id, hour)
SELECT DISTINCT unit_id, date_bin('1 hour', at, '2000-01-01 00:00+00') FROM heartbeat;
