-- :append
-- New heartbeats; whether they are new is known from unit_sequence.
COPY heartbeat (at, received_at, unit_ts, unit_id, life, boot, seq, epoch, mode, output, fw, extra,
                battery_v_x100, battery_a_x100, panel_v_x100, panel_a_x100, load_a_x100, soc_pct_x100, temp_c_x100,
                rssi_dbm_x100, energy_wh_x100, tamper, lvd)
FROM STDIN (FORMAT BINARY);

-- :noted_before
-- Before which moment a heartbeat must be noted, because its hour is being summed up; NULL where the engine does it.
SELECT heartbeats_noted_before();

-- :note
-- Note hours of units, so that they are summed up anew.
SELECT note_heartbeat_hours(%(unit_ids)s::int[], %(hours)s::timestamptz[]);

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

-- :onwards
-- A batch of one unit's heartbeats, oldest first.
SELECT *
  FROM heartbeat
 WHERE unit_id = %(unit_id)s AND at >= %(at)s AND at < %(until)s
   AND (at, life, boot, seq) > (%(at)s, %(life)s, %(boot)s, %(seq)s)
 ORDER BY at, life, boot, seq
 LIMIT %(limit)s;
