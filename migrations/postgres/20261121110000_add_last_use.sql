-- A token is bound once and then used often: both change columns without an index, and with room
-- left on its page the new version needs no new index entries.
ALTER TABLE tokens SET (fillfactor = 80);
ALTER TABLE tokens ADD COLUMN last_validated_at BIGINT;
