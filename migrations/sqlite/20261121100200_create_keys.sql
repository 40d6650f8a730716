-- The one random data key, wrapped by the master key.
CREATE TABLE data_keys (
    id         INTEGER PRIMARY KEY CHECK (id = 1),
    wrapped    BLOB    NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE signing_keys (
    kid            TEXT    PRIMARY KEY,
    algorithm      TEXT    NOT NULL,
    sealed         BLOB    NOT NULL,
    created_at     INTEGER NOT NULL,
    signs_from     INTEGER NOT NULL,
    verifies_until INTEGER,
    revoked_at     INTEGER,
    -- 'first' on the store's first key, of which there is one.
    singleton      TEXT    CONSTRAINT signing_keys_singleton_key UNIQUE
) STRICT;
