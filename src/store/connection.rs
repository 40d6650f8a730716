//! Connections out of the pools, and the one place that decides which of them goes back.

use std::{thread, time::Duration};

use sqlx::{Connection, Postgres, Sqlite, pool::PoolConnection};
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    Database, StoreError,
    postgres::Doubt,
    shares::{Part, SharedPool},
    tx::before,
};

/// What the two databases differ in where a transaction begins and ends.
///
/// The driver's own transactions are not used: on PostgreSQL one that is dropped while it begins
/// leaves it open, and on SQLite the driver counts on, when the store has ended one by itself.
pub(crate) trait Driver: sqlx::Database {
    /// Begins a transaction that may write.
    const BEGIN: &str;

    /// Runs a statement that answers with no rows.
    fn run(
        connection: &mut Self::Connection,
        sql: &'static str,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;
}

impl Driver for Postgres {
    const BEGIN: &str = "BEGIN";

    async fn run(connection: &mut Self::Connection, sql: &'static str) -> Result<(), sqlx::Error> {
        sqlx::raw_sql(sql).execute(connection).await.map(drop)
    }
}

impl Driver for Sqlite {
    /// Takes the write lock at once: one that reads first and writes later fails when another came
    /// between.
    const BEGIN: &str = "BEGIN IMMEDIATE";

    async fn run(connection: &mut Self::Connection, sql: &'static str) -> Result<(), sqlx::Error> {
        sqlx::raw_sql(sql).execute(connection).await.map(drop)
    }
}

/// A connection out of a pool, and what is known of it.
///
/// Dropped, it goes back only once it is known to be idle outside a transaction: what the next one did
/// in another's might be undone. Where its caller left amid a statement, or did not commit, the store
/// must first have answered all and undone what was begun. In each other case it is closed: the pool
/// would wait without end for one that fell silent.
pub(crate) struct Borrowed<DB: Driver> {
    /// None once it is dropped.
    pooled: Option<PoolConnection<DB>>,
    part: Option<Part>,
    since: Instant,
    /// How long the store may take to undo what was given up.
    patience: Duration,
    last: Statement,
    transaction: Transaction,
}

/// What became of the last statement.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Statement {
    /// The store answered it, if with a refusal.
    Answered,
    OnItsWay,
    /// The answer was late, or none.
    Lost,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Transaction {
    None,
    /// It is begun, or about to be.
    Open,
    /// One of its statements failed. PostgreSQL would take a commit and undo it all, and SQLite may
    /// have ended it by itself, so that the next statement would be for good.
    Failed,
}

impl<DB: Driver> Borrowed<DB> {
    /// A connection of `pool`, had before `deadline`, out of the share of whoever asks.
    pub(super) async fn from(
        pool: &SharedPool<DB>,
        deadline: Instant,
        database: &Database,
    ) -> Result<Self, StoreError> {
        let part = pool.part(deadline).await?;
        let pooled = timeout_at(deadline, pool.acquire())
            .await
            .unwrap_or(Err(sqlx::Error::PoolTimedOut))
            .inspect_err(|_| database.doubt().cast())
            .map_err(StoreError::of_connecting)?;
        Ok(Self {
            pooled: Some(pooled),
            part: Some(part),
            since: Instant::now(),
            patience: database.deadline(),
            last: Statement::Answered,
            transaction: Transaction::None,
        })
    }

    /// The connection, for one statement, after whose answer [`Self::heard`] is called.
    ///
    /// # Errors
    /// When one of the statements before failed: what is asked would not be part of what they were.
    pub(crate) fn ask(&mut self) -> Result<&mut DB::Connection, StoreError> {
        let is_of_use = self.last == Statement::Answered && self.transaction != Transaction::Failed;
        let Some(pooled) = self.pooled.as_mut().filter(|_| is_of_use) else {
            let failed = "a statement before this one failed";
            return Err(sqlx::Error::Protocol(failed.to_owned()).into());
        };
        self.last = Statement::OnItsWay;
        Ok(pooled)
    }

    /// Notes what a statement was answered. Only what the store itself refused is an answer, too.
    pub(crate) fn heard<T>(&mut self, answer: &Result<T, StoreError>) {
        self.last = match answer {
            Err(error) if error.leaves_doubt() => Statement::Lost,
            Ok(_) | Err(_) => Statement::Answered,
        };
        if answer.is_err() && self.transaction == Transaction::Open {
            self.transaction = Transaction::Failed;
        }
    }

