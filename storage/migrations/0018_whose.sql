-- A command says in which holding of its unit it was ordered: who gets the unit later is not switched off by it.

-- The start of the holding, as in unit_entity, of who ordered or approved it; NULL where an earlier release made it.
ALTER TABLE command ADD COLUMN held_since timestamptz;

-- Until now this was told by which came first. It matters of what takes power away alone.
UPDATE command c SET held_since = e.started_at
  FROM unit_entity e
 WHERE c.mode = 'offline_disabled' AND e.unit_id = c.unit_id
   AND e.started_at <= coalesce(c.approved_at, c.ordered_at)
   AND (e.ended_at IS NULL OR e.ended_at > coalesce(c.approved_at, c.ordered_at));
