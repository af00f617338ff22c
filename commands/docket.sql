-- :now
-- The time of this transaction, by the one clock that all dispatchers share.
SELECT now();

-- :write
-- What became of locked commands.
UPDATE command c
   SET state = new.state, due_at = new.due_at, attempt = new.attempt, attempted_at = new.attempted_at,
       acknowledged_at = new.acknowledged_at, finished_at = new.finished_at, refusal = new.refusal,
       epoch = new.epoch, expires_at = new.expires_at, approved_by = new.approved_by, approved_at = new.approved_at,
       held_since = new.held_since
  FROM unnest(%(ids)s::uuid[], %(states)s::text[], %(due_ats)s::timestamptz[], %(attempts)s::int[],
              %(attempted_ats)s::timestamptz[], %(acknowledged_ats)s::timestamptz[],
              %(finished_ats)s::timestamptz[], %(refusals)s::text[], %(epochs)s::bigint[],
              %(expiries)s::timestamptz[], %(approvers)s::text[], %(approvals)s::timestamptz[], %(holdings)s::timestamptz[])
       AS new (id, state, due_at, attempt, attempted_at, acknowledged_at, finished_at, refusal, epoch,
               expires_at, approved_by, approved_at, held_since)
 WHERE c.id = new.id;

-- :record
-- What happened to commands, in the order in which it happened.
INSERT INTO command_event (command_id, at, event, from_state, to_state, attempt, actor, evidence)
SELECT id, %(now)s, event, from_state, to_state, attempt, %(actor)s, evidence
  FROM unnest(%(ids)s::uuid[], %(events)s::text[], %(from_states)s::text[], %(to_states)s::text[],
              %(attempts)s::int[], %(evidences)s::jsonb[])
       WITH ORDINALITY AS new (id, event, from_state, to_state, attempt, evidence, place)
 ORDER BY place;

-- :insert
-- New commands.
INSERT INTO command (id, unit_id, kind, mode, after_s, epoch, state, reason, ordered_by, ordered_at, expires_at,
                     due_at, origin, plan_id, held_since)
SELECT * FROM unnest(%(ids)s::uuid[], %(unit_ids)s::int[], %(kinds)s::text[], %(modes)s::text[], %(afters)s::bigint[],
                     %(epochs)s::bigint[], %(states)s::text[], %(reasons)s::text[], %(orderers)s::text[],
                     %(orders)s::timestamptz[], %(expiries)s::timestamptz[], %(dues)s::timestamptz[],
                     %(origins)s::text[], %(plan_ids)s::uuid[], %(holdings)s::timestamptz[]);

-- :derive
-- What is wanted of units whose intents are locked, by their commands: the newest wish that was accepted and not given
-- up. An enable is given up by people and units alone; an offline-disable also by time and by any newer wish, and who
-- takes one back takes back all darkness before it. Who was to be switched off, and is not any more, is to be on.
UPDATE unit_intent i
   SET epoch = greatest(i.epoch, d.given), desired = d.mode, wished_by = d.wished_by, after_s = d.after_s,
       lapsed = d.lapsed, given = d.given, proven = d.proven, floor = d.floor
  FROM (SELECT u.unit_id, coalesce(g.given, 0) AS given, coalesce(n.mode, CASE WHEN g.disabled THEN 'enabled' END) AS mode,
               n.ordered_by AS wished_by, coalesce(n.after_s, 0) AS after_s, coalesce(n.lapsed, false) AS lapsed,
               coalesce(g.proven, 0) AS proven, greatest(g.proven, g.sent, 0) AS floor
          FROM unnest(%(unit_ids)s::int[]) AS u (unit_id)
          LEFT JOIN LATERAL (
                SELECT max(c.epoch) AS given, bool_or(c.mode = 'offline_disabled') AS disabled,
                       max(c.epoch) FILTER (WHERE c.state = 'confirmed') AS proven,
                       max(c.epoch) FILTER (WHERE c.state IN ('superseded', 'cancelled', 'expired') AND c.attempt > 0) AS sent
                  FROM command c WHERE c.unit_id = u.unit_id AND c.epoch > 0) g ON true
          LEFT JOIN LATERAL (
                SELECT c.mode, c.ordered_by, c.after_s, c.state = 'expired' AS lapsed FROM command c
                 WHERE c.unit_id = u.unit_id AND c.epoch > 0
                   AND CASE WHEN c.state = 'refused' THEN c.refusal IN ('stale_epoch', 'bad_unit_clock')
                                 AND (c.mode = 'enabled' OR c.epoch = g.given)
                                 AND NOT EXISTS (SELECT FROM command x  -- what was to carry it on
                                                  WHERE x.unit_id = c.unit_id AND x.mode = c.mode
                                                    AND x.ordered_at > c.ordered_at AND x.state = 'cancelled')
                            WHEN c.mode = 'enabled' THEN c.state <> 'cancelled'
                            ELSE c.finished_at IS NULL OR c.state = 'confirmed' END
                   AND NOT (c.mode = 'offline_disabled'
                            AND EXISTS (SELECT FROM command x  -- darkness that was taken back
                                         WHERE x.unit_id = c.unit_id AND x.mode = 'offline_disabled'
                                           AND x.epoch > c.epoch AND x.state = 'cancelled'))
                 ORDER BY c.epoch DESC LIMIT 1) n ON true) d
 WHERE d.unit_id = i.unit_id;
