-- :write
-- Note one deed.
INSERT INTO audit (at, actor, action, object_kind, object_id, before, after, reason, origin)
VALUES (%(at)s, %(actor)s, %(action)s, %(object_kind)s, %(object_id)s,
        %(before)s, %(after)s, %(reason)s, %(origin)s);

-- :of_object
-- Everything that was done to one object, oldest first.
SELECT id, at, actor, action, object_kind, object_id, before, after, reason, origin
  FROM audit
 WHERE object_kind = %(object_kind)s AND object_id = %(object_id)s
 ORDER BY id;
