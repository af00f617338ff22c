-- :lock
-- One migrator at a time, and others wait for it; the number is this project's own ("HELIOGRA" in ASCII).
SET lock_timeout = '5min';
SELECT pg_advisory_lock(5207372163384857153);
SET lock_timeout = '4s';

-- :create_books
-- What the migrator itself writes down.
CREATE TABLE IF NOT EXISTS schema_migration (
    number     int PRIMARY KEY,
    name       text NOT NULL,
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE IF NOT EXISTS schema_engine (
    only_row bool PRIMARY KEY DEFAULT true CHECK (only_row),
    engine   text NOT NULL CHECK (engine IN ('plain', 'timescale'))
);

-- :applied
-- The steps that were applied, in order.
SELECT number, checksum FROM schema_migration ORDER BY number;

-- :record
-- Write a step into the book.
INSERT INTO schema_migration (number, name, checksum) VALUES (%(number)s, %(name)s, %(checksum)s);
