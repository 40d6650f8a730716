-- Reads every row, and lets others read and write meanwhile, also while it waits.
SET LOCAL lock_timeout = '1min';
ALTER TABLE tokens VALIDATE CONSTRAINT tokens_bound;
