-- :give
-- Give a unit to another entity and tell whose it was; no row when it is that entity's already.
UPDATE unit SET entity_id = %(entity_id)s
  FROM (SELECT id, entity_id FROM unit WHERE id = %(unit_id)s FOR UPDATE) AS held
 WHERE unit.id = held.id AND held.entity_id <> %(entity_id)s
RETURNING held.entity_id;

-- :turn
-- Close the open row and open the next one at the same moment, which must lie behind its start.
WITH closed AS (
    UPDATE unit_entity SET ended_at = %(now)s
     WHERE unit_id = %(unit_id)s AND ended_at IS NULL AND started_at < %(now)s
    RETURNING unit_id
)
INSERT INTO unit_entity (unit_id, entity_id, started_at)
SELECT unit_id, %(entity_id)s, %(now)s FROM closed;

-- :entity_at
-- Who held a unit at a moment; a stretch ends where the next begins.
SELECT entity_id FROM unit_entity
 WHERE unit_id = %(unit_id)s AND started_at <= %(at)s AND (ended_at IS NULL OR ended_at > %(at)s);

-- :history
-- Who held a unit, oldest first.
SELECT entity_id, entity.name AS entity_name, started_at, ended_at
  FROM unit_entity JOIN entity ON entity.id = entity_id
 WHERE unit_id = %(unit_id)s
 ORDER BY started_at;
