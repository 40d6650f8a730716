-- `email_key` and `username_key` are what accounts are found by: in lower case.
CREATE TABLE accounts (
    account_id    BLOB    PRIMARY KEY,
    email         TEXT    NOT NULL,
    email_key     TEXT    NOT NULL CONSTRAINT accounts_email_key UNIQUE,
    username      TEXT,
    username_key  TEXT    CONSTRAINT accounts_username_key UNIQUE,
    name          TEXT,
    role          TEXT    NOT NULL CHECK (role IN ('owner', 'admin')),
    status        TEXT    NOT NULL CHECK (status IN ('active', 'disabled')),
    password_hash TEXT    NOT NULL,
    created_at    INTEGER NOT NULL,
    signed_in_at  INTEGER
) STRICT, WITHOUT ROWID;

-- One sign-in on one client. The refresh token of a session names its generation.
CREATE TABLE sessions (
    session_id   BLOB    PRIMARY KEY,
    account_id   BLOB    NOT NULL REFERENCES accounts (account_id) ON DELETE CASCADE,
    kind         TEXT    NOT NULL CHECK (kind IN ('refreshed', 'one_hour')),
    generation   INTEGER NOT NULL,
    rotated_at   INTEGER NOT NULL,
    address      TEXT,
    user_agent   TEXT,
    created_at   INTEGER NOT NULL,
    last_used_at INTEGER NOT NULL,
    -- The earlier of the end that no refresh moves and the one that each does.
    expires_at   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_account ON sessions (account_id);
CREATE INDEX sessions_expiry ON sessions (expires_at);
