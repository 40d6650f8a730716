-- The part of what is used that instances have taken in blocks and not yet spent, or not yet told
-- that they have. It is a part, and not beside it, so that an instance of the version before, which
-- knows of no blocks, still sees how much is left.
ALTER TABLE usage ADD COLUMN day_reserved INTEGER NOT NULL DEFAULT 0 CHECK (day_reserved >= 0);
ALTER TABLE usage ADD COLUMN month_reserved INTEGER NOT NULL DEFAULT 0 CHECK (month_reserved >= 0);
