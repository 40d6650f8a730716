-- The greatest time that servers of this store have seen, by which a clock that was set back or ahead
-- is known: 0 before the first one. That the store takes writes is tried here, and counted.
CREATE TABLE store_clock (
    id      INTEGER PRIMARY KEY CHECK (id = 1),
    seen_at INTEGER NOT NULL,
    beats   INTEGER NOT NULL
) STRICT;
INSERT INTO store_clock (id, seen_at, beats) VALUES (1, 0, 0);
