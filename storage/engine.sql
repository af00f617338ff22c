-- :has_timescale
-- Whether the TimescaleDB extension is created in this database.
SELECT count(*) > 0 FROM pg_extension WHERE extname = 'timescaledb';

-- :chosen
-- The engine of the first migration.
SELECT engine FROM schema_engine;

-- :choose
-- Keep the first choice for ever and give it back.
INSERT INTO schema_engine (engine) VALUES (%(engine)s)
ON CONFLICT (only_row) DO UPDATE SET engine = schema_engine.engine
RETURNING engine;
