-- At which interval units are expected to make contact is said of their product type, and of a unit only where it differs.

-- Units may bear types that are not here.
CREATE TABLE product_type (
    name                text COLLATE "C" PRIMARY KEY
                        CONSTRAINT product_type_name_is_short CHECK (length(name) BETWEEN 1 AND 64),
    expected_interval_s int NOT NULL CONSTRAINT product_type_expected_interval_is_sane
                        CHECK (expected_interval_s BETWEEN 1 AND 2592000)
);

-- Of this unit alone; NULL where its product type's, or 14400 s, holds. Nobody knows who of those with 14400 was given
-- it, so they all follow their type. The column is a new one, as a million of them need no new row then.
ALTER TABLE unit RENAME COLUMN expected_interval_s TO expected_before_s;
ALTER TABLE unit ADD COLUMN expected_interval_s int;
UPDATE unit SET expected_interval_s = expected_before_s WHERE expected_before_s <> 14400;
ALTER TABLE unit
    DROP COLUMN expected_before_s,
    ADD CONSTRAINT unit_expected_interval_is_sane CHECK (expected_interval_s BETWEEN 1 AND 2592000);

-- What holds of each unit.
CREATE VIEW unit_interval AS
SELECT u.id AS unit_id, coalesce(u.expected_interval_s, t.expected_interval_s, 14400) AS expected_interval_s
  FROM unit u LEFT JOIN product_type t ON t.name = u.product_type;
