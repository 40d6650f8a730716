//! The two databases behind one face.

use std::{
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use sqlx::{Pool, Postgres, Sqlite};

use super::{
    StoreError,
    changes::SeenChange,
    follower::Followers,
    observed::Observed,
    postgres::{self, Doubt},
    servers::{Purpose, Servers},
    shares::SharedPool,
    sqlite,
};
use crate::{
    config::{self, DatabaseKind},
    error::Chain,
    types::clock::Timestamp,
};

/// How long a server waits for one statement or transaction before it answers 503. What is done in
/// batches waits for its turn before that, for at most half as long.
pub const SERVING_DEADLINE: Duration = Duration::from_secs(1);

/// How long a command waits: it has no caller to answer within a second, and on the embedded store
/// it may stand behind a busy server's writes.
pub const COMMAND_DEADLINE: Duration = Duration::from_secs(10);

/// How the connections of a pool are used.
pub(crate) struct PoolUse {
    pub(crate) name: &'static str,
    pub(crate) busy: usize,
    pub(crate) idle: usize,
    pub(crate) most: usize,
}

impl PoolUse {
    fn of<DB: sqlx::Database>(name: &'static str, pool: &Pool<DB>) -> Self {
        let open = usize::try_from(pool.size()).unwrap_or(usize::MAX);
        let idle = pool.num_idle();
        let most = pool.options().get_max_connections();
        Self {
            name,
            busy: open.saturating_sub(idle),
            idle,
            most: usize::try_from(most).unwrap_or(usize::MAX),
        }
    }
}

/// An open store. Clones share its connections.
#[derive(Clone, Debug)]
pub struct Database(Arc<Open>);

#[derive(Debug)]
struct Open {
    pools: Pools,
    deadline: Duration,
    doubt: Doubt,
    /// Of PostgreSQL.
    servers: Option<Servers>,
    /// Who keeps a part of the store in memory. Weak, since they hold the database.
    followers: OnceLock<Weak<Followers>>,
    observed: Observed,
}

/// The connections. SQLite lets one writer in at a time, so it has one connection to write with;
/// a second one would only wait for it inside SQLite, where nothing is fair.
#[derive(Clone, Debug)]
pub enum Pools {
    /// PostgreSQL.
    Postgres(SharedPool<Postgres>),
    /// The embedded store.
    Sqlite {
        /// The one connection that writes.
        writer: SharedPool<Sqlite>,
        /// The connections that read.
        readers: SharedPool<Sqlite>,
    },
}

impl Database {
    /// Opens the store that `settings` names, without a look at its tables. Each later call is
    /// given `deadline`.
    ///
    /// # Errors
    /// When the store cannot be reached within the deadline, or the embedded one not be made.
    pub async fn open(settings: &config::Database, deadline: Duration) -> Result<Self, StoreError> {
        Self::open_to(Purpose::Use, settings, deadline).await
    }

    /// Opens the store to be looked at, so that not even that changes it, or to be accepted.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(crate) async fn open_to(
        purpose: Purpose,
        settings: &config::Database,
        deadline: Duration,
    ) -> Result<Self, StoreError> {
        let doubt = Doubt::new();
        let opened = match (settings.kind(), purpose) {
            (DatabaseKind::Postgres, _) => open_postgres(settings, deadline, purpose, &doubt).await,
            (DatabaseKind::Sqlite, Purpose::Look) => {
                let pools = sqlite::open_read_only(settings, deadline).await;
                pools.map(|pools| (pools, None))
            }
            (DatabaseKind::Sqlite, Purpose::Use | Purpose::Accept) => {
                let pools = sqlite::open(settings, deadline).await;
                pools.map(|pools| (pools, None))
            }
        };
        Self::of(opened, deadline, doubt)
    }

    fn of(opened: Opened, deadline: Duration, doubt: Doubt) -> Result<Self, StoreError> {
        let (pools, servers) = opened.map_err(StoreError::of_connecting)?;
        Ok(Self(Arc::new(Open {
            pools,
            deadline,
            doubt,
            servers,
            followers: OnceLock::new(),
            observed: Observed::default(),
        })))
    }

    /// Goes over to the newest server of `database.urls` that takes writes, when a connection has
    /// failed since that was last looked for, or it is time to look.
    ///
    /// # Errors
    /// When none of them may be used; each later call looks again.
    pub async fn choose_server(&self) -> Result<(), StoreError> {
        if let (Pools::Postgres(pool), Some(servers)) = (self.pools(), &self.0.servers) {
            let chosen = servers.choose(pool, self.doubt()).await;
            chosen.map_err(StoreError::of_connecting)?;
        }
        Ok(())
    }

    /// The servers of PostgreSQL that hold the store.
    pub(super) fn servers(&self) -> Option<&Servers> {
        self.0.servers.as_ref()
    }

    pub(crate) fn pools(&self) -> &Pools {
        &self.0.pools
    }

    pub(crate) fn deadline(&self) -> Duration {
        self.0.deadline
    }

    pub(crate) fn doubt(&self) -> &Doubt {
        &self.0.doubt
    }

    pub(super) fn observed(&self) -> &Observed {
        &self.0.observed
    }

    /// Says who is to hear of the changes that are made through this database; the first call holds.
    pub(super) fn followed_by(&self, followers: &Arc<Followers>) {
        let _first = self.0.followers.set(Arc::downgrade(followers));
    }

    /// Tells the followers of changes that were made. Should one fail, it takes them in when the
    /// log is read the next time.
    pub(super) async fn announce(&self, changes: &[SeenChange]) {
        let followers = self.0.followers.get().and_then(Weak::upgrade);
        if let Some(followers) = followers.filter(|_| !changes.is_empty())
            && let Err(error) = followers.apply(changes).await
        {
            tracing::warn!(error = %Chain(&error), "a change is not yet taken in by who made it");
        }
    }

    /// Which of the two databases this is.
    #[must_use]
    pub fn kind(&self) -> DatabaseKind {
        match self.pools() {
            Pools::Postgres(_) => DatabaseKind::Postgres,
            Pools::Sqlite { .. } => DatabaseKind::Sqlite,
        }
    }

    /// What the store's own clock says; also the cheapest proof that the store answers.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn now(&self) -> Result<Timestamp, StoreError> {
        let (now,): (Timestamp,) = match self.pools() {
            Pools::Postgres(pool) => with_connection!(self, pool, |connection| sqlx::query_as(
                "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
            )
            .fetch_one(connection))?,
            Pools::Sqlite { readers, .. } => {
                with_connection!(self, readers, |connection| sqlx::query_as(
                    "SELECT CAST(unixepoch('subsec') * 1000000 AS INTEGER)"
                )
                .fetch_one(connection))?
            }
        };
        Ok(now)
    }

    /// How its connections are used, pool by pool.
    pub(crate) fn pool_use(&self) -> Vec<PoolUse> {
        match self.pools() {
            Pools::Postgres(pool) => vec![PoolUse::of("postgres", pool)],
            Pools::Sqlite { writer, readers } => vec![
                PoolUse::of("sqlite_writer", writer),
                PoolUse::of("sqlite_readers", readers),
            ],
        }
    }

    /// Closes every connection once what runs on it has ended.
    pub async fn close(&self) {
        match self.pools() {
            Pools::Postgres(pool) => pool.close().await,
            Pools::Sqlite { writer, readers } => {
                readers.close().await;
                writer.close().await;
            }
        }
    }
}

