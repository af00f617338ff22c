-- :lock
-- Lock rows in the order of ids, and tell how new their newest is.
SELECT s.unit_id, s.life, s.boot, s.seq, l.life, s.presence, s.presence_life, s.presence_boot, s.presence_conn
  FROM unit_status s
  LEFT JOIN unit_life l ON l.unit_id = s.unit_id AND l.ordinal = s.life
 WHERE s.unit_id = ANY(%(unit_ids)s)
 ORDER BY s.unit_id
   FOR UPDATE OF s;

-- :make
-- Rows for units that are heard for the first time.
INSERT INTO unit_status (unit_id)
SELECT unit_id FROM unnest(%(unit_ids)s::int[]) AS new (unit_id) ORDER BY unit_id
ON CONFLICT (unit_id) DO NOTHING;

-- :report
-- The newest report of each unit, and the contact that came with it. Times of contact are never in the
-- future and never go back; live ones are the database's, for it is by its clock that they are judged.
UPDATE unit_status s
   SET life = new.life, boot = new.boot, seq = new.seq, reported_at = new.reported_at, unit_ts = new.unit_ts,
       mode = new.mode, epoch = new.epoch, output = new.output, next_s = new.next_s,
       fw = coalesce(new.fw, s.fw), readings = new.readings,
       reported_live = new.reported_live, contact_at = greatest(s.contact_at, least(new.contact_at, now())),
       live_contact_at = CASE WHEN new.contact_live
                              THEN greatest(s.live_contact_at, now() - new.waited_ms * interval '1 ms')
                              ELSE s.live_contact_at END
  FROM unnest(%(unit_ids)s::int[], %(lives)s::smallint[], %(boots)s::bigint[], %(seqs)s::bigint[],
              %(reported_ats)s::timestamptz[], %(unit_tss)s::bigint[], %(modes)s::"char"[], %(epochs)s::bigint[],
              %(outputs)s::bool[], %(next_ss)s::bigint[], %(fws)s::text[], %(readings)s::jsonb[],
              %(contact_ats)s::timestamptz[], %(contact_lives)s::bool[], %(waited_mss)s::bigint[],
              %(reported_lives)s::bool[])
       AS new (unit_id, life, boot, seq, reported_at, unit_ts, mode, epoch, output, next_s, fw, readings,
               contact_at, contact_live, waited_ms, reported_live)
 WHERE s.unit_id = new.unit_id;

-- :presence
-- The newest presence of each unit.
UPDATE unit_status s
   SET presence = new.state, presence_at = new.at,
       presence_life = new.life, presence_boot = new.boot, presence_conn = new.conn,
       presence_fields = new.fields,
       live_online_at = CASE WHEN new.online
                             THEN greatest(s.live_online_at, now() - new.waited_ms * interval '1 ms')
                             ELSE s.live_online_at END
  FROM unnest(%(unit_ids)s::int[], %(states)s::text[], %(ats)s::timestamptz[],
              %(lives)s::smallint[], %(boots)s::bigint[], %(conns)s::bigint[], %(fields)s::jsonb[],
              %(onlines)s::bool[], %(waited_mss)s::bigint[])
       AS new (unit_id, state, at, life, boot, conn, fields, online, waited_ms)
 WHERE s.unit_id = new.unit_id;

-- :contact
-- The newest contact of each unit that brought no report; one that had waited in the broker's queue says nothing of now.
UPDATE unit_status s
   SET contact_at = greatest(s.contact_at, least(new.at, now())),
       live_contact_at = CASE WHEN new.live
                              THEN greatest(s.live_contact_at, now() - new.waited_ms * interval '1 ms')
                              ELSE s.live_contact_at END
  FROM unnest(%(unit_ids)s::int[], %(ats)s::timestamptz[], %(lives)s::bool[], %(waited_mss)s::bigint[])
       AS new (unit_id, at, live, waited_ms)
 WHERE s.unit_id = new.unit_id;

-- :of_unit
-- One unit's status.
SELECT unit_id, contact_at, live_contact_at, live_online_at, reported_at, reported_live, unit_ts, mode, epoch,
       output, next_s, fw, readings, presence, presence_at, life, boot, seq, now() AS read_at
  FROM unit_status
 WHERE unit_id = %(unit_id)s;

-- :of_units
-- The status of several units.
SELECT unit_id, contact_at, live_contact_at, live_online_at, reported_at, reported_live, unit_ts, mode, epoch,
       output, next_s, fw, readings, presence, presence_at, life, boot, seq, now() AS read_at
  FROM unit_status
 WHERE unit_id = ANY(%(unit_ids)s);
