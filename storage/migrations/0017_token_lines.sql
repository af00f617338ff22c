-- A token that is revoked may take with it what it issued: so a token says which one issued it.

-- NULL for those issued at the command line.
ALTER TABLE api_token ADD COLUMN issued_by bigint REFERENCES api_token;
CREATE INDEX api_token_by_issuer ON api_token (issued_by) WHERE issued_by IS NOT NULL;

-- The audit has told it from the start, though not of tokens older than that line.
UPDATE api_token t SET issued_by = (a.after ->> 'by_token')::bigint
  FROM audit a
 WHERE a.object_kind = 'api_token' AND a.object_id = t.id::text AND a.action = 'token_issued'
   AND a.after ->> 'by_token' IS NOT NULL;
