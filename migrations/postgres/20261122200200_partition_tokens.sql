-- Changes the catalogue alone. The table, its columns and its indexes are called as before, so that
-- the version before goes on with its statements.
-- Waiting for this lock holds up nobody's calls, and ends an autovacuum, which would outlast the
-- patience for the next one.
SET LOCAL lock_timeout = '1min';
LOCK TABLE tokens IN SHARE UPDATE EXCLUSIVE MODE;
SET LOCAL lock_timeout = '500ms';
DO $$
DECLARE
    bound   UUID;
    indexes TEXT[];
    name    TEXT;
    made_by TEXT;
BEGIN
    LOCK TABLE tokens IN ACCESS EXCLUSIVE MODE;
    SELECT substring(pg_get_constraintdef(oid) FROM '[0-9a-f-]{36}') INTO STRICT bound
    FROM pg_constraint WHERE conrelid = 'tokens'::regclass AND conname = 'tokens_bound';
    SELECT array_agg(pg_get_indexdef(indexrelid)) INTO STRICT indexes
    FROM pg_index WHERE indrelid = 'tokens'::regclass AND NOT indisprimary;
    FOR name IN SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = 'tokens'::regclass
    LOOP
        EXECUTE format('ALTER INDEX %s RENAME TO %I', name, replace(name, 'tokens', 'tokens_past'));
    END LOOP;
    ALTER TABLE tokens RENAME TO tokens_past;

    CREATE TABLE tokens (LIKE tokens_past, PRIMARY KEY (token_id)) PARTITION BY RANGE (token_id);
    FOREACH made_by IN ARRAY indexes LOOP
        EXECUTE made_by;
    END LOOP;
    EXECUTE format(
        'ALTER TABLE tokens ATTACH PARTITION tokens_past FOR VALUES FROM (MINVALUE) TO (%L)', bound);
    ALTER TABLE tokens_past DROP CONSTRAINT tokens_bound;
    -- For what comes before its partition is made.
    CREATE TABLE tokens_default PARTITION OF tokens DEFAULT WITH (fillfactor = 60);
END
$$;
