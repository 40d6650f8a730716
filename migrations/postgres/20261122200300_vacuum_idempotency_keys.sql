-- Every key is deleted after a day. By default a fifth of the table may be dead rows before they are
-- cleaned up; so it is a twentieth, in a pass that is short enough to be done several times a day.
ALTER TABLE idempotency_keys SET (autovacuum_vacuum_scale_factor = 0.05);
