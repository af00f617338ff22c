-- :one
-- The unit of a row id, an IMEI or a serial number; among these an IMEI comes first.
SELECT unit.id, imei, serial_number, entity_id, entity.name AS entity_name, product_type, lifecycle,
       key_generation, enrolled_at,
       (SELECT e.started_at FROM unit_entity e WHERE e.unit_id = unit.id AND e.ended_at IS NULL) AS held_since,
       (SELECT i.expected_interval_s FROM unit_interval i WHERE i.unit_id = unit.id) AS expected_interval_s
  FROM unit JOIN entity ON entity.id = unit.entity_id
 WHERE unit.id = %(unit_id)s OR imei = %(imei)s OR serial_number = %(serial_number)s
 ORDER BY imei = %(imei)s DESC NULLS LAST LIMIT 1;

-- :page
-- Units of a scope in the order of their serial numbers, narrowed by what is given.
SELECT unit.id, imei, serial_number, entity_id, entity.name AS entity_name, product_type, lifecycle,
       key_generation, enrolled_at,
       (SELECT e.started_at FROM unit_entity e WHERE e.unit_id = unit.id AND e.ended_at IS NULL) AS held_since,
       (SELECT i.expected_interval_s FROM unit_interval i WHERE i.unit_id = unit.id) AS expected_interval_s
  FROM unit JOIN entity ON entity.id = unit.entity_id
 WHERE serial_number > %(after)s
   AND starts_with(serial_number, %(serial_prefix)s)
   AND (%(scope)s::bigint[] IS NULL OR entity_id = ANY(%(scope)s))
   AND (%(entity_id)s::bigint IS NULL OR entity_id = %(entity_id)s)
   AND (%(lifecycle)s::text IS NULL OR lifecycle = %(lifecycle)s)
 ORDER BY serial_number LIMIT %(limit)s;

-- :ids_by_imei
-- Which of some IMEIs are units.
SELECT imei, id FROM unit WHERE imei = ANY(%(imeis)s::text[]);
