-- :lock
-- One decision at a time, and none while old ones are let go, until the transaction ends.
SELECT pg_advisory_xact_lock('dead_letter_fate'::regclass::oid::int, 0);

-- :decide_one
-- Write down what was decided of one.
INSERT INTO dead_letter_fate (letter_id, times, state, decided_at, decided_by, why)
SELECT id, times, %(state)s, %(at)s, %(by)s, %(why)s FROM dead_letter WHERE id = %(id)s;

-- :decide_many
-- Write down what was decided of the open ones that fit, oldest first.
INSERT INTO dead_letter_fate (letter_id, times, state, decided_at, decided_by, why)
SELECT id, times, %(state)s, %(at)s, %(by)s, %(why)s
  FROM dead_letter_with_fate
 WHERE state = 'open'
   AND (%(state)s <> 'marked' OR (is_message AND first_at >= %(oldest)s))
   AND (%(reason)s::text IS NULL OR reason = %(reason)s)
   AND (%(imei)s::text IS NULL OR imei = %(imei)s)
   AND (%(after)s::timestamptz IS NULL OR first_at >= %(after)s)
   AND (%(before)s::timestamptz IS NULL OR first_at < %(before)s)
 ORDER BY id LIMIT %(most)s;

-- :not_replayable
-- How many open ones fit that cannot be replayed.
SELECT count(*)
  FROM dead_letter_with_fate
 WHERE state = 'open' AND NOT (is_message AND first_at >= %(oldest)s)
   AND (%(reason)s::text IS NULL OR reason = %(reason)s)
   AND (%(imei)s::text IS NULL OR imei = %(imei)s)
   AND (%(after)s::timestamptz IS NULL OR first_at >= %(after)s)
   AND (%(before)s::timestamptz IS NULL OR first_at < %(before)s);

-- :notify
-- Wake the gateways when this commits.
SELECT pg_notify('dead_letter_marked', '');

-- :waiting
-- What is marked for replay besides some, the oldest marks first; not locked.
SELECT f.id, d.topic, d.body, d.first_at
  FROM dead_letter_fate f JOIN dead_letter d ON d.id = f.letter_id
 WHERE f.state = 'marked' AND f.id <> ALL(%(besides)s::bigint[])
 ORDER BY f.id LIMIT %(most)s;

-- :take
-- Lock those that are still marked and that no other gateway is at.
SELECT id FROM dead_letter_fate
 WHERE id = ANY(%(ids)s::bigint[]) AND state = 'marked'
 ORDER BY id
   FOR UPDATE SKIP LOCKED;

-- :close
-- Write down what became of those that are locked.
UPDATE dead_letter_fate f
   SET state = 'replayed', replayed_at = now(), verdict = ended.verdict
  FROM unnest(%(ids)s::bigint[], %(verdicts)s::text[]) AS ended (id, verdict)
 WHERE f.id = ended.id;
