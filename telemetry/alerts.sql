-- :raise_all
-- Raise alerts, or count up those that are open; tells which were raised.
INSERT INTO unit_alert (unit_id, kind, raised_at, last_at, times, evidence)
SELECT unit_id, kind, %(now)s, %(now)s, times, evidence
  FROM unnest(%(unit_ids)s::int[], %(kinds)s::text[], %(times)s::bigint[], %(evidence)s::jsonb[])
       AS new (unit_id, kind, times, evidence)
 ORDER BY unit_id, kind
ON CONFLICT (unit_id, kind) WHERE resolved_at IS NULL DO UPDATE
   SET times = unit_alert.times + excluded.times, evidence = excluded.evidence,
       last_at = greatest(unit_alert.last_at, excluded.last_at)
RETURNING kind, xmax = 0 AS fresh;

-- :open_page
-- Open alerts of units in a scope, newest first.
SELECT a.id, a.unit_id, u.imei, u.serial_number, a.kind, a.raised_at, a.last_at, a.times, a.evidence,
       a.resolved_at, a.resolved_by, a.resolved_because
  FROM unit_alert a JOIN unit u ON u.id = a.unit_id
 WHERE a.resolved_at IS NULL
   AND (%(scope)s::bigint[] IS NULL OR u.entity_id = ANY(%(scope)s))
   AND (%(kind)s::text IS NULL OR a.kind = %(kind)s)
   AND (%(before)s::bigint IS NULL OR a.id < %(before)s)
 ORDER BY a.id DESC
 LIMIT %(limit)s;

-- :of_unit
-- Alerts of one unit, newest first, resolved ones too.
SELECT a.id, a.unit_id, u.imei, u.serial_number, a.kind, a.raised_at, a.last_at, a.times, a.evidence,
       a.resolved_at, a.resolved_by, a.resolved_because
  FROM unit_alert a JOIN unit u ON u.id = a.unit_id
 WHERE a.unit_id = %(unit_id)s AND (%(before)s::bigint IS NULL OR a.id < %(before)s)
 ORDER BY a.id DESC
 LIMIT %(limit)s;

-- :lock
-- One alert, locked, if its unit is in the scope.
SELECT a.id, a.unit_id, u.imei, u.serial_number, a.kind, a.raised_at, a.last_at, a.times, a.evidence,
       a.resolved_at, a.resolved_by, a.resolved_because
  FROM unit_alert a JOIN unit u ON u.id = a.unit_id
 WHERE a.id = %(id)s AND (%(scope)s::bigint[] IS NULL OR u.entity_id = ANY(%(scope)s))
   FOR UPDATE OF a;

-- :resolve
-- Close an alert.
UPDATE unit_alert
   SET resolved_at = %(now)s, resolved_by = %(by)s, resolved_because = %(because)s
 WHERE id = %(id)s AND resolved_at IS NULL;

-- :open_kinds
-- Which kinds of alert are open for each of some units.
SELECT unit_id, array_agg(kind ORDER BY kind) AS kinds
  FROM unit_alert
 WHERE unit_id = ANY(%(unit_ids)s) AND resolved_at IS NULL
 GROUP BY unit_id;
