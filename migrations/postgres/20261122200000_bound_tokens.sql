-- The first of three steps after which `tokens` is partitioned by its ids, which begin with the
-- milliseconds of their making: the table of now becomes the partition of all that is older than a
-- bound. It is proved while calls go on, so that attaching it reads no rows. The bound is the end of
-- a week: four weeks ahead, for until the last step new tokens must stay below it.
-- Waiting for this lock holds up nobody's calls, and ends an autovacuum, which would outlast the
-- patience for the next one.
SET LOCAL lock_timeout = '1min';
LOCK TABLE tokens IN SHARE UPDATE EXCLUSIVE MODE;
SET LOCAL lock_timeout = '500ms';
DO $$
DECLARE
    week   CONSTANT BIGINT := 604800000;
    newest UUID;
    bound  BIGINT := (extract(epoch FROM now()) * 1000)::bigint + 4 * week;
BEGIN
    SELECT token_id INTO newest FROM tokens ORDER BY token_id DESC LIMIT 1;
    IF newest IS NOT NULL THEN
        bound := greatest(bound, ('x' || left(replace(newest::text, '-', ''), 12))::bit(48)::bigint);
    END IF;
    bound := (bound / week + 1) * week;
    EXECUTE format(
        'ALTER TABLE tokens ADD CONSTRAINT tokens_bound CHECK (token_id < %L::uuid) NOT VALID',
        rpad(lpad(to_hex(bound), 12, '0'), 32, '0'));
END
$$;
