//! Transactions.

use sqlx::{Postgres, Sqlite};
use tokio::time::{Instant, timeout_at};

use super::{
    Database, StoreError,
    changes::SeenChange,
    connection::{Borrowed, Driver},
    database::Pools,
    postgres::Doubt,
    shares::SharedPool,
};
use crate::{config::DatabaseKind, telemetry::traces};

/// An open transaction: it is undone when dropped without a [`Tx::commit`].
///
/// The whole of it, from the connection to the commit, has the database's one deadline. After an
/// error nothing more can be done in it.
pub struct Tx {
    inner: Inner,
    deadline: Instant,
    database: Database,
    changes: Vec<SeenChange>,
    holds_change_lock: bool,
}

pub(crate) enum Inner {
    Postgres(Borrowed<Postgres>),
    Sqlite(Borrowed<Sqlite>),
}

impl Database {
    /// Begins a transaction that may write.
    ///
    /// # Errors
    /// When the store does not answer in time.
    pub async fn begin(&self) -> Result<Tx, StoreError> {
        self.begin_before(Instant::now() + self.deadline()).await
    }

    /// Begins a transaction that must end before `deadline`.
    pub(crate) async fn begin_before(&self, deadline: Instant) -> Result<Tx, StoreError> {
        let inner = match self.pools() {
            Pools::Postgres(pool) => Inner::Postgres(self.begun(pool, deadline).await?),
            Pools::Sqlite { writer, .. } => Inner::Sqlite(self.begun(writer, deadline).await?),
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

    async fn begun<DB: Driver>(
        &self,
        pool: &SharedPool<DB>,
        deadline: Instant,
    ) -> Result<Borrowed<DB>, StoreError> {
        // On the heap, for it is large.
        let beginning = Box::pin(async {
            let mut borrowed = Borrowed::from(pool, deadline, self).await?;
            let begun = borrowed.begin(deadline, self.doubt()).await;
            begun.map_err(StoreError::with_nothing_done)?;
            Ok(borrowed)
        });
        traces::step("begin a transaction", beginning).await
    }
}

impl Tx {
    /// Makes everything in the transaction durable. What keeps a part of the store in memory here
    /// has heard of its changes when this returns; other instances hear of them by the log.
    ///
    /// # Errors
    /// When the store does not answer in time: the outcome is then unknown. When a statement of the
    /// transaction has failed.
    pub async fn commit(self) -> Result<(), StoreError> {
        let (deadline, doubt) = (self.deadline, self.database.doubt());
        // The connection is given back before the followers are told, who may need one.
        let committed = match self.inner {
            Inner::Postgres(borrowed) => Box::pin(borrowed.commit(deadline, doubt)).await,
            Inner::Sqlite(borrowed) => Box::pin(borrowed.commit(deadline, doubt)).await,
        };
        self.database.note_write(&committed);
        committed?;
        self.database.announce(&self.changes).await;
        Ok(())
    }

    /// Notes that a statement failed, if it did: what it wrote is durable with the commit alone.
    pub(crate) fn note_failure<T>(&self, answer: &Result<T, StoreError>) {
        if answer.is_err() {
            self.database.note_write(answer);
        }
    }

    pub(crate) fn parts(&mut self) -> (&mut Inner, Instant, &Doubt) {
        (&mut self.inner, self.deadline, self.database.doubt())
    }

    pub(super) fn kind(&self) -> DatabaseKind {
        self.database.kind()
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
    let running = async {
        match timeout_at(deadline, statement).await {
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
