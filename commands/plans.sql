-- :begin
-- A plan whose units are about to be found.
INSERT INTO command_plan (id, state, mode, after_s, scope, selection, undo_of, reason, authored_by, authored_at,
                          expires_at, rate_per_s, waves_pct, gate_pct, abort_pct, abort_sample, metered_at, next_at)
VALUES (%(id)s, 'selecting', %(mode)s, %(after_s)s, %(scope)s, %(selection)s, %(undo_of)s, %(reason)s, %(by)s, now(),
        now() + make_interval(secs => %(life_s)s), %(rate_per_s)s, %(waves_pct)s, %(gate_pct)s, %(abort_pct)s,
        %(abort_sample)s, now(), now());

-- :by_id
-- One plan, if all of its scope lies within another, and is not nobody's.
SELECT *, now() AS read_at FROM command_plan
 WHERE id = %(id)s AND (%(scope)s::bigint[] IS NULL OR scope <@ %(scope)s::bigint[] AND scope <> '{}');

-- :lock
-- The same, held.
SELECT *, now() AS read_at FROM command_plan
 WHERE id = %(id)s AND (%(scope)s::bigint[] IS NULL OR scope <@ %(scope)s::bigint[] AND scope <> '{}')
   FOR UPDATE;

-- :page
-- A page of plans within a scope, newest first.
SELECT *, now() AS read_at FROM command_plan
 WHERE (%(scope)s::bigint[] IS NULL OR scope <@ %(scope)s::bigint[] AND scope <> '{}') AND (%(before)s::uuid IS NULL OR id < %(before)s)
 ORDER BY id DESC LIMIT %(limit)s;

-- :tally
-- How the commands of a plan stand.
SELECT state, count(*) AS number FROM command WHERE plan_id = %(plan_id)s GROUP BY state;

-- :write
-- What can change of a plan.
UPDATE command_plan
   SET state = %(state)s, summary = %(summary)s, expires_at = %(expires_at)s, included = %(included)s,
       ordered = %(ordered)s, dropped = %(dropped)s, executed_by = %(executed_by)s, executed_at = %(executed_at)s,
       approved_by = %(approved_by)s, approved_at = %(approved_at)s, finished_at = %(finished_at)s,
       waits_for = %(waits_for)s, aborted_because = %(aborted_because)s, place = %(place)s, metered_at = %(metered_at)s,
       next_at = %(next_at)s
 WHERE id = %(id)s;
