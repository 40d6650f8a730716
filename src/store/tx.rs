//! Transactions.

use std::pin::pin;

use sqlx::{Postgres, Sqlite, Transaction};
use tokio::time::{Instant, timeout_at};

use super::{Database, StoreError, changes::SeenChange, database::Pools, postgres::Doubt};
use crate::telemetry::traces;

/// An open transaction: it is undone when dropped without a [`Tx::commit`].
///
/// The whole of it, from the connection to the commit, has the database's one deadline.
pub struct Tx {
    inner: Inner,
    deadline: Instant,
    database: Database,
    changes: Vec<SeenChange>,
    holds_change_lock: bool,
}

pub(crate) enum Inner {
    Postgres(Transaction<'static, Postgres>),
    Sqlite(Transaction<'static, Sqlite>),
}

impl Database {
    /// Begins a transaction that may write. On SQLite it takes the write lock at once: one that
    /// reads first and writes later fails when another came between.
    ///
    /// # Errors
    /// When the store does not answer in time.
    pub async fn begin(&self) -> Result<Tx, StoreError> {
        self.begin_before(Instant::now() + self.deadline()).await
    }

    /// Begins a transaction that must end before `deadline`.
    pub(crate) async fn begin_before(&self, deadline: Instant) -> Result<Tx, StoreError> {
        let inner = match self.pools() {
            Pools::Postgres(pool) => {
                Inner::Postgres(begun(deadline, self.doubt(), Box::pin(pool.begin())).await?)
            }
            Pools::Sqlite { writer, .. } => {
                let begin = Box::pin(writer.begin_with("BEGIN IMMEDIATE"));
                Inner::Sqlite(begun(deadline, self.doubt(), begin).await?)
            }
        };
        Ok(Tx {
            // Nobody else writes meanwhile.
            holds_change_lock: matches!(inner, Inner::Sqlite(_)),
            inner,
            deadline,
            database: self.clone(),
            changes: Vec::new(),
        })
    }
}

async fn begun<T>(
    deadline: Instant,
    doubt: &Doubt,
    begin: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, StoreError> {
    // Kept to the end: what it holds goes back to the pool only when the doubt is known there.
    let mut begin = pin!(begin);
    let beginning = async {
        timeout_at(deadline, begin.as_mut())
            .await
            .unwrap_or(Err(sqlx::Error::PoolTimedOut))
    };
    let answer = traces::step("begin a transaction", beginning)
        .await
        .map_err(StoreError::of_connecting);
    if answer.as_ref().is_err_and(StoreError::casts_doubt) {
        doubt.cast();
    }
    answer
}

impl Tx {
    /// Makes everything in the transaction durable. What keeps a part of the store in memory here
    /// has heard of its changes when this returns; other instances hear of them by the log.
    ///
    /// # Errors
    /// When the store does not answer in time: the outcome is then unknown.
    pub async fn commit(self) -> Result<(), StoreError> {
        let Self {
            inner,
            deadline,
            database,
            changes,
            ..
        } = self;
        let doubt = database.doubt();
        match inner {
            Inner::Postgres(transaction) => {
                before(deadline, doubt, Box::pin(transaction.commit())).await
            }
            Inner::Sqlite(transaction) => {
                before(deadline, doubt, Box::pin(transaction.commit())).await
            }
        }?;
        database.announce(&changes).await;
        Ok(())
    }

    pub(crate) fn parts(&mut self) -> (&mut Inner, Instant, &Doubt) {
        (&mut self.inner, self.deadline, self.database.doubt())
    }

    /// Whether the lock of changes was taken: it is held to the end.
    pub(super) const fn holds_change_lock(&self) -> bool {
        self.holds_change_lock
    }

    /// Notes that the lock of changes was taken.
    pub(super) const fn note_change_lock(&mut self) {
        self.holds_change_lock = true;
    }

    /// Notes a change that was written into the log.
    pub(super) fn note(&mut self, change: SeenChange) {
        self.changes.push(change);
    }
}

/// Runs a statement that must be answered before `deadline`.
pub(crate) async fn before<T>(
    deadline: Instant,
    doubt: &Doubt,
    statement: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, StoreError> {
    // Kept to the end, as in `begun`: a commit holds the connection.
    let mut statement = pin!(statement);
    let running = async {
        match timeout_at(deadline, statement.as_mut()).await {
            Ok(answer) => answer.map_err(StoreError::from),
            Err(_) => Err(StoreError::Timeout),
        }
    };
    let answer = traces::step("run a statement", running).await;
    if answer.as_ref().is_err_and(StoreError::casts_doubt) {
        doubt.cast();
    }
    answer
}
