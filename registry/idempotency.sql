-- :lock
-- One call of a key at a time, until its transaction ends; keys of equal hash wait for one another.
SELECT pg_advisory_xact_lock('idempotency'::regclass::oid::int, hashtext(concat(%(account_id)s::bigint, ' ', %(key)s::text)));

-- :kept
-- What a key was answered.
SELECT route, request_hash, status, answer
  FROM idempotency WHERE account_id = %(account_id)s AND key = %(key)s;

-- :keep
-- Keep what a key was answered.
INSERT INTO idempotency (account_id, key, route, request_hash, status, answer)
VALUES (%(account_id)s, %(key)s, %(route)s, %(request_hash)s, %(status)s, %(answer)s);
