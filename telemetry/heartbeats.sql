-- :append
-- New heartbeats; whether they are new is known from unit_sequence.
COPY heartbeat (at, received_at, unit_ts, unit_id, life, boot, seq, epoch, mode, output, fw, extra,
                battery_v, battery_a, panel_v, panel_a, load_a, soc_pct, temp_c, rssi_dbm, energy_wh, tamper, lvd)
FROM STDIN (FORMAT BINARY);

-- :of_unit
-- A page of one unit's heartbeats, newest first.
SELECT *
  FROM heartbeat
 WHERE unit_id = %(unit_id)s AND at >= %(since)s AND at < %(until)s
   AND at <= %(at)s AND (at, life, boot, seq) < (%(at)s, %(life)s, %(boot)s, %(seq)s)
 ORDER BY at DESC, life DESC, boot DESC, seq DESC
 LIMIT %(limit)s;

-- :named
-- Heartbeats of these names among those that stand after a moment.
SELECT h.*
  FROM unnest(%(unit_ids)s::int[], %(lives)s::smallint[], %(boots)s::bigint[], %(seqs)s::bigint[])
       AS wanted (unit_id, life, boot, seq)
  JOIN heartbeat h ON h.unit_id = wanted.unit_id AND h.life = wanted.life AND h.boot = wanted.boot
                  AND h.seq = wanted.seq
 WHERE h.at >= %(since)s;
