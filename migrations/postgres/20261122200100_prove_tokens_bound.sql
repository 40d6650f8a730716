-- Reads every row, and lets others read and write meanwhile.
ALTER TABLE tokens VALIDATE CONSTRAINT tokens_bound;
