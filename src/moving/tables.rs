//! The tables that are moved: their columns, and the SQL that reads and writes their rows as JSON.
//!
//! The databases make the JSON and take it apart again, so that a row passes through the program as
//! one text: an id is a hyphenated UUID, bytes are hexadecimal digits, the rest is what it is.

use crate::config::DatabaseKind;

/// A table as it is moved.
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) columns: &'static [&'static str],
    /// How many rows there are.
    pub(super) count: &'static str,
    postgres: Statements,
    sqlite: Statements,
}

/// What is asked of one of the two databases.
pub(super) struct Statements {
    /// Every row as JSON, in the order of the key.
    pub(super) read: &'static str,
    /// Takes an array of rows, and leaves out those whose place is taken.
    pub(super) write: &'static str,
    /// Takes the same, and tells the key of one row that is not there as it is in the array.
    pub(super) missing: &'static str,
}

impl Table {
    /// What is asked of a database of this kind.
    pub(super) const fn on(&self, kind: DatabaseKind) -> &Statements {
        match kind {
            DatabaseKind::Postgres => &self.postgres,
            DatabaseKind::Sqlite => &self.sqlite,
        }
    }
}

/// A column as JSON has it.
macro_rules! shown {
    (postgres bytes $column:ident) => {
        concat!("encode(", stringify!($column), ", 'hex')")
    };
    (sqlite bytes $column:ident) => {
        concat!("lower(hex(", stringify!($column), "))")
    };
    (sqlite id $column:ident) => {
        concat!(
            // For `hex(NULL)` is an empty text.
            "CASE WHEN ", stringify!($column), " IS NOT NULL THEN lower(",
            shown!(@part $column, "1, 8"), " || '-' || ",
            shown!(@part $column, "9, 4"), " || '-' || ",
            shown!(@part $column, "13, 4"), " || '-' || ",
            shown!(@part $column, "17, 4"), " || '-' || ",
            shown!(@part $column, "21"), ") END"
        )
    };
    (@part $column:ident, $place:literal) => {
        concat!("substr(hex(", stringify!($column), "), ", $place, ")")
    };
    ($database:ident $kind:ident $column:ident) => {
        stringify!($column)
    };
}

/// What PostgreSQL takes a value out of JSON for.
macro_rules! type_in_postgres {
    (id) => {
        "UUID"
    };
    (number) => {
        "BIGINT"
    };
    // A number that was 0 before there was a column for it.
    (count) => {
        "BIGINT"
    };
    (text) => {
        "TEXT"
    };
    (bytes) => {
        "TEXT"
    };
}

/// A value out of JSON, as its column has it.
macro_rules! stored {
    (postgres bytes $column:ident) => {
        concat!("decode(", stringify!($column), ", 'hex')")
    };
    (postgres count $column:ident) => {
        concat!("coalesce(", stringify!($column), ", 0)")
    };
    (postgres $kind:ident $column:ident) => {
        stringify!($column)
    };
    (sqlite id $column:ident) => {
        concat!("unhex(value ->> '", stringify!($column), "', '-')")
    };
    (sqlite bytes $column:ident) => {
        concat!("unhex(value ->> '", stringify!($column), "')")
    };
    (sqlite count $column:ident) => {
        concat!("coalesce(value ->> '", stringify!($column), "', 0)")
    };
    (sqlite $kind:ident $column:ident) => {
        concat!("value ->> '", stringify!($column), "'")
    };
}