    pub(super) async fn begin(
        &mut self,
        deadline: Instant,
        doubt: &Doubt,
    ) -> Result<(), StoreError> {
        self.transaction = Transaction::Open;
        let begun = self.run(DB::BEGIN, deadline, doubt).await;
        // Refused, there is none.
        if begun.is_err() && self.last == Statement::Answered {
            self.transaction = Transaction::None;
        }
        begun
    }

    pub(super) async fn commit(
        mut self,
        deadline: Instant,
        doubt: &Doubt,
    ) -> Result<(), StoreError> {
        self.run("COMMIT", deadline, doubt).await?;
        self.transaction = Transaction::None;
        Ok(())
    }

    async fn run(
        &mut self,
        sql: &'static str,
        deadline: Instant,
        doubt: &Doubt,
    ) -> Result<(), StoreError> {
        let running = DB::run(self.ask()?, sql);
        let answer = before(deadline, doubt, running).await;
        self.heard(&answer);
        answer
    }
}

impl<DB: Driver> Drop for Borrowed<DB> {
    fn drop(&mut self) {
        let Some(mut pooled) = self.pooled.take() else {
            return;
        };
        match (self.last, self.transaction) {
            (Statement::Answered, Transaction::None) => {}
            // Amid a panic, the driver may not know either what was sent.
            (Statement::Lost, _) => pooled.close_on_drop(),
            _ if thread::panicking() => pooled.close_on_drop(),
            _ => {
                // Lost, until it is undone.
                tokio::spawn(undo(Self {
                    pooled: Some(pooled),
                    part: self.part.take(),
                    last: Statement::Lost,
                    ..*self
                }));
            }
        }
    }
}

/// Waits until all is answered that was asked, and undoes what was begun. Callers who leave and changes
/// that are refused are common, and connecting is dear.
async fn undo<DB: Driver>(mut given_up: Borrowed<DB>) {
    let transaction = given_up.transaction;
    let Some(pooled) = &mut given_up.pooled else {
        return;
    };
    let undoing = async {
        match transaction {
            Transaction::None => pooled.ping().await,
            Transaction::Open | Transaction::Failed => DB::run(pooled, "ROLLBACK").await,
        }
    };
    if let Ok(Ok(())) = timeout(given_up.patience, undoing).await {
        given_up.last = Statement::Answered;
        given_up.transaction = Transaction::None;
    }
}

/// Runs a statement on what is borrowed, and notes whether it was answered.
macro_rules! ask {
    ($borrowed:expr, $deadline:expr, $doubt:expr, |$connection:ident| $statement:expr) => {
        async {
            let borrowed: &mut $crate::store::connection::Borrowed<_> = $borrowed;
            let answer = {
                let $connection = borrowed.ask()?;
                $crate::store::tx::before($deadline, $doubt, $statement).await
            };
            borrowed.heard(&answer);
            answer
        }
        .await
    };
}
pub(crate) use ask;

/// How long a connection is kept before the pool may look at it again, or give it to others.
pub(super) const KEPT_FOR: Duration = Duration::from_millis(100);

/// The connection that statements use one after the other, as a lane of batches does on PostgreSQL:
/// what is given back to the pool is tried first, which costs both sides a good part of what a batch
/// does. Dropped, it gives the connection back. Whoever has one must use it: a pool may have no other.
pub(crate) struct Kept<DB: Driver = Postgres> {
    borrowed: Option<Borrowed<DB>>,
    /// Whether the pool had others when this one was kept.
    is_one_of_many: bool,
}

impl<DB: Driver> Default for Kept<DB> {
    fn default() -> Self {
        Self {
            borrowed: None,
            is_one_of_many: false,
        }
    }
}

impl<DB: Driver> Kept<DB> {
    pub(crate) async fn take_or_borrow(
        &mut self,
        pool: &SharedPool<DB>,
        deadline: Instant,
        database: &Database,
    ) -> Result<Borrowed<DB>, StoreError> {
        if let Some(borrowed) = self.borrowed.take() {
            let age = borrowed.since.elapsed();
            if age < KEPT_FOR && !database.doubt().was_cast_within(age) {
                return Ok(borrowed);
            }
        }
        Borrowed::from(pool, deadline, database).await
    }

    /// Keeps a connection that works for the next batch, unless others of the share may wait for it.
    pub(crate) fn keep(&mut self, borrowed: Borrowed<DB>, pool: &SharedPool<DB>) {
        if pool.has_parts_left() {
            self.borrowed = Some(borrowed);
            self.is_one_of_many =
                pool.num_idle() > 0 || pool.size() < pool.options().get_max_connections();
        }
    }

    /// Whether nobody waits for what is kept, so that it may lie unused for a moment.
    pub(crate) const fn may_rest(&self) -> bool {
        self.borrowed.is_some() && self.is_one_of_many
    }
}
