-- :now
-- The time of this transaction, by the one clock that all dispatchers share.
SELECT now();

-- :write
-- What became of locked commands.
UPDATE command c
   SET state = new.state, due_at = new.due_at, attempt = new.attempt, attempted_at = new.attempted_at,
       acknowledged_at = new.acknowledged_at, finished_at = new.finished_at, refusal = new.refusal
  FROM unnest(%(ids)s::uuid[], %(states)s::text[], %(due_ats)s::timestamptz[], %(attempts)s::int[],
              %(attempted_ats)s::timestamptz[], %(acknowledged_ats)s::timestamptz[],
              %(finished_ats)s::timestamptz[], %(refusals)s::text[])
       AS new (id, state, due_at, attempt, attempted_at, acknowledged_at, finished_at, refusal)
 WHERE c.id = new.id;

-- :record
-- What happened to commands, in the order in which it happened.
INSERT INTO command_event (command_id, at, event, from_state, to_state, attempt, actor, evidence)
SELECT id, %(now)s, event, from_state, to_state, attempt, %(actor)s, evidence
  FROM unnest(%(ids)s::uuid[], %(events)s::text[], %(from_states)s::text[], %(to_states)s::text[],
              %(attempts)s::int[], %(evidences)s::jsonb[])
       WITH ORDINALITY AS new (id, event, from_state, to_state, attempt, evidence, place)
 ORDER BY place;
