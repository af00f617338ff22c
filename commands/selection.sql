-- :one_by_one
-- In this transaction, plan each statement for what it is given, and look up each unit that it names by itself: a plan
-- for ten units is none for a thousand, nor one made while a table was empty; and what the planner believes of tables
-- that grow by a hundred thousand rows in seconds makes it read all of them to find a thousand.
SELECT set_config('plan_cache_mode', 'force_custom_plan', true), set_config('enable_hashjoin', 'off', true),
       set_config('enable_mergejoin', 'off', true);

-- :matching
-- The next units that fit a filter, in the order of ids.
SELECT u.id
  FROM unit u LEFT JOIN unit_status s ON s.unit_id = u.id
 WHERE u.id > %(after)s
   AND (%(scope)s::bigint[] IS NULL OR u.entity_id = ANY(%(scope)s))
   AND (%(entity_id)s::bigint IS NULL OR u.entity_id = %(entity_id)s)
   AND (%(product_type)s::text IS NULL OR u.product_type = %(product_type)s)
   AND (%(lifecycle)s::text IS NULL OR u.lifecycle = %(lifecycle)s)
   AND (%(serial_prefix)s::text IS NULL OR starts_with(u.serial_number, %(serial_prefix)s))
   AND (%(silent_s)s::bigint IS NULL OR NOT coalesce(s.contact_at > now() - make_interval(secs => %(silent_s)s), false))
   AND (%(heard_s)s::bigint IS NULL OR s.contact_at > now() - make_interval(secs => %(heard_s)s))
 ORDER BY u.id LIMIT %(limit)s;

-- :by_names
-- The units within a scope that lines name; an IMEI comes before a serial number of the same digits.
SELECT DISTINCT ON (place) place, unit_id
  FROM (SELECT n.place, u.id AS unit_id, u.entity_id, 1 AS rank
          FROM unnest(%(places)s::int[], %(imeis)s::text[]) AS n (place, imei) JOIN unit u ON u.imei = n.imei
        UNION ALL
        SELECT n.place, u.id, u.entity_id, 2
          FROM unnest(%(places)s::int[], %(serials)s::text[]) AS n (place, serial)
          JOIN unit u ON u.serial_number = n.serial) named
 WHERE %(scope)s::bigint[] IS NULL OR entity_id = ANY(%(scope)s)
 ORDER BY place, rank;

-- :ordered_by
-- The next units that a plan ordered something of.
SELECT place, unit_id FROM plan_unit
 WHERE plan_id = %(plan_id)s AND place > %(after)s AND outcome = 'ordered'
 ORDER BY place LIMIT %(limit)s;

-- :facts
-- What is known of units within a scope: what they report, what is wanted of them, what is on its way, since
-- when they are their entity's. What would switch off for whom they were before is on its way to nobody.
-- `OFFSET 0`: open commands are looked for unit by unit, however few of them the planner believes in.
SELECT u.id, u.serial_number, u.entity_id, u.lifecycle::text, s.mode, s.epoch, s.contact_at,
       i.epoch, i.desired, i.after_s, i.floor, c.mode, c.after_s,
       EXISTS (SELECT FROM command w WHERE w.unit_id = u.id AND w.kind = 'set_mode' AND w.state = 'awaiting_approval'),
       EXISTS (SELECT FROM suspected_clones() s WHERE s.unit_id = u.id), e.started_at
  FROM unit u
  JOIN unit_entity e ON e.unit_id = u.id AND e.ended_at IS NULL
  LEFT JOIN unit_status s ON s.unit_id = u.id
  LEFT JOIN unit_intent i ON i.unit_id = u.id
  LEFT JOIN LATERAL (
        SELECT mode, after_s FROM command
         WHERE unit_id = u.id AND kind = 'set_mode' AND finished_at IS NULL AND state <> 'awaiting_approval'
           AND NOT (mode = 'offline_disabled'
                    AND coalesce(held_since <> e.started_at, e.started_at > coalesce(approved_at, ordered_at)))
        OFFSET 0) c ON true
 WHERE u.id = ANY(%(unit_ids)s::int[]) AND (%(scope)s::bigint[] IS NULL OR u.entity_id = ANY(%(scope)s));
