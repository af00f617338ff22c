-- :add
-- A type of which nothing was said so far, or no row.
INSERT INTO product_type (name, expected_interval_s) VALUES (%(name)s, %(expected_interval_s)s)
ON CONFLICT (name) DO NOTHING;

-- :change
-- Another interval for a type, and tell which it had; no row when it is so already.
UPDATE product_type SET expected_interval_s = %(expected_interval_s)s
  FROM (SELECT name, expected_interval_s FROM product_type WHERE name = %(name)s FOR UPDATE) AS held
 WHERE product_type.name = held.name AND held.expected_interval_s <> %(expected_interval_s)s
RETURNING held.expected_interval_s;

-- :page
-- Product types in the order of their names.
SELECT name, expected_interval_s FROM product_type WHERE name > %(after)s ORDER BY name LIMIT %(limit)s;
