-- What a site has used of its current day (days since 1970-01-01, UTC) and month (months since
-- January of the year 0).
CREATE TABLE usage (
    site_id    UUID   PRIMARY KEY,
    day        BIGINT NOT NULL,
    day_used   BIGINT NOT NULL CHECK (day_used >= 0),
    month      BIGINT NOT NULL,
    month_used BIGINT NOT NULL CHECK (month_used >= 0)
);

CREATE TABLE usage_history (
    site_id   UUID   NOT NULL,
    day       BIGINT NOT NULL,
    issued    BIGINT NOT NULL,
    validated BIGINT NOT NULL,
    PRIMARY KEY (site_id, day)
);
CREATE INDEX usage_history_day ON usage_history (day);
