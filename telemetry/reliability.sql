-- :contacts
-- How often a unit made contact: what it sent in one message arrived at one moment, however late its entries are.
-- A unit's clock may place a heartbeat up to 45 days before it arrived.
SELECT count(DISTINCT received_at)
  FROM heartbeat
 WHERE unit_id = %(unit_id)s
   AND at >= %(since)s - make_interval(secs => %(oldest_s)s) AND at < %(until)s + make_interval(secs => %(newest_s)s)
   AND received_at >= %(since)s AND received_at < %(until)s;
