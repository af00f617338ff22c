-- :allow
-- Let the statements of this transaction take so many milliseconds.
SELECT set_config('statement_timeout', %(ms)s, true);

-- :roll_up
-- Sum up hours that are over, by the gateway's clock and by the database's; NULL when another process is at it.
SELECT roll_heartbeats_up(%(most)s, least(%(before)s, now()));

-- :keep
-- Let go of what is too old, compress what is old; too old by both clocks, for nothing brings it back.
SELECT dropped, hours, compressed, held
  FROM (SELECT least(%(now)s::timestamptz, now()) AS clocks) present,
       keep_heartbeats(clocks - make_interval(days => %(heartbeats_days)s),
                       clocks - make_interval(days => %(hours_days)s),
                       clocks - make_interval(days => %(compress_days)s));

-- :keep_dead_letters
-- Let go of dead letters that are too old by both clocks; NULL while somebody decides about some.
SELECT closed, opened
  FROM (SELECT least(%(now)s::timestamptz, now()) AS clocks) present,
       keep_dead_letters(%(most)s, clocks - make_interval(days => %(closed_days)s),
                         clocks - make_interval(days => %(open_days)s));
