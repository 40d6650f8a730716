CREATE TABLE sites (
    site_id    BLOB    PRIMARY KEY,
    name       TEXT    NOT NULL,
    url        TEXT,
    plan       TEXT    NOT NULL,
    status     TEXT    NOT NULL CHECK (status IN ('active', 'suspended')),
    created_at INTEGER NOT NULL,
    deleted_at INTEGER,
    -- 'default' on the site of the configured secret, of which there is one.
    singleton  TEXT    CONSTRAINT sites_singleton_key UNIQUE
) STRICT, WITHOUT ROWID;

CREATE TABLE proxy_secrets (
    secret_id  BLOB    PRIMARY KEY,
    site_id    BLOB    NOT NULL REFERENCES sites (site_id) ON DELETE CASCADE,
    digest     BLOB    NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX proxy_secrets_site ON proxy_secrets (site_id);
