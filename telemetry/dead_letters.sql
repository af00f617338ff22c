-- :keep
-- Keep some, or count those that are there; in the order of their fingerprints.
INSERT INTO dead_letter (fingerprint, first_at, last_at, times, gateway, topic, imei, unit_id, reason, path, detail, body)
SELECT fingerprint, first_at, last_at, times, %(gateway)s, topic, imei, unit_id, reason, path, detail, body
  FROM unnest(%(fingerprints)s::bytea[], %(first_ats)s::timestamptz[], %(last_ats)s::timestamptz[],
              %(times)s::bigint[], %(topics)s::text[], %(imeis)s::text[], %(unit_ids)s::int[], %(reasons)s::text[],
              %(paths)s::text[], %(details)s::text[], %(bodies)s::bytea[])
       AS new (fingerprint, first_at, last_at, times, topic, imei, unit_id, reason, path, detail, body)
 ORDER BY fingerprint
ON CONFLICT (fingerprint) DO UPDATE
   SET times = dead_letter.times + excluded.times,
       last_at = greatest(dead_letter.last_at, excluded.last_at),
       unit_id = coalesce(excluded.unit_id, dead_letter.unit_id);

-- :page
-- A page, newest first, of one reason or one IMEI or of all.
SELECT id, first_at, last_at, times, gateway, topic, imei, unit_id, reason, path, detail, body
  FROM dead_letter
 WHERE (%(before)s::bigint IS NULL OR id < %(before)s)
   AND (%(reason)s::text IS NULL OR reason = %(reason)s)
   AND (%(imei)s::text IS NULL OR imei = %(imei)s)
 ORDER BY id DESC
 LIMIT %(limit)s;

-- :by_id
-- One dead letter.
SELECT id, first_at, last_at, times, gateway, topic, imei, unit_id, reason, path, detail, body
  FROM dead_letter
 WHERE id = %(id)s;

-- :strangers
-- Who speaks and is not enrolled, a page of them.
SELECT d.imei, min(d.first_at) AS first_at, max(d.last_at) AS last_at, sum(d.times)::bigint AS messages
  FROM dead_letter d
 WHERE d.reason = %(reason)s AND NOT EXISTS (SELECT FROM unit u WHERE u.imei = d.imei)
 GROUP BY d.imei
HAVING %(last_at)s::timestamptz IS NULL OR (max(d.last_at), d.imei) < (%(last_at)s, %(imei)s)
 ORDER BY last_at DESC, d.imei DESC
 LIMIT %(limit)s;
