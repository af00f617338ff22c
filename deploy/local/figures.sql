-- :units_online
-- Units whose newest word on it is that they are connected.
SELECT count(*) FROM unit_status WHERE presence = 'online';

-- :commands
-- The commands of this run by state.
SELECT state, count(*) FROM command WHERE ordered_at >= %(since)s GROUP BY state ORDER BY state;

-- :dead_letters
-- What could not be taken in this run.
SELECT count(*) FROM dead_letter WHERE last_at >= %(since)s;

-- :received
-- Every heartbeat that was stored in this run, by its name for ever.
SELECT u.imei, l.life, h.boot, h.seq
  FROM heartbeat h
  JOIN unit u ON u.id = h.unit_id
  JOIN unit_life l ON l.unit_id = h.unit_id AND l.ordinal = h.life
 WHERE h.received_at >= %(since)s;

-- :first_received
-- When the first heartbeat of this run was stored.
SELECT min(received_at) FROM heartbeat WHERE received_at >= %(since)s;

-- :stored_among
-- Which of the named heartbeats are stored, whenever they came.
SELECT DISTINCT u.imei, l.life, h.boot, h.seq
  FROM unnest(%(imeis)s::text[], %(lives)s::bigint[], %(boots)s::bigint[], %(seqs)s::bigint[])
       AS named (imei, life, boot, seq)
  JOIN unit u USING (imei)
  JOIN unit_life l ON l.unit_id = u.id AND l.life = named.life
  JOIN heartbeat h ON h.unit_id = u.id AND h.life = l.ordinal AND h.boot = named.boot AND h.seq = named.seq;
