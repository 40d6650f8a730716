-- The secret is sealed. Until it is confirmed, signing in takes no code.
CREATE TABLE two_factor (
    account_id   UUID   PRIMARY KEY REFERENCES accounts (account_id) ON DELETE CASCADE,
    sealed       BYTEA  NOT NULL,
    created_at   BIGINT NOT NULL,
    confirmed_at BIGINT,
    -- The last step of 30 seconds whose code was taken.
    last_step    BIGINT NOT NULL,
    -- Wrong codes in a row, and until when they lock it.
    failures     BIGINT NOT NULL CHECK (failures >= 0),
    locked_until BIGINT
);

CREATE TABLE recovery_codes (
    account_id UUID   NOT NULL REFERENCES two_factor (account_id) ON DELETE CASCADE,
    digest     BYTEA  NOT NULL,
    PRIMARY KEY (account_id, digest)
);
