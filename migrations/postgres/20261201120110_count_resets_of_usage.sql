-- How often an operator has set a site's usage to nothing: what instances took before such a reset is
-- not given back after it.
ALTER TABLE usage ADD COLUMN resets BIGINT NOT NULL DEFAULT 0;
