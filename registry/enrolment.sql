-- :enrol
-- Enrol what carries no name that is taken; a name that comes twice goes to the first.
WITH newcomer AS (
    SELECT * FROM unnest(%(imeis)s::text[], %(serial_numbers)s::text[], %(entity_ids)s::bigint[],
                         %(product_types)s::text[], %(intervals_s)s::int[], %(broker_logins)s::text[])
             WITH ORDINALITY
               AS given (imei, serial_number, entity_id, product_type, expected_interval_s, broker_login, place)
), enrolled AS (
    INSERT INTO unit (imei, serial_number, entity_id, product_type, expected_interval_s, broker_login,
                      key_generation, enrolled_at)
    SELECT imei, serial_number, entity_id, product_type, expected_interval_s, broker_login,
           %(generation)s, %(now)s
      FROM newcomer ORDER BY place
    ON CONFLICT DO NOTHING
    RETURNING id, imei, serial_number, entity_id, lifecycle
), held AS (
    INSERT INTO unit_entity (unit_id, entity_id, started_at)
    SELECT id, entity_id, %(now)s FROM enrolled
), born AS (
    INSERT INTO lifecycle_change (unit_id, from_state, to_state, changed_at, changed_by, reason)
    SELECT id, 'NON_EXISTANT', lifecycle, %(now)s, %(by)s, %(reason)s FROM enrolled
), noted AS (
    INSERT INTO audit (at, actor, action, object_kind, object_id, after, reason, origin)
    SELECT %(now)s, %(by)s, 'unit_enrolled', 'unit', id::text,
           jsonb_build_object('imei', imei, 'serial_number', serial_number, 'entity_id', entity_id),
           %(reason)s, %(origin)s
      FROM enrolled
)
SELECT imei, serial_number FROM enrolled;

-- :holders
-- Which units carry some names already.
SELECT imei, serial_number, enrolled_at
  FROM unit WHERE imei = ANY(%(imeis)s::text[]) OR serial_number = ANY(%(serial_numbers)s::text[]);

-- :rekey
-- Another generation of key and login, unless the unit has it.
UPDATE unit SET key_generation = %(generation)s, broker_login = %(broker_login)s
 WHERE id = %(unit_id)s AND key_generation < %(generation)s;
