-- The database system that holds the store, and the highest timeline that it was seen on: a server
-- with a lower one is an old primary.
CREATE TABLE database_server (
    id       BIGINT PRIMARY KEY CHECK (id = 1),
    system   BIGINT NOT NULL,
    timeline BIGINT NOT NULL
);
