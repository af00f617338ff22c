-- :add
-- A new account, or no row when the address has one.
INSERT INTO account (email, level, scope, created_at)
VALUES (%(email)s, %(level)s, %(scope)s::bigint[], %(now)s)
ON CONFLICT (email) DO NOTHING
RETURNING id, email, level, scope, created_at, disabled_at;

-- :change
-- Other rights for an account.
UPDATE account SET level = %(level)s, scope = %(scope)s::bigint[] WHERE id = %(account_id)s;

-- :disable
-- Bar an account, unless it is barred already.
UPDATE account SET disabled_at = %(now)s WHERE id = %(account_id)s AND disabled_at IS NULL;

-- :enable
-- Let an account in again, if it is barred.
UPDATE account SET disabled_at = NULL WHERE id = %(account_id)s AND disabled_at IS NOT NULL;

-- :by_email
-- The account of an address, locked: its rights do not change while they are being weighed.
SELECT id, email, level, scope, created_at, disabled_at
  FROM account WHERE email = %(email)s FOR NO KEY UPDATE;

-- :page
-- Accounts in the order of their ids.
SELECT id, email, level, scope, created_at, disabled_at
  FROM account WHERE id > %(after)s ORDER BY id LIMIT %(limit)s;
