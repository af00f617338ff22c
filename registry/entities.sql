-- :add
-- A new entity, or no row when the name is taken.
INSERT INTO entity (name, created_at) VALUES (%(name)s, %(now)s)
ON CONFLICT (name) DO NOTHING
RETURNING id, name, created_at;

-- :page
-- The entities of a scope in the order of their ids.
SELECT id, name, created_at
  FROM entity
 WHERE id > %(after)s AND (%(scope)s::bigint[] IS NULL OR id = ANY(%(scope)s))
 ORDER BY id LIMIT %(limit)s;

-- :known
-- Which of some ids are entities of a scope.
SELECT id, name, created_at
  FROM entity
 WHERE id = ANY(%(ids)s::bigint[]) AND (%(scope)s::bigint[] IS NULL OR id = ANY(%(scope)s));
