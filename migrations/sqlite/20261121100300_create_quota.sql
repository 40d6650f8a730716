-- What a site has used of its current day (days since 1970-01-01, UTC) and month (months since
-- January of the year 0).
CREATE TABLE usage (
    site_id    BLOB    PRIMARY KEY,
    day        INTEGER NOT NULL,
    day_used   INTEGER NOT NULL CHECK (day_used >= 0),
    month      INTEGER NOT NULL,
    month_used INTEGER NOT NULL CHECK (month_used >= 0)
) STRICT, WITHOUT ROWID;

CREATE TABLE usage_history (
    site_id   BLOB    NOT NULL,
    day       INTEGER NOT NULL,
    issued    INTEGER NOT NULL,
    validated INTEGER NOT NULL,
    PRIMARY KEY (site_id, day)
) STRICT, WITHOUT ROWID;
CREATE INDEX usage_history_day ON usage_history (day);
