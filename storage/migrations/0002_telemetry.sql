-- What units say: their newest word, which of their heartbeats were heard, and what could not be read.

-- One narrow, hot row per unit; no row means that the unit was never heard.
-- No index besides the key: every update stays on its page.
CREATE TABLE unit_status (
    unit_id         int PRIMARY KEY REFERENCES unit,
    contact_at      timestamptz,      -- newest heartbeat or ack arrived
    live_contact_at timestamptz,      -- the same, without what had waited in the broker's queue
    -- the newest report, by (life, boot, seq) and never by a clock
    life            smallint,
    boot            bigint,
    seq             bigint,
    reported_at     timestamptz,
    unit_ts         bigint,
    mode            "char" CONSTRAINT unit_status_mode_is_known CHECK (mode IN ('e', 'd', 'o')),
    epoch           bigint,
    output          bool,
    next_s          bigint,
    fw              text,
    readings        jsonb,
    -- the newest presence, by (life, boot, conn)
    presence        text CONSTRAINT unit_status_presence_is_known CHECK (presence IN ('online', 'offline')),
    presence_at     timestamptz,
    presence_life   smallint,
    presence_boot   bigint,
    presence_conn   bigint,
    presence_fields jsonb,            -- what it said beyond the known
    CONSTRAINT unit_status_report_is_whole CHECK (num_nulls(life, boot, seq, reported_at, mode, epoch) IN (0, 6))
) WITH (fillfactor = 60);

-- The lives of a unit's memory in the order first heard; heartbeats carry the ordinal.
CREATE TABLE unit_life (
    unit_id        int NOT NULL REFERENCES unit,
    ordinal        smallint NOT NULL CONSTRAINT unit_life_ordinal_counts CHECK (ordinal >= 1),
    life           bigint NOT NULL,
    first_heard_at timestamptz NOT NULL,
    PRIMARY KEY (unit_id, ordinal)
);

-- Which heartbeats were heard: one bit each, 1,024 to a row; bit (seq mod 1024) of block (seq div 1024).
CREATE TABLE unit_sequence (
    unit_id int NOT NULL REFERENCES unit,
    life    smallint NOT NULL,
    boot    bigint NOT NULL,
    block   int NOT NULL,
    heard   bytea NOT NULL CONSTRAINT unit_sequence_has_1024_bits CHECK (octet_length(heard) = 128),
    PRIMARY KEY (unit_id, life, boot, block)
) WITH (fillfactor = 60);
ALTER TABLE unit_sequence ALTER COLUMN heard SET STORAGE PLAIN;

-- What could not be taken, with the reason and the very bytes; the same bytes again only count up.
CREATE TABLE dead_letter (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    fingerprint bytea NOT NULL CONSTRAINT dead_letter_kept_once UNIQUE,
    first_at    timestamptz NOT NULL,
    last_at     timestamptz NOT NULL,
    times       bigint NOT NULL DEFAULT 1,
    gateway     text NOT NULL,
    topic       text NOT NULL,
    imei        text,
    unit_id     int REFERENCES unit,
    reason      text NOT NULL,
    path        text NOT NULL,
    detail      text NOT NULL,
    body        bytea NOT NULL
);
CREATE INDEX dead_letter_by_reason ON dead_letter (reason, id);
CREATE INDEX dead_letter_by_imei ON dead_letter (imei, id);
