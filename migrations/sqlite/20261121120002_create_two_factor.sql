-- The secret is sealed. Until it is confirmed, signing in takes no code.
CREATE TABLE two_factor (
    account_id   BLOB    PRIMARY KEY REFERENCES accounts (account_id) ON DELETE CASCADE,
    sealed       BLOB    NOT NULL,
    created_at   INTEGER NOT NULL,
    confirmed_at INTEGER,
    -- The last step of 30 seconds whose code was taken.
    last_step    INTEGER NOT NULL,
    -- Wrong codes in a row, and until when they lock it.
    failures     INTEGER NOT NULL CHECK (failures >= 0),
    locked_until INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE recovery_codes (
    account_id BLOB    NOT NULL REFERENCES two_factor (account_id) ON DELETE CASCADE,
    digest     BLOB    NOT NULL,
    PRIMARY KEY (account_id, digest)
) STRICT, WITHOUT ROWID;