/// Writes out the statements of a table from its columns, of which the first is of its key.
macro_rules! table {
    ($table:ident by ($($key:tt)+) {
        $first:ident: $first_kind:ident, $($column:ident: $kind:ident,)+
    }) => {
        Table {
            name: stringify!($table),
            columns: &[stringify!($first), $(stringify!($column)),+],
            count: concat!("SELECT count(*) FROM ", stringify!($table)),
            postgres: Statements {
                read: concat!(
                    "SELECT row_to_json(shown)::TEXT FROM (SELECT ",
                    shown!(postgres $first_kind $first), " AS ", stringify!($first),
                    $(", ", shown!(postgres $kind $column), " AS ", stringify!($column),)+
                    " FROM ", stringify!($table), " ORDER BY ", stringify!($($key)+), ") AS shown"
                ),
                write: table!(@write table!(@new_in_postgres
                    $first: $first_kind, $($column: $kind,)+), $table, $first, $($column,)+),
                missing: table!(@missing table!(@new_in_postgres
                    $first: $first_kind, $($column: $kind,)+), concat!(stringify!($first), "::TEXT"),
                    $table by ($($key)+), $first, $($column,)+),
            },
            sqlite: Statements {
                read: concat!(
                    "SELECT json_object('",
                    stringify!($first), "', ", shown!(sqlite $first_kind $first),
                    $(", '", stringify!($column), "', ", shown!(sqlite $kind $column),)+
                    ") FROM ", stringify!($table), " ORDER BY ", stringify!($($key)+)
                ),
                write: table!(@write table!(@new_in_sqlite
                    $first: $first_kind, $($column: $kind,)+), $table, $first, $($column,)+),
                missing: table!(@missing table!(@new_in_sqlite
                    $first: $first_kind, $($column: $kind,)+),
                    concat!("CAST(", shown!(sqlite $first_kind $first), " AS TEXT)"),
                    $table by ($($key)+), $first, $($column,)+),
            },
        }
    };
    (@new_in_postgres $first:ident: $first_kind:ident, $($column:ident: $kind:ident,)+) => {
        concat!(
            "WITH new AS (SELECT ",
            stored!(postgres $first_kind $first), " AS ", stringify!($first),
            $(", ", stored!(postgres $kind $column), " AS ", stringify!($column),)+
            " FROM json_to_recordset($1::JSON) AS rows (",
            stringify!($first), " ", type_in_postgres!($first_kind),
            $(", ", stringify!($column), " ", type_in_postgres!($kind),)+
            ")) "
        )
    };
    (@new_in_sqlite $first:ident: $first_kind:ident, $($column:ident: $kind:ident,)+) => {
        concat!(
            // Else the JSON of a row would be parsed anew for each column.
            "WITH rows AS MATERIALIZED (SELECT jsonb(value) AS value FROM json_each($1)), \
             new AS (SELECT ",
            stored!(sqlite $first_kind $first), " AS ", stringify!($first),
            $(", ", stored!(sqlite $kind $column), " AS ", stringify!($column),)+
            " FROM rows) "
        )
    };
    (@columns $first:ident, $($column:ident,)+) => {
        concat!(stringify!($first), $(", ", stringify!($column)),+)
    };
    (@write $new:expr, $table:ident, $($column:ident,)+) => {
        concat!(
            $new, "INSERT INTO ", stringify!($table), " (", table!(@columns $($column,)+),
            ") SELECT ", table!(@columns $($column,)+), " FROM new WHERE true ON CONFLICT DO NOTHING"
        )
    };
    (@missing $new:expr, $told:expr, $table:ident by ($($key:tt)+), $($column:ident,)+) => {
        concat!(
            $new, "SELECT ", $told, " FROM (SELECT ", table!(@columns $($column,)+),
            " FROM new EXCEPT SELECT ", table!(@columns $($column,)+), " FROM ", stringify!($table),
            " WHERE (", stringify!($($key)+), ") IN (SELECT ", stringify!($($key)+),
            " FROM new)) AS missing LIMIT 1"
        )
    };
}

/// The table with the data key, which the file must begin with.
pub(super) const DATA_KEYS: &str = "data_keys";

/// What is moved, what others refer to before those.
pub(super) static TABLES: &[Table] = &[
    table!(data_keys by (id) {
        id: number,
        wrapped: bytes,
        created_at: number,
    }),
    table!(signing_keys by (kid) {
        kid: text,
        algorithm: text,
        sealed: bytes,
        created_at: number,
        signs_from: number,
        verifies_until: number,
        revoked_at: number,
        singleton: text,
    }),
    table!(accounts by (account_id) {
        account_id: id,
        email: text,
        email_key: text,
        username: text,
        username_key: text,
        name: text,
        role: text,
        status: text,
        password_hash: text,
        created_at: number,
        signed_in_at: number,
    }),
    table!(two_factor by (account_id) {
        account_id: id,
        sealed: bytes,
        created_at: number,
        confirmed_at: number,
        last_step: number,
        failures: number,
        locked_until: number,
        locks: number,
    }),
    table!(recovery_codes by (account_id, digest) {
        account_id: id,
        digest: bytes,
    }),
    table!(sessions by (session_id) {
        session_id: id,
        account_id: id,
        kind: text,
        generation: number,
        rotated_at: number,
        address: text,
        user_agent: text,
        created_at: number,
        last_used_at: number,
        expires_at: number,
    }),
    table!(api_tokens by (token_id) {
        token_id: id,
        account_id: id,
        name: text,
        scopes: text,
        digest: bytes,
        created_at: number,
        expires_at: number,
        last_used_at: number,
    }),
    table!(sites by (site_id) {
        site_id: id,
        name: text,
        url: text,
        plan: text,
        status: text,
        created_at: number,
        deleted_at: number,
        singleton: text,
        owner_id: id,
    }),
    table!(proxy_secrets by (secret_id) {
        secret_id: id,
        site_id: id,
        digest: bytes,
        created_at: number,
        expires_at: number,
    }),
    table!(usage by (site_id) {
        site_id: id,
        day: number,
        day_used: number,
        month: number,
        month_used: number,
        day_reserved: number,
        month_reserved: number,
        resets: count,
    }),
    table!(usage_history by (site_id, day) {
        site_id: id,
        day: number,
        issued: number,
        validated: number,
    }),
    table!(tokens by (token_id) {
        token_id: id,
        site_id: id,
        user_id: number,
        coins: number,
        issued_at: number,
        expires_at: number,
        machine_id: text,
        bound_at: number,
        revoked_at: number,
        last_validated_at: number,
    }),
    table!(idempotency_keys by (site_id, key_digest) {
        site_id: id,
        key_digest: bytes,
        request_digest: bytes,
        token_id: id,
        created_at: number,
    }),
    table!(audit_log by (audit_id) {
        audit_id: id,
        happened_at: number,
        event: text,
        actor_kind: text,
        actor_id: text,
        actor_account_id: id,
        subject: text,
        account_id: id,
        site_id: id,
        address: text,
        user_agent: text,
        outcome: text,
        detail: text,
        count: number,
        tally: text,
    }),
];

/// The table of this name, if it is one that is moved.
pub(super) fn named(name: &str) -> Option<&'static Table> {
    TABLES.iter().find(|table| table.name == name)
}
