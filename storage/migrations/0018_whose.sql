-- A command says in which holding of its unit it was ordered: who gets the unit later is not switched off by it.

-- The start of the holding, as in unit_entity, of who ordered or approved it. NULL where an earlier release made it: then
-- which came first tells it.
ALTER TABLE command ADD COLUMN held_since timestamptz;

-- Likewise of a plan's unit, whose holding it was found fit in.
ALTER TABLE plan_unit ADD COLUMN held_since timestamptz;
ALTER TABLE plan_unit DROP CONSTRAINT plan_unit_exclusion_is_known;
ALTER TABLE plan_unit ADD CONSTRAINT plan_unit_exclusion_is_known CHECK (exclusion IN (
    'not_a_name', 'unknown', 'twice', 'terminated', 'in_repair', 'already_pending', 'already_so',
    'suspected_clone', 'not_enabled', 'enabled_since', 'changed_hands', 'epochs_exhausted'));
