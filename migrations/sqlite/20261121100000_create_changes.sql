-- The change log. Its numbers come from a counter of one row and not from a sequence, so that they
-- follow the order of the commits without a gap.
CREATE TABLE change_counter (
    id  INTEGER PRIMARY KEY CHECK (id = 1),
    seq INTEGER NOT NULL
) STRICT;
INSERT INTO change_counter (id, seq) VALUES (1, 0);

CREATE TABLE changes (
    seq        INTEGER PRIMARY KEY,
    changed_at INTEGER NOT NULL,
    actor      TEXT    NOT NULL,
    event      TEXT    NOT NULL,
    subject    TEXT    NOT NULL
) STRICT;

-- Work that one instance at a time does, and until when it has claimed it.
CREATE TABLE leases (
    name       TEXT    PRIMARY KEY,
    holder     BLOB    NOT NULL,
    held_until INTEGER NOT NULL
) STRICT;
