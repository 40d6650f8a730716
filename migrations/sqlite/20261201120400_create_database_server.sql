-- The embedded store has no servers: this is there, and empty, so that both have the same tables.
CREATE TABLE database_server (
    id       INTEGER PRIMARY KEY CHECK (id = 1),
    system   INTEGER NOT NULL,
    timeline INTEGER NOT NULL
) STRICT;
