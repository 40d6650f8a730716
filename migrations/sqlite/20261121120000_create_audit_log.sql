-- Who did what. `account_id` and `site_id` are what a row is about, which may be gone since.
CREATE TABLE audit_log (
    audit_id         BLOB    PRIMARY KEY,
    happened_at      INTEGER NOT NULL,
    event            TEXT    NOT NULL,
    actor_kind       TEXT    NOT NULL,
    actor_id         TEXT,
    actor_account_id BLOB    ,
    subject          TEXT,
    account_id       BLOB    ,
    site_id          BLOB    ,
    address          TEXT,
    user_agent       TEXT,
    outcome          TEXT    NOT NULL CHECK (outcome IN ('success', 'refused')),
    detail           TEXT    NOT NULL,
    count            INTEGER NOT NULL CHECK (count > 0),
    -- What a row is counted by that strangers cause: its event, an address or a token, and the hour.
    tally            TEXT    CONSTRAINT audit_log_tally_key UNIQUE
) STRICT, WITHOUT ROWID;
CREATE INDEX audit_log_age ON audit_log (happened_at);
CREATE INDEX audit_log_actor ON audit_log (actor_account_id, audit_id);
CREATE INDEX audit_log_account ON audit_log (account_id, audit_id);
CREATE INDEX audit_log_site ON audit_log (site_id, audit_id);
