-- `email_key` and `username_key` are what accounts are found by: in lower case.
CREATE TABLE accounts (
    account_id    UUID   PRIMARY KEY,
    email         TEXT   NOT NULL,
    email_key     TEXT   NOT NULL CONSTRAINT accounts_email_key UNIQUE,
    username      TEXT,
    username_key  TEXT   CONSTRAINT accounts_username_key UNIQUE,
    name          TEXT,
    role          TEXT   NOT NULL CHECK (role IN ('owner', 'admin')),
    status        TEXT   NOT NULL CHECK (status IN ('active', 'disabled')),
    password_hash TEXT   NOT NULL,
    created_at    BIGINT NOT NULL,
    signed_in_at  BIGINT
);

-- One sign-in on one client. The refresh token of a session names its generation.
CREATE TABLE sessions (
    session_id   UUID   PRIMARY KEY,
    account_id   UUID   NOT NULL REFERENCES accounts (account_id) ON DELETE CASCADE,
    kind         TEXT   NOT NULL CHECK (kind IN ('refreshed', 'one_hour')),
    generation   BIGINT NOT NULL,
    rotated_at   BIGINT NOT NULL,
    address      TEXT,
    user_agent   TEXT,
    created_at   BIGINT NOT NULL,
    last_used_at BIGINT NOT NULL,
    -- The earlier of the end that no refresh moves and the one that each does.
    expires_at   BIGINT NOT NULL
);
CREATE INDEX sessions_account ON sessions (account_id);
CREATE INDEX sessions_expiry ON sessions (expires_at);
