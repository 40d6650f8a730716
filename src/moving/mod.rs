//! ROOM moving: everything that a store holds, as a file, and back into another store.
//!
//! # The format
//!
//! Lines of JSON, each ended by a line feed. The first one is the header:
//!
//! ```json
//! {"format":"mirrory-export","version":1,"program":"0.1.0","schema":20261121130000,"store":"sqlite","created_at":"2026-11-22T09:00:00Z"}
//! ```
//!
//! `version` is that of this format, `schema` the newest migration of the store. Then comes a line
//! a row, table after table, what others refer to before those:
//!
//! ```json
//! {"table":"tokens","row":{"token_id":"01a2000d-69a4-71a1-9e33-7c5b284eda77","site_id":"…","user_id":12345,…}}
//! ```
//!
//! A row has the columns of its table by their names: an id is a hyphenated UUID, bytes (digests and
//! what is sealed) are hexadecimal digits, a time is in microseconds since 1970. The last line counts
//! the rows and has the SHA-256 of all bytes before it, so that a file that was cut off is noticed:
//!
//! ```json
//! {"end":{"rows":{"sites":1,"tokens":1},"sha256":"…"}}
//! ```
//!
//! A table or a column that is added by a migration is added to `tables.rs`, where a test asks for
//! it. A file of an older `schema` lacks it, and is still read: it is null then, so a column that
//! must not be null says there what it is in its place. `version` rises when the format changes
//! otherwise. A file of a newer version or schema is refused.
//!
//! # What moves
//!
//! Every table but five: `changes` and `change_counter` tell the instances of one store what to
//! forget, `leases` which of them does some work, `store_clock` what time that store has seen, and
//! `database_server` where it is. What is not in the store does not move either:
//! the configuration with its plans and `bootstrap.proxy_secret`, and the master key. The data key
//! moves as the master key wraps it, so what is sealed opens with the same master key alone.
//!
//! # How it moves
//!
//! [`Export`] reads one snapshot, row by row, while servers may run; what they do later is not in it.
//! [`import()`] writes in batches of one transaction each and overwrites nothing: a row that is there
//! already is left alone if it is the same, and stops the import if it is another. So an import that
//! was cut off can be run again, and ends as if it had not been. Until it ends, the store is marked,
//! and no server starts on it.
//!
//! At its end it writes a change into the log, upon which instances that run forget all they know.
//! Still, none should run before: a server that finds an empty store makes a data key of its own, and
//! then the import is refused.

mod export;
mod format;
mod import;
mod tables;

pub use export::{Export, ExportError, Exported};
pub use import::{ImportError, Imported, import, is_unfinished};

/// The columns that are moved, as `table.column`.
pub fn columns() -> impl Iterator<Item = String> {
    tables::TABLES.iter().flat_map(|table| {
        let columns = table.columns.iter();
        columns.map(|column| format!("{}.{column}", table.name))
    })
}
