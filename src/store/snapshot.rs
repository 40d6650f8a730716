//! The store as it is at one moment, however long it takes to read.

use futures_util::{StreamExt, TryStreamExt, stream::BoxStream};
use sqlx::{Connection, PgConnection, SqliteConnection};

use super::{Database, StoreError, database::Pools, postgres::unprepare};
use crate::config::DatabaseKind;

/// A transaction that only reads, on a connection of its own. It has no deadline: nobody waits for
/// an answer, and a table is read for as long as it is long.
pub(crate) enum Snapshot {
    Postgres(PgConnection),
    Sqlite(SqliteConnection),
}

impl Database {
    /// Takes a snapshot, which holds up nobody who writes.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        match self.pools() {
            Pools::Postgres(pool) => {
                let acquired = pool.acquire().await.map_err(StoreError::of_connecting)?;
                let mut connection = acquired.detach();
                unprepare(&mut connection).await?;
                sqlx::raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                    .execute(&mut connection)
                    .await?;
                Ok(Snapshot::Postgres(connection))
            }
            Pools::Sqlite { readers, .. } => {
                let acquired = readers.acquire().await.map_err(StoreError::of_connecting)?;
                let mut connection = acquired.detach();
                sqlx::raw_sql("BEGIN").execute(&mut connection).await?;
                Ok(Snapshot::Sqlite(connection))
            }
        }
    }
}

impl Snapshot {
    pub(crate) const fn kind(&self) -> DatabaseKind {
        match self {
            Self::Postgres(_) => DatabaseKind::Postgres,
            Self::Sqlite(_) => DatabaseKind::Sqlite,
        }
    }

    /// Reads one number.
    pub(crate) async fn number(&mut self, sql: &'static str) -> Result<i64, StoreError> {
        Ok(match self {
            Self::Postgres(connection) => sqlx::query_scalar(sql).fetch_one(connection).await,
            Self::Sqlite(connection) => sqlx::query_scalar(sql).fetch_one(connection).await,
        }?)
    }

    /// Reads a column of texts row by row, no faster than they are taken.
    pub(crate) fn texts(&mut self, sql: &'static str) -> BoxStream<'_, Result<String, StoreError>> {
        match self {
            Self::Postgres(connection) => sqlx::query_scalar(sql)
                .fetch(connection)
                .map_err(StoreError::from)
                .boxed(),
            Self::Sqlite(connection) => sqlx::query_scalar(sql)
                .fetch(connection)
                .map_err(StoreError::from)
                .boxed(),
        }
    }

    pub(crate) async fn close(self) -> Result<(), StoreError> {
        Ok(match self {
            Self::Postgres(connection) => connection.close().await,
            Self::Sqlite(connection) => connection.close().await,
        }?)
    }
}
