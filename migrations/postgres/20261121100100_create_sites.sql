CREATE TABLE sites (
    site_id    UUID   PRIMARY KEY,
    name       TEXT   NOT NULL,
    url        TEXT,
    plan       TEXT   NOT NULL,
    status     TEXT   NOT NULL CHECK (status IN ('active', 'suspended')),
    created_at BIGINT NOT NULL,
    deleted_at BIGINT,
    -- 'default' on the site of the configured secret, of which there is one.
    singleton  TEXT   CONSTRAINT sites_singleton_key UNIQUE
);

CREATE TABLE proxy_secrets (
    secret_id  UUID   PRIMARY KEY,
    site_id    UUID   NOT NULL REFERENCES sites (site_id) ON DELETE CASCADE,
    digest     BYTEA  NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT
);
CREATE INDEX proxy_secrets_site ON proxy_secrets (site_id);
