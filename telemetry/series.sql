-- :of_heartbeats
-- A unit's readings by buckets, from its heartbeats; no row for a bucket without any.
SELECT date_bin(%(width)s, at, %(first)s) AS start, {columns}
  FROM heartbeat
 WHERE unit_id = %(unit_id)s AND at >= %(first)s AND at < %(last)s
 GROUP BY 1;

-- :of_hours
-- The same from the sums of hours; a bucket is made of whole ones.
SELECT date_bin(%(width)s, hour, %(first)s) AS start, {columns}
  FROM heartbeat_hourly
 WHERE unit_id = %(unit_id)s AND hour >= %(first)s AND hour < %(last)s
 GROUP BY 1;

-- :measured
-- What is told of one reading's values, which stand in hundredths.
count({value}) AS {n}, (min({value}) / 100.0)::double precision AS {min},
(max({value}) / 100.0)::double precision AS {max}, (sum({value}) / 100.0)::double precision AS {sum}

-- :summed
-- What is told of one reading's hours: a mean of means would give a lone value the weight of many.
sum({n})::bigint AS {n}, min({min}) AS {min}, max({max}) AS {max}, sum({sum}) AS {sum}
