-- :move
-- Move a unit, unless it left the state in which it was seen; note the move.
WITH moved AS (
    UPDATE unit SET lifecycle = %(to)s
     WHERE id = %(unit_id)s AND lifecycle = %(before)s
    RETURNING id
)
INSERT INTO lifecycle_change (unit_id, from_state, to_state, changed_at, changed_by, reason)
SELECT id, %(before)s, %(to)s, %(now)s, %(by)s, %(reason)s FROM moved;

-- :changes
-- Every move of a unit, oldest first.
SELECT from_state, to_state, changed_at, changed_by, reason
  FROM lifecycle_change WHERE unit_id = %(unit_id)s ORDER BY id;
