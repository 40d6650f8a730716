ALTER TABLE tokens ADD COLUMN last_validated_at INTEGER;
