-- :account
-- Whether somebody is let in already.
SELECT 1 FROM account WHERE email = %(email)s;
