-- :issue
-- A new token of an account, or no row when the account is disabled.
WITH issued AS (
    INSERT INTO api_token (account_id, name, token_hash, level, scope, created_at, expires_at, issued_by)
    SELECT id, %(name)s, %(token_hash)s, %(level)s, %(scope)s::bigint[], %(now)s, %(expires_at)s, %(issued_by)s
      FROM account WHERE id = %(account_id)s AND disabled_at IS NULL
    RETURNING *
)
SELECT issued.id, email, name, issued.level, issued.scope, issued.created_at,
       expires_at, revoked_at, last_used_at, issued_by
  FROM issued JOIN account ON account.id = account_id;

-- :by_id
-- One token.
SELECT api_token.id, email, name, api_token.level, api_token.scope, api_token.created_at,
       expires_at, revoked_at, last_used_at, issued_by
  FROM api_token JOIN account ON account.id = account_id
 WHERE api_token.id = %(token_id)s;

-- :page
-- Tokens, of one account or of all, in the order of their ids.
SELECT api_token.id, email, name, api_token.level, api_token.scope, api_token.created_at,
       expires_at, revoked_at, last_used_at, issued_by
  FROM api_token JOIN account ON account.id = account_id
 WHERE api_token.id > %(after)s AND (%(email)s::text IS NULL OR email = %(email)s)
 ORDER BY api_token.id LIMIT %(limit)s;

-- :hold
-- Keep a token from being revoked until this transaction ends; no row when it is.
SELECT FROM api_token WHERE id = %(token_id)s AND revoked_at IS NULL FOR SHARE;

-- :revoke
-- End a token and, if so wanted, what it issued, and what that issued; gives those that were not ended before.
WITH RECURSIVE line AS (
    SELECT id FROM api_token WHERE id = %(token_id)s
    UNION
    SELECT younger.id FROM api_token younger JOIN line ON younger.issued_by = line.id WHERE %(with_issued)s
)
UPDATE api_token t SET revoked_at = %(now)s
  FROM account
 WHERE t.id IN (SELECT id FROM line) AND revoked_at IS NULL AND account.id = account_id
RETURNING t.id, email;

-- :shown
-- What a token that is shown at the door stands for, with the present rights of its account.
SELECT api_token.id, account_id, email, api_token.level, api_token.scope, expires_at, revoked_at, last_used_at,
       account.level AS account_level, account.scope AS account_scope, disabled_at
  FROM api_token JOIN account ON account.id = account_id
 WHERE token_hash = %(token_hash)s;

-- :touch
-- Note the use, not too often, and never wait for another call that is noting it.
UPDATE api_token SET last_used_at = %(now)s
 WHERE id IN (SELECT id FROM api_token
               WHERE id = %(token_id)s
                 AND (last_used_at IS NULL OR last_used_at < %(now)s - %(every)s)
               FOR NO KEY UPDATE SKIP LOCKED);
