CREATE TABLE tokens (
    token_id   UUID   PRIMARY KEY,
    site_id    UUID   NOT NULL,
    user_id    BIGINT NOT NULL,
    coins      BIGINT NOT NULL,
    issued_at  BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    machine_id TEXT,
    bound_at   BIGINT,
    revoked_at BIGINT
);
CREATE INDEX tokens_site ON tokens (site_id, token_id);
CREATE INDEX tokens_expiry ON tokens (expires_at);

CREATE TABLE idempotency_keys (
    site_id        UUID   NOT NULL,
    key_digest     BYTEA  NOT NULL,
    request_digest BYTEA  NOT NULL,
    token_id       UUID   NOT NULL,
    created_at     BIGINT NOT NULL,
    PRIMARY KEY (site_id, key_digest)
);
CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at);
