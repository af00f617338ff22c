-- What keeps a unit from being switched off: two units under its name, an enable newer than the plan, a restored backup.

-- Units under whose IMEI two are suspected to speak: what is told to one may reach the other.
CREATE FUNCTION suspected_clones() RETURNS TABLE (unit_id int)
LANGUAGE sql STABLE AS $$
    SELECT a.unit_id FROM unit_alert a WHERE a.kind = 'two_units' AND a.resolved_at IS NULL
$$;

ALTER TABLE plan_unit DROP CONSTRAINT plan_unit_exclusion_is_known;
ALTER TABLE plan_unit ADD CONSTRAINT plan_unit_exclusion_is_known CHECK (exclusion IN (
    'not_a_name', 'unknown', 'twice', 'terminated', 'in_repair', 'already_pending', 'already_so',
    'suspected_clone', 'not_enabled', 'enabled_since', 'epochs_exhausted'));

-- Only the primary key leads with the plan, so that the next lines of one are found in their order; and of a unit one
-- can ask which plans mean it.
DROP INDEX plan_unit_taken_once;
CREATE UNIQUE INDEX plan_unit_taken_once ON plan_unit (unit_id, plan_id) WHERE exclusion IS DISTINCT FROM 'twice';

-- The index of what expires, so that no search for the open commands of a unit can take it for a way there: while
-- none is open it looks as short as the right one, and is as long as all that is open a moment later.
DROP INDEX command_open_expiry;
CREATE INDEX command_open_expiry ON command (expires_at) WHERE finished_at IS NULL AND expires_at < 'infinity';

-- When a person last wanted the unit to be enabled, also where it was so already and nothing had to be ordered.
-- After a restore: up to this epoch nobody knows whether darkness is still wanted.
ALTER TABLE unit_intent ADD COLUMN enable_asked_at timestamptz, ADD COLUMN doubted_to bigint;
