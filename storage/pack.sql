-- :heed
-- Let the server notice that we are gone, instead of building on for nobody.
SET client_connection_check_interval = '2s';

-- :owned
-- Tell whether this role may rebuild what belongs to the heartbeats; nothing where they are not yet.
SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = to_regclass('heartbeat');

-- :left_overs
-- Find what interrupted rebuilds left: written to with every late heartbeat, and read by nobody.
SELECT x.relname AS name
  FROM pg_inherits p
  JOIN pg_index i ON i.indrelid = p.inhrelid
  JOIN pg_class x ON x.oid = i.indexrelid
 WHERE p.inhparent = 'heartbeat'::regclass AND NOT i.indisvalid AND x.relname ~ '_cc(new|old)[0-9]*$'
 ORDER BY x.relname;

-- :loose
-- Find the days, of some, whose index takes more room than its rows need, the newest first.
-- An entry is 28 bytes with its pointer: 32 in pages that are filled to nine tenths, as a rebuild leaves them, 37 to
-- 43 in pages that a day has split. How many there are the rebuild itself writes down, and autovacuum from time to
-- time: a packed day is not found again before late heartbeats have split its pages anew.
SELECT day.relname AS name, x.relname AS index, pg_total_relation_size(day.oid) AS bytes
  FROM pg_inherits p
  JOIN pg_class day ON day.oid = p.inhrelid
  JOIN pg_index i ON i.indrelid = day.oid AND i.indisvalid
  JOIN pg_class x ON x.oid = i.indexrelid
  JOIN pg_am a ON a.oid = x.relam AND a.amname = 'btree'
 WHERE p.inhparent = 'heartbeat'::regclass
   AND to_date(right(day.relname, 8), 'YYYYMMDD') BETWEEN %(first)s AND %(last)s
   AND pg_relation_size(x.oid) > 32768 + 34 * greatest(day.reltuples, 0)
 ORDER BY day.relname DESC;

-- :drop
-- Drop an index without stopping those who write.
DROP INDEX CONCURRENTLY IF EXISTS {};

-- :vacuum
-- Give back the pages that were added in advance, and note which pages everybody sees.
VACUUM {};

-- :rebuild
-- Build an index anew beside itself, without stopping those who write.
REINDEX INDEX CONCURRENTLY {};

-- :size
-- Weigh a day with all its indexes.
SELECT pg_total_relation_size(to_regclass(%(name)s));
