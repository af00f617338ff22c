-- :lock
-- Lock rows in the order of ids, and tell how new their newest is; columns as telemetry.status.Standing has them.
SELECT unit_id, life, boot, seq, reported_life, run_life, run_boot, run_first, run_last
  FROM unit_status
 WHERE unit_id = ANY(%(unit_ids)s)
 ORDER BY unit_id
   FOR UPDATE;

-- :make
-- Rows for units that are heard for the first time.
INSERT INTO unit_status (unit_id)
SELECT unit_id FROM unnest(%(unit_ids)s::int[]) AS new (unit_id) ORDER BY unit_id
ON CONFLICT (unit_id) DO NOTHING;

-- :presences
-- How new the newest presence of each unit is.
SELECT unit_id, presence, presence_life, presence_boot, presence_conn
  FROM unit_status
 WHERE unit_id = ANY(%(unit_ids)s) AND presence IS NOT NULL;

-- :report
-- The newest report of each unit, which is a contact. Times of contact are never in the future and never go back, but
-- for those that lie ahead of a clock which was set back. Live ones are the database's, less what passed since the
-- arrival, for it is by its clock that they are judged.
UPDATE unit_status s
   SET life = new.life, reported_life = new.reported_life, boot = new.boot, seq = new.seq, at = new.at,
       reported_at = new.reported_at, unit_ts = new.unit_ts, mode = new.mode, epoch = new.epoch, output = new.output, next_s = new.next_s,
       fw = coalesce(new.fw, s.fw), reported_live = new.live, run_last = coalesce(new.run_last, s.run_last),
       contact_at = greatest(CASE WHEN s.contact_at <= clock_timestamp() THEN s.contact_at END,
                             least(new.reported_at, now())),
       live_contact_at = CASE WHEN new.live
                              THEN greatest(CASE WHEN s.live_contact_at <= clock_timestamp() THEN s.live_contact_at END,
                                            least(now(), now() - (%(now)s - new.reported_at)))
                              ELSE s.live_contact_at END
  FROM unnest(%(unit_ids)s::int[], %(lives)s::smallint[], %(reported_lives)s::bigint[], %(boots)s::bigint[],
              %(seqs)s::bigint[], %(ats)s::timestamptz[], %(reported_ats)s::timestamptz[], %(unit_tss)s::bigint[], %(modes)s::"char"[],
              %(epochs)s::bigint[], %(outputs)s::bool[], %(next_ss)s::bigint[], %(fws)s::text[],
              %(were_live)s::bool[], %(run_lasts)s::bigint[])
       AS new (unit_id, life, reported_life, boot, seq, at, reported_at, unit_ts, mode, epoch, output, next_s, fw, live,
               run_last)
 WHERE s.unit_id = new.unit_id;

-- :end_life
-- Let the number of a newest report's life stand for that life no more: it belongs to a later one.
UPDATE unit_status s
   SET reported_life = NULL
  FROM unnest(%(unit_ids)s::int[], %(lives)s::bigint[]) AS ended (unit_id, life)
 WHERE s.unit_id = ended.unit_id AND s.reported_life = ended.life;

-- :run
-- The newest heartbeats of each unit without a hole.
UPDATE unit_status s
   SET run_life = new.life, run_boot = new.boot, run_first = new.first, run_last = new.last
  FROM unnest(%(unit_ids)s::int[], %(lives)s::smallint[], %(boots)s::bigint[], %(firsts)s::bigint[],
              %(lasts)s::bigint[])
       AS new (unit_id, life, boot, first, last)
 WHERE s.unit_id = new.unit_id;

-- :presence
-- The newest presence of each unit.
UPDATE unit_status s
   SET presence = new.state, presence_at = least(new.at, now()),
       presence_life = new.life, presence_boot = new.boot, presence_conn = new.conn,
       presence_fields = new.fields,
       live_online_at = CASE WHEN new.online
                             THEN greatest(CASE WHEN s.live_online_at <= clock_timestamp() THEN s.live_online_at END,
                                           least(now(), now() - (%(now)s - new.at)))
                             ELSE s.live_online_at END
  FROM unnest(%(unit_ids)s::int[], %(states)s::text[], %(ats)s::timestamptz[],
              %(lives)s::smallint[], %(boots)s::bigint[], %(conns)s::bigint[], %(fields)s::jsonb[],
              %(onlines)s::bool[])
       AS new (unit_id, state, at, life, boot, conn, fields, online)
 WHERE s.unit_id = new.unit_id;

-- :contact
-- The newest contact of each unit that its newest report does not tell of; one that had waited in the broker's
-- queue says nothing of now.
UPDATE unit_status s
   SET contact_at = greatest(CASE WHEN s.contact_at <= clock_timestamp() THEN s.contact_at END, least(new.at, now())),
       live_contact_at = CASE WHEN new.live
                              THEN greatest(CASE WHEN s.live_contact_at <= clock_timestamp() THEN s.live_contact_at END,
                                            least(now(), now() - (%(now)s - new.at)))
                              ELSE s.live_contact_at END
  FROM unnest(%(unit_ids)s::int[], %(ats)s::timestamptz[], %(lives)s::bool[]) AS new (unit_id, at, live)
 WHERE s.unit_id = new.unit_id;

-- :of_units
-- The status of units, with the readings of their newest report, which stands in `heartbeat` as long as it is kept.
SELECT s.unit_id, s.contact_at, s.live_contact_at, s.live_online_at, s.reported_at, s.reported_live, s.unit_ts, s.mode,
       s.epoch, s.output, s.next_s, s.fw, s.presence, s.presence_at, s.life, s.boot, s.seq, now() AS read_at,
       h.extra, h.battery_v_x100, h.battery_a_x100, h.panel_v_x100, h.panel_a_x100, h.load_a_x100, h.soc_pct_x100,
       h.temp_c_x100, h.rssi_dbm_x100, h.energy_wh_x100, h.tamper, h.lvd
  FROM unit_status s
  LEFT JOIN LATERAL (
       SELECT * FROM heartbeat h
        WHERE h.unit_id = s.unit_id AND h.at = s.at AND h.life = s.life AND h.boot = s.boot AND h.seq = s.seq
        LIMIT 1) h ON true
 WHERE s.unit_id = ANY(%(unit_ids)s);
