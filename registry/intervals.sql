-- :expect
-- Give a unit an interval of its own, or none, and tell what it had; no row when it is so already.
UPDATE unit SET expected_interval_s = %(expected_interval_s)s
  FROM (SELECT id, expected_interval_s FROM unit WHERE id = %(unit_id)s FOR UPDATE) AS held
 WHERE unit.id = held.id AND held.expected_interval_s IS DISTINCT FROM %(expected_interval_s)s
RETURNING held.expected_interval_s;
