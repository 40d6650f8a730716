CREATE TABLE tokens (
    token_id   BLOB    PRIMARY KEY,
    site_id    BLOB    NOT NULL,
    user_id    INTEGER NOT NULL,
    coins      INTEGER NOT NULL,
    issued_at  INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    machine_id TEXT,
    bound_at   INTEGER,
    revoked_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX tokens_site ON tokens (site_id, token_id);
CREATE INDEX tokens_expiry ON tokens (expires_at);

CREATE TABLE idempotency_keys (
    site_id        BLOB    NOT NULL,
    key_digest     BLOB    NOT NULL,
    request_digest BLOB    NOT NULL,
    token_id       BLOB    NOT NULL,
    created_at     INTEGER NOT NULL,
    PRIMARY KEY (site_id, key_digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at);
