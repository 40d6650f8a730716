-- The one random data key, wrapped by the master key.
CREATE TABLE data_keys (
    id         BIGINT PRIMARY KEY CHECK (id = 1),
    wrapped    BYTEA  NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE signing_keys (
    kid            TEXT   PRIMARY KEY,
    algorithm      TEXT   NOT NULL,
    sealed         BYTEA  NOT NULL,
    created_at     BIGINT NOT NULL,
    signs_from     BIGINT NOT NULL,
    verifies_until BIGINT,
    revoked_at     BIGINT,
    -- 'first' on the store's first key, of which there is one.
    singleton      TEXT   CONSTRAINT signing_keys_singleton_key UNIQUE
);
