-- One wish for many units: selected and judged first, ordered bit by bit later, and told unit by unit.

-- `expired` is no state of a row: what was not executed in time is. The waves are shares of the whole, adding up.
-- Up to `place` every unit has had its turn.
CREATE TABLE command_plan (
    id              uuid PRIMARY KEY,
    state           text NOT NULL CONSTRAINT command_plan_state_is_known CHECK (state IN (
                        'selecting', 'ready', 'awaiting_approval', 'running', 'paused',
                        'ordered', 'aborted', 'cancelled')),
    mode            text NOT NULL CONSTRAINT command_plan_mode_is_known CHECK (mode IN ('enabled', 'offline_disabled')),
    after_s         bigint NOT NULL,
    scope           bigint[],
    selection       jsonb NOT NULL,
    undo_of         uuid REFERENCES command_plan,
    reason          text NOT NULL,
    authored_by     text NOT NULL,
    authored_at     timestamptz NOT NULL,
    expires_at      timestamptz NOT NULL,
    rate_per_s      double precision NOT NULL CONSTRAINT command_plan_rate_moves CHECK (rate_per_s > 0),
    waves_pct       double precision[] NOT NULL CONSTRAINT command_plan_waves_reach_all CHECK (
                        waves_pct[array_length(waves_pct, 1)] = 100),
    gate_pct        double precision NOT NULL CONSTRAINT command_plan_gate_is_a_share CHECK (gate_pct BETWEEN 0 AND 100),
    abort_pct       double precision NOT NULL CONSTRAINT command_plan_abort_is_a_share CHECK (abort_pct BETWEEN 0 AND 100),
    abort_sample    int NOT NULL CONSTRAINT command_plan_sample_counts CHECK (abort_sample >= 1),
    summary         jsonb,
    included        int NOT NULL DEFAULT 0,
    ordered         int NOT NULL DEFAULT 0,
    dropped         int NOT NULL DEFAULT 0,
    executed_by     text,
    executed_at     timestamptz,
    approved_by     text,
    approved_at     timestamptz,
    finished_at     timestamptz,
    waits_for       text CONSTRAINT command_plan_hold_is_known CHECK (waits_for IN ('rate', 'gate', 'daily_cap')),
    aborted_because jsonb,
    place           int NOT NULL DEFAULT 0,
    metered_at      timestamptz NOT NULL,
    next_at         timestamptz NOT NULL,
    CONSTRAINT command_plan_final_has_its_time CHECK (
        (state IN ('ordered', 'aborted', 'cancelled')) = (finished_at IS NOT NULL)),
    CONSTRAINT command_plan_ready_is_summed_up CHECK (state IN ('selecting', 'cancelled') OR summary IS NOT NULL),
    CONSTRAINT command_plan_running_was_executed CHECK (
        state IN ('selecting', 'ready', 'cancelled') OR executed_at IS NOT NULL),
    CONSTRAINT command_plan_execution_is_whole CHECK ((executed_by IS NULL) = (executed_at IS NULL)),
    CONSTRAINT command_plan_approval_is_whole CHECK ((approved_by IS NULL) = (approved_at IS NULL)),
    CONSTRAINT command_plan_second_person_is_another CHECK (approved_by NOT IN (authored_by, executed_by)),
    CONSTRAINT command_plan_abort_has_its_cause CHECK ((state = 'aborted') = (aborted_because IS NOT NULL)),
    CONSTRAINT command_plan_counts_add_up CHECK (
        included >= 0 AND ordered >= 0 AND dropped >= 0 AND ordered + dropped <= included),
    -- Nothing but a person stops power from coming back.
    CONSTRAINT command_plan_enabling_is_never_held_back CHECK (
        mode <> 'enabled' OR waves_pct = '{100}' AND gate_pct = 0 AND abort_pct = 100 AND after_s = 0)
);
CREATE INDEX command_plan_running ON command_plan (next_at) WHERE state = 'running';

-- What becomes of every line of a selection; `place` is the row of the list. A unit is taken once.
CREATE TABLE plan_unit (
    plan_id    uuid NOT NULL REFERENCES command_plan,
    place      int NOT NULL CONSTRAINT plan_unit_place_counts CHECK (place >= 1),
    given      text,
    unit_id    int REFERENCES unit,
    outcome    text NOT NULL CONSTRAINT plan_unit_outcome_is_known CHECK (outcome IN ('waiting', 'excluded', 'ordered')),
    exclusion  text CONSTRAINT plan_unit_exclusion_is_known CHECK (exclusion IN (
                   'not_a_name', 'unknown', 'twice', 'terminated', 'in_repair', 'already_pending', 'already_so',
                   'suspected_clone', 'not_enabled', 'epochs_exhausted')),
    decided_at timestamptz,
    command_id uuid,
    PRIMARY KEY (plan_id, place),
    CONSTRAINT plan_unit_exclusion_fits CHECK ((outcome = 'excluded') = (exclusion IS NOT NULL)),
    CONSTRAINT plan_unit_command_fits CHECK ((outcome = 'ordered') = (command_id IS NOT NULL)),
    CONSTRAINT plan_unit_waiting_is_undecided CHECK ((outcome = 'waiting') = (decided_at IS NULL)),
    CONSTRAINT plan_unit_is_known_unless_excluded CHECK (unit_id IS NOT NULL OR outcome = 'excluded')
) WITH (fillfactor = 60);  -- its turn comes to each row once, and then finds room beside it
CREATE UNIQUE INDEX plan_unit_taken_once ON plan_unit (plan_id, unit_id) WHERE exclusion IS DISTINCT FROM 'twice';

CREATE INDEX command_by_plan ON command (plan_id) WHERE plan_id IS NOT NULL;
-- How many were told to switch off within a day.
CREATE INDEX command_disabling ON command (ordered_at) WHERE mode = 'offline_disabled';
