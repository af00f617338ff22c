-- :try_lock
-- A lock on a name, held by this connection.
SELECT pg_try_advisory_lock(hashtextextended(%(name)s, 0));
