//! The store: one SQL for SQLite and PostgreSQL, transactions, migrations, and the change log.
//!
//! A room's SQL is a static text that both databases take. The macros `read!`, `write!` and `in_tx!`
//! expand one expression once a database and put a deadline around it: sqlx has no query time-out,
//! and a frozen server answers nothing.

pub(crate) mod batches;
pub mod changes;
pub(crate) mod connection;
pub mod database;
pub mod error;
pub mod follower;
pub mod freshness;
pub mod leases;
pub mod listener;
pub mod memory;
pub mod migrations;
mod needs;
mod observed;
mod pooler;
mod postgres;
pub(crate) mod servers;
mod shares;
mod snapshot;
pub mod sqlite;
pub mod time;
pub mod tx;

pub use database::Database;
pub use error::StoreError;
pub use servers::Accepted;
pub use shares::Share;
pub(crate) use snapshot::Snapshot;
pub use tx::Tx;

use serde::Serialize;

/// How many rows a statement touched, whichever database ran it.
pub(crate) async fn affected<R: RowsAffected>(
    statement: impl Future<Output = Result<R, sqlx::Error>>,
) -> Result<u64, sqlx::Error> {
    statement.await.map(|result| result.rows_affected())
}

/// The one row that a statement returns which writes, if it does. It is read to its end: SQLite commits
/// there, and where only a first row is asked for, the driver does not tell that this failed.
pub(crate) async fn only_row<T>(
    statement: impl Future<Output = Result<Vec<T>, sqlx::Error>>,
) -> Result<Option<T>, sqlx::Error> {
    statement.await.map(|mut rows| rows.pop())
}

pub(crate) trait RowsAffected {
    fn rows_affected(&self) -> u64;
}

impl RowsAffected for sqlx::postgres::PgQueryResult {
    fn rows_affected(&self) -> u64 {
        self.rows_affected()
    }
}

impl RowsAffected for sqlx::sqlite::SqliteQueryResult {
    fn rows_affected(&self) -> u64 {
        self.rows_affected()
    }
}

/// Rows as one parameter for SQLite, which takes no arrays.
pub(crate) fn json(rows: impl IntoIterator<Item = impl Serialize>) -> Result<String, StoreError> {
    let rows: Vec<_> = rows.into_iter().collect();
    serde_json::to_string(&rows).map_err(StoreError::unreadable)
}

/// Runs one statement that only reads.
macro_rules! read {
    ($database:expr, |$connection:ident| $statement:expr) => {
        match $database.pools() {
            $crate::store::database::Pools::Postgres(pool) => {
                $crate::store::database::with_connection!($database, pool, |$connection| $statement)
            }
            $crate::store::database::Pools::Sqlite { readers, .. } => {
                $crate::store::database::with_connection!($database, readers, |$connection| {
                    $statement
                })
            }
        }
    };
}

/// Runs one statement that writes, in a transaction of its own. What it returns is taken to its end; see
/// [`only_row`].
macro_rules! write {
    ($database:expr, |$connection:ident| $statement:expr) => {{
        let written = match $database.pools() {
            $crate::store::database::Pools::Postgres(pool) => {
                $crate::store::database::with_connection!($database, pool, |$connection| $statement)
            }
            $crate::store::database::Pools::Sqlite { writer, .. } => {
                $crate::store::database::with_connection!($database, writer, |$connection| {
                    $statement
                })
            }
        };
        $database.note_write(&written);
        written
    }};
}

/// Runs one statement inside a transaction.
macro_rules! in_tx {
    ($tx:expr, |$connection:ident| $statement:expr) => {{
        use $crate::store::{connection::ask, tx::Inner};
        let tx: &mut $crate::store::Tx = $tx;
        let (inner, deadline, doubt) = tx.parts();
        let answer = match inner {
            Inner::Postgres(borrowed) => {
                ask!(borrowed, deadline, doubt, |$connection| $statement)
            }
            Inner::Sqlite(borrowed) => {
                ask!(borrowed, deadline, doubt, |$connection| $statement)
            }
        };
        tx.note_failure(&answer);
        answer
    }};
}

pub(crate) use {in_tx, read, write};
