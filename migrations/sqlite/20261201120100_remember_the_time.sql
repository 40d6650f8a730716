-- The greatest time that servers of this store have seen, by which a clock that was set back or ahead
-- is known: 0 before the first one. That the store takes writes is tried here, and counted.
CREATE TABLE store_clock (
    id      INTEGER PRIMARY KEY CHECK (id = 1),
    seen_at INTEGER NOT NULL,
    beats   INTEGER NOT NULL
) STRICT;
INSERT INTO store_clock (id, seen_at, beats)
SELECT 1, max(
    coalesce((SELECT happened_at FROM audit_log ORDER BY audit_id DESC LIMIT 1), 0),
    coalesce((SELECT changed_at FROM changes ORDER BY seq DESC LIMIT 1), 0),
    coalesce((SELECT issued_at FROM tokens ORDER BY token_id DESC LIMIT 1), 0)
), 0;
