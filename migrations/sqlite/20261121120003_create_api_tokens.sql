CREATE TABLE api_tokens (
    token_id     BLOB    PRIMARY KEY,
    account_id   BLOB    NOT NULL REFERENCES accounts (account_id) ON DELETE CASCADE,
    name         TEXT    NOT NULL,
    -- Names with spaces between.
    scopes       TEXT    NOT NULL,
    digest       BLOB    NOT NULL,
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER,
    last_used_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX api_tokens_account ON api_tokens (account_id, token_id);
CREATE INDEX api_tokens_expiry ON api_tokens (expires_at);
