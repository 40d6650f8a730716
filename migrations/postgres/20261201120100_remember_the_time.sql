-- That the store takes writes is tried here, and counted. The time is the server's own: unlike the
-- embedded store, it need not remember any.
CREATE TABLE store_clock (
    id      BIGINT PRIMARY KEY CHECK (id = 1),
    seen_at BIGINT NOT NULL,
    beats   BIGINT NOT NULL
);
INSERT INTO store_clock (id, seen_at, beats) VALUES (1, 0, 0);
