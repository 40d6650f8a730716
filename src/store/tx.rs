//! Transactions.

use sqlx::{Pool, Postgres, Sqlite};
use tokio::time::{Instant, timeout_at};

use super::{
    Database, StoreError,
    changes::SeenChange,
    connection::{Borrowed, Driver},
    database::Pools,
    postgres::Doubt,
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
    Postgres(Open<Postgres>),
    Sqlite(Open<Sqlite>),
}

/// A transaction and its connection.
pub(crate) struct Open<DB: Driver> {
    /// None once it has ended.
    borrowed: Option<Borrowed<DB>>,
    database: Database,
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
            Pools::Postgres(pool) => Inner::Postgres(Open::begin(self, pool, deadline).await?),
            Pools::Sqlite { writer, .. } => {
                Inner::Sqlite(Open::begin(self, writer, deadline).await?)
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

impl Tx {
    /// Makes everything in the transaction durable. What keeps a part of the store in memory here
    /// has heard of its changes when this returns; other instances hear of them by the log.
    ///
    /// # Errors
    /// When the store does not answer in time: the outcome is then unknown. When a statement of the
    /// transaction has failed.
    pub async fn commit(self) -> Result<(), StoreError> {
        match self.inner {
            Inner::Postgres(open) => open.commit(self.deadline).await,
            Inner::Sqlite(open) => open.commit(self.deadline).await,
        }?;
        self.database.announce(&self.changes).await;
        Ok(())
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

impl<DB: Driver> Open<DB> {
    async fn begin(
        database: &Database,
        pool: &Pool<DB>,
        deadline: Instant,
    ) -> Result<Self, StoreError> {
        // On the heap, for it is large.
        let beginning = Box::pin(async {
            let mut borrowed = Borrowed::from(pool, deadline, database.doubt()).await?;
            let begun = borrowed.begin(deadline, database.doubt()).await;
            begun.map_err(StoreError::with_nothing_done)?;
            Ok(Self {
                borrowed: Some(borrowed),
                database: database.clone(),
            })
        });
        traces::step("begin a transaction", beginning).await
    }

    async fn commit(mut self, deadline: Instant) -> Result<(), StoreError> {
        let doubt = self.database.doubt().clone();
        Box::pin(self.borrowed()?.commit(deadline, &doubt)).await
    }

    pub(crate) fn borrowed(&mut self) -> Result<&mut Borrowed<DB>, StoreError> {
        let ended = || sqlx::Error::Protocol("the transaction has ended".to_owned());
        self.borrowed.as_mut().ok_or_else(|| ended().into())
    }
}

/// Gives up what was not committed. Where nothing is on its way, the connection is of use again once
/// the store has said that it undid it all; refusals are common, and connecting is dear.
impl<DB: Driver> Drop for Open<DB> {
    fn drop(&mut self) {
        let undone = self.borrowed.take().filter(Borrowed::can_roll_back);
        if let Some(mut borrowed) = undone {
            let database = self.database.clone();
            tokio::spawn(async move {
                let deadline = Instant::now() + database.deadline();
                // What went wrong is told by whoever calls next, if the store is to blame.
                let _ended = borrowed.roll_back(deadline, database.doubt()).await;
            });
        }
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
