-- :arrivals
-- When messages of a unit arrived: what it sent in one message arrived at one moment. A unit's clock may place a
-- heartbeat up to 45 days before it arrived.
SELECT DISTINCT received_at
  FROM (SELECT received_at
          FROM heartbeat
         WHERE unit_id = %(unit_id)s AND at >= %(since)s::timestamptz - make_interval(secs => %(oldest_s)s)
         ORDER BY at DESC LIMIT %(limit)s) newest
 WHERE received_at >= %(since)s
 ORDER BY received_at;
