-- :page
-- Lines of a plan in their order; of units in scope with their names and how their commands stand.
SELECT p.place AS row, p.given, u.imei, u.serial_number, p.outcome, p.exclusion, p.decided_at, p.command_id,
       c.state AS command_state, c.refusal, c.finished_at
  FROM plan_unit p
  LEFT JOIN unit u ON u.id = p.unit_id AND (%(scope)s::bigint[] IS NULL OR u.entity_id = ANY(%(scope)s))
  LEFT JOIN command c ON c.id = p.command_id AND u.id IS NOT NULL
 WHERE p.plan_id = %(plan_id)s AND p.place > %(after)s
   AND (%(outcome)s::text IS NULL OR p.outcome = %(outcome)s)
 ORDER BY p.place LIMIT %(limit)s;
