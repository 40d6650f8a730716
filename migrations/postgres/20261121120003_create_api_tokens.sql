CREATE TABLE api_tokens (
    token_id     UUID   PRIMARY KEY,
    account_id   UUID   NOT NULL REFERENCES accounts (account_id) ON DELETE CASCADE,
    name         TEXT   NOT NULL,
    -- Names with spaces between.
    scopes       TEXT   NOT NULL,
    digest       BYTEA  NOT NULL,
    created_at   BIGINT NOT NULL,
    expires_at   BIGINT,
    last_used_at BIGINT
);
CREATE INDEX api_tokens_account ON api_tokens (account_id, token_id);
CREATE INDEX api_tokens_expiry ON api_tokens (expires_at);
