-- :keep
-- Keep some, or count those that are there, in the order of their fingerprints; tell which. An IMEI that has
-- used up a day's share (UTC, of the first arrival) gets no new ones.
WITH given AS (
    SELECT new.*, coalesce(imei, '') AS speaker, date_trunc('day', first_at, 'UTC') AS day,
           EXISTS (SELECT FROM dead_letter d WHERE d.fingerprint = new.fingerprint) AS known
      FROM unnest(%(fingerprints)s::bytea[], %(first_ats)s::timestamptz[], %(last_ats)s::timestamptz[],
                  %(times)s::bigint[], %(topics)s::text[], %(imeis)s::text[], %(unit_ids)s::int[], %(reasons)s::text[],
                  %(paths)s::text[], %(details)s::text[], %(bodies)s::bytea[])
           AS new (fingerprint, first_at, last_at, times, topic, imei, unit_id, reason, path, detail, body)
), room AS (
    SELECT speaker, day, %(share)s - (SELECT count(*) FROM dead_letter d
                                       WHERE coalesce(d.imei, '') = speaker
                                         AND d.first_at >= day AND d.first_at < day + interval '1 day') AS free
      FROM (SELECT DISTINCT speaker, day FROM given WHERE NOT known) newcomers
), placed AS (
    SELECT given.*, known OR row_number() OVER (PARTITION BY speaker, day, known ORDER BY fingerprint) <= free AS fits
      FROM given LEFT JOIN room USING (speaker, day)
)
INSERT INTO dead_letter (fingerprint, first_at, last_at, times, gateway, topic, imei, unit_id, reason, path, detail, body)
SELECT fingerprint, first_at, last_at, times, %(gateway)s, topic, imei, unit_id, reason, path, detail, body
  FROM placed WHERE fits
 ORDER BY fingerprint
ON CONFLICT (fingerprint) DO UPDATE
   SET times = dead_letter.times + excluded.times,
       last_at = greatest(dead_letter.last_at, excluded.last_at),
       unit_id = coalesce(excluded.unit_id, dead_letter.unit_id)
RETURNING fingerprint;

-- :count_only
-- Count what found no room, in one order everywhere.
INSERT INTO dead_letter_overflow AS known (imei, reason, first_at, last_at, times)
SELECT imei, reason, min(at), max(at), count(*)
  FROM unnest(%(imeis)s::text[], %(reasons)s::text[], %(ats)s::timestamptz[]) AS new (imei, reason, at)
 GROUP BY imei, reason ORDER BY imei COLLATE "C" NULLS FIRST, reason COLLATE "C"
ON CONFLICT (imei, reason) DO UPDATE
   SET first_at = least(known.first_at, excluded.first_at),
       last_at = greatest(known.last_at, excluded.last_at),
       times = known.times + excluded.times;

-- :page
-- A page, newest first, of those that fit.
SELECT * FROM dead_letter_with_fate
 WHERE (%(before_id)s::bigint IS NULL OR id < %(before_id)s)
   AND (%(state)s::text IS NULL OR state = %(state)s)
   AND (%(reason)s::text IS NULL OR reason = %(reason)s)
   AND (%(imei)s::text IS NULL OR imei = %(imei)s)
   AND (%(after)s::timestamptz IS NULL OR first_at >= %(after)s)
   AND (%(before)s::timestamptz IS NULL OR first_at < %(before)s)
 ORDER BY id DESC
 LIMIT %(limit)s;

-- :by_id
-- One dead letter.
SELECT * FROM dead_letter_with_fate WHERE id = %(id)s;

-- :strangers
-- Who speaks and is not enrolled, a page of them; also of what is only counted.
SELECT d.imei, min(d.first_at) AS first_at, max(d.last_at) AS last_at, sum(d.times)::bigint AS messages
  FROM (SELECT imei, reason, first_at, last_at, times FROM dead_letter
         UNION ALL
        SELECT imei, reason, first_at, last_at, times FROM dead_letter_overflow) d
 WHERE d.reason = %(reason)s AND NOT EXISTS (SELECT FROM unit u WHERE u.imei = d.imei)
 GROUP BY d.imei
HAVING %(last_at)s::timestamptz IS NULL OR (max(d.last_at), d.imei) < (%(last_at)s, %(imei)s)
 ORDER BY last_at DESC, d.imei DESC
 LIMIT %(limit)s;

-- :overflow
-- What is only counted, a page of it by IMEI; what named no IMEI comes first.
SELECT imei, reason, first_at, last_at, times
  FROM dead_letter_overflow
 WHERE (coalesce(imei, ''), reason) > (%(imei)s::text, %(reason)s::text)
 ORDER BY coalesce(imei, ''), reason
 LIMIT %(limit)s;
