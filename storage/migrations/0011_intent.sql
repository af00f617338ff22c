-- A wish outlives its command, a second person may have to approve it, and what contradicts it is written down.

ALTER TABLE command
    ADD COLUMN origin      text NOT NULL DEFAULT 'person'
        CONSTRAINT command_origin_is_known CHECK (origin IN ('person', 'intent', 'plan')),
    ADD COLUMN plan_id     uuid,
    ADD COLUMN approved_by text,
    ADD COLUMN approved_at timestamptz,
    DROP CONSTRAINT command_state_is_known,
    ADD CONSTRAINT command_state_is_known CHECK (state IN (
        'awaiting_approval', 'queued', 'sending', 'sent', 'acknowledged',
        'confirmed', 'refused', 'superseded', 'cancelled', 'expired')),
    DROP CONSTRAINT command_epoch_fits_kind,
    -- what waits for approval has no epoch yet, and what was never approved never got one
    ADD CONSTRAINT command_epoch_fits_kind CHECK (
        CASE WHEN kind = 'ping' THEN epoch = 0
             ELSE epoch > 0
                  OR attempt = 0 AND state IN ('awaiting_approval', 'superseded', 'cancelled', 'expired') END),
    ADD CONSTRAINT command_approval_is_whole CHECK ((approved_by IS NULL) = (approved_at IS NULL)),
    ADD CONSTRAINT command_plan_has_its_origin CHECK ((plan_id IS NOT NULL) = (origin = 'plan'));

DROP INDEX command_one_open_wish;
CREATE UNIQUE INDEX command_one_open_wish ON command (unit_id)
    WHERE kind = 'set_mode' AND finished_at IS NULL AND state <> 'awaiting_approval';
CREATE UNIQUE INDEX command_one_awaiting_wish ON command (unit_id)
    WHERE kind = 'set_mode' AND state = 'awaiting_approval';

-- What is wanted of a unit follows from its commands (docket.sql :derive); a report between `floor` and `epoch`
-- with the desired mode is in accord with it.
ALTER TABLE unit_intent
    ADD COLUMN wished_by text,
    ADD COLUMN after_s bigint NOT NULL DEFAULT 0,
    ADD COLUMN lapsed  boolean NOT NULL DEFAULT false,
    ADD COLUMN given   bigint NOT NULL DEFAULT 0,
    ADD COLUMN proven  bigint NOT NULL DEFAULT 0,
    ADD COLUMN floor   bigint NOT NULL DEFAULT 0,
    ADD COLUMN drifted boolean NOT NULL DEFAULT false,
    ADD CONSTRAINT unit_intent_floor_was_given CHECK (0 <= proven AND proven <= floor AND floor <= epoch);

UPDATE unit_intent i
   SET desired = d.mode, wished_by = d.wished_by, after_s = coalesce(d.after_s, 0), lapsed = coalesce(d.lapsed, false),
       given = least(d.given, i.epoch), proven = least(d.proven, i.epoch), floor = least(d.floor, i.epoch)
  FROM (SELECT u.unit_id, coalesce(n.mode, CASE WHEN g.disabled THEN 'enabled' END) AS mode, n.ordered_by AS wished_by,
               n.after_s, n.lapsed, coalesce(g.given, 0) AS given,
               coalesce(g.proven, 0) AS proven, greatest(g.proven, g.floor, 0) AS floor
          FROM unit_intent u
          LEFT JOIN LATERAL (
                SELECT c.mode, c.ordered_by, c.after_s, c.state = 'expired' AS lapsed FROM command c
                 WHERE c.unit_id = u.unit_id AND c.epoch > 0
                   AND CASE WHEN c.state = 'refused' THEN c.refusal IN ('stale_epoch', 'bad_unit_clock') AND c.epoch = u.epoch
                            WHEN c.mode = 'enabled' THEN c.state <> 'cancelled'
                            ELSE c.finished_at IS NULL OR c.state = 'confirmed' END
                 ORDER BY c.epoch DESC LIMIT 1) n ON true
          LEFT JOIN LATERAL (
                SELECT max(c.epoch) AS given, bool_or(c.mode = 'offline_disabled') AS disabled,
                       max(c.epoch) FILTER (WHERE c.state = 'confirmed') AS proven,
                       max(c.epoch) FILTER (WHERE c.state IN ('superseded', 'cancelled', 'expired') AND c.attempt > 0) AS floor
                  FROM command c WHERE c.unit_id = u.unit_id AND c.epoch > 0) g ON true) d
 WHERE d.unit_id = i.unit_id;

-- Where a unit's own live report contradicts what is wanted of it, and what was done about it.
CREATE TABLE drift (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    unit_id        int NOT NULL REFERENCES unit,
    cause          text NOT NULL CONSTRAINT drift_cause_is_known CHECK (cause IN (
                       'mode_differs', 'unfenced', 'lapsed', 'not_obeyed',
                       'epoch_went_back', 'epoch_ahead', 'epoch_absurd')),
    opened_at      timestamptz NOT NULL,
    seen_at        timestamptz NOT NULL,
    desired        text CONSTRAINT drift_desired_is_known CHECK (desired IN ('enabled', 'offline_disabled')),
    reported_mode  text NOT NULL CONSTRAINT drift_mode_is_known CHECK (
                       reported_mode IN ('enabled', 'disabled', 'offline_disabled')),
    reported_epoch bigint NOT NULL,
    evidence       jsonb NOT NULL,
    sendings       int NOT NULL DEFAULT 0,
    gave_up_at     timestamptz,
    closed_at      timestamptz,
    closed_by      text,
    resolution     text CONSTRAINT drift_resolution_is_known CHECK (
                       resolution IN ('in_accord', 'sent_again', 'accepted', 'dismissed')),
    reason         text,
    CONSTRAINT drift_closed_is_whole CHECK (num_nulls(closed_at, closed_by, resolution) IN (0, 3))
);
CREATE UNIQUE INDEX drift_open_once ON drift (unit_id, cause) WHERE closed_at IS NULL;
CREATE INDEX drift_by_unit ON drift (unit_id, id);
CREATE INDEX drift_open ON drift (id) WHERE closed_at IS NULL;
