-- The change log. Its numbers come from a counter of one row and not from a sequence, so that they
-- follow the order of the commits without a gap.
CREATE TABLE change_counter (
    id  BIGINT PRIMARY KEY CHECK (id = 1),
    seq BIGINT NOT NULL
);
INSERT INTO change_counter (id, seq) VALUES (1, 0);

CREATE TABLE changes (
    seq        BIGINT PRIMARY KEY,
    changed_at BIGINT NOT NULL,
    actor      TEXT   NOT NULL,
    event      TEXT   NOT NULL,
    subject    TEXT   NOT NULL
);

-- Work that one instance at a time does, and until when it has claimed it.
CREATE TABLE leases (
    name       TEXT   PRIMARY KEY,
    holder     UUID   NOT NULL,
    held_until BIGINT NOT NULL
);
