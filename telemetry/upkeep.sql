-- :allow
-- Let the statements of this transaction take so many milliseconds.
SELECT set_config('statement_timeout', %(ms)s, true);

-- :roll_up
-- Sum up hours that are over; NULL when another process is at it.
SELECT roll_heartbeats_up(%(most)s, %(before)s);

-- :keep
-- Let go of what is too old, compress what is old.
SELECT dropped, hours, compressed FROM keep_heartbeats(%(since)s, %(hours_since)s, %(compress_before)s);

-- :keep_dead_letters
-- Let go of dead letters that are too old; NULL while somebody decides about some.
SELECT closed, opened FROM keep_dead_letters(%(most)s, %(closed_before)s, %(open_before)s);
