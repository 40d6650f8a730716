//! The store as it is at one moment, however long it takes to read.

use futures_util::{StreamExt, TryStreamExt, stream::BoxStream};
use sqlx::{ConnectOptions, Connection, PgConnection, Pool, SqliteConnection};

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
                let mut connection = unwatched(pool).await?;
                if let Some(servers) = self.servers() {
                    let admitted = servers.admit(&mut connection, self.doubt()).await;
                    admitted.map_err(StoreError::of_connecting)?;
                }
                unprepare(&mut connection).await?;
                sqlx::raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                    .execute(&mut connection)
                    .await?;
                Ok(Snapshot::Postgres(connection))
            }
            Pools::Sqlite { readers, .. } => {
                let mut connection = unwatched(readers).await?;
                sqlx::raw_sql("BEGIN").execute(&mut connection).await?;
                Ok(Snapshot::Sqlite(connection))
            }
        }
    }
}

/// A connection of its own, on which no statement is reported for taking long.
async fn unwatched<DB: sqlx::Database>(pool: &Pool<DB>) -> Result<DB::Connection, StoreError> {
    let options = pool.connect_options().as_ref().clone();
    let connected = options.disable_statement_logging().connect().await;
    connected.map_err(StoreError::of_connecting)
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
