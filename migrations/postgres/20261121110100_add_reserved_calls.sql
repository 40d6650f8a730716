-- Calls that instances have taken in blocks and not yet spent, or not yet told that they have. They
-- count towards the limits as those that are used do, and end with their window.
ALTER TABLE usage ADD COLUMN day_reserved BIGINT NOT NULL DEFAULT 0 CHECK (day_reserved >= 0);
ALTER TABLE usage ADD COLUMN month_reserved BIGINT NOT NULL DEFAULT 0 CHECK (month_reserved >= 0);