type Opened = Result<(Pools, Option<Servers>), sqlx::Error>;

async fn open_postgres(
    settings: &config::Database,
    deadline: Duration,
    purpose: Purpose,
    doubt: &Doubt,
) -> Opened {
    let servers = Servers::new(settings, deadline, purpose)?;
    let pool = postgres::open(&servers, settings.max_connections, deadline, doubt).await?;
    Ok((Pools::Postgres(SharedPool::of_many(pool)), Some(servers)))
}

/// Runs a statement on a connection of `pool`, all before `deadline`, or within the database's own.
macro_rules! with_connection {
    ($database:expr, $pool:expr, |$connection:ident| $statement:expr) => {
        $crate::store::database::with_connection!(
            $database,
            $pool,
            tokio::time::Instant::now() + $database.deadline(),
            |$connection| $statement
        )
    };
    ($database:expr, $pool:expr, $deadline:expr, |$connection:ident| $statement:expr) => {{
        let mut kept = $crate::store::connection::Kept::default();
        $crate::store::database::with_kept_connection!(
            &mut kept,
            $database,
            $pool,
            $deadline,
            |$connection| $statement
        )
    }};
}

/// The same on the connection that a lane of batches keeps; see [`Kept`](super::connection::Kept).
macro_rules! with_kept_connection {
    ($kept:expr, $database:expr, $pool:expr, $deadline:expr, |$connection:ident| $statement:expr) => {
        // On the heap, for it is large: else every call would carry the room, also one that is
        // answered from memory.
        Box::pin(async {
            use $crate::store::connection::ask;
            let database: &$crate::store::Database = &$database;
            let kept: &mut $crate::store::connection::Kept<_> = $kept;
            let deadline = $deadline;
            let mut borrowed = kept.take_or_borrow($pool, deadline, database).await?;
            let doubt = database.doubt();
            let answer = ask!(&mut borrowed, deadline, doubt, |$connection| $statement);
            if answer.is_ok() {
                kept.keep(borrowed, $pool);
            } else {
                database.note_write(&answer);
            }
            answer
        })
        .await
    };
}

pub(crate) use {with_connection, with_kept_connection};
