//! The PostgreSQL servers that hold the store, a primary and its replicas: which one is used.
//!
//! A fail-over promotes a replica, and nothing here can keep the old primary from being started
//! again: it takes writes as before, and lacks what was answered since. So each connection is asked
//! which copy of the data it leads to. Each promotion begins a new timeline: of the servers that take
//! writes the one with the highest is used, and none that is behind what is known. What is known is
//! kept by the instance in memory, and by the store for the next start.

mod acceptance;
mod admission;
pub(super) mod identity;
mod in_use;
mod refusal;
mod search;
mod seen;
mod survey;

use std::{
    io,
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sqlx::{ConnectOptions, Connection, PgConnection, PgPool, postgres::PgConnectOptions};
use tokio::time::{Instant, timeout};

use self::{
    identity::Identity,
    in_use::InUse,
    search::{Found, Writable, search},
    seen::Seen,
};
use super::{needs::refuse_unfit, pooler::refuse_sharing, postgres::Doubt};
use crate::config::{self, DatabaseUrl};

pub use self::acceptance::Accepted;
pub(crate) use self::{
    refusal::Refusal,
    survey::{Surveyed, survey},
};

/// How often all servers are asked when there are several and nothing has failed: an old primary that
/// is still there answers as ever while a replica is promoted.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// Connections that are tried at the start, beside the first: whatever hands them out may lead each to
/// another server.
const TRIALS: usize = 3;

/// How long after its admission a connection may count as made.
const ADMISSION: Duration = Duration::from_millis(50);

/// What a store is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To be used: it learns of the server that it is on.
    Use,
    /// To be looked at and left as it is.
    Look,
    /// To be used on whatever server it is.
    Accept,
}

/// The servers, in the order in which they are named. Clones share what is known of them.
#[derive(Clone, Debug)]
pub(crate) struct Servers {
    all: Arc<[PgConnectOptions]>,
    /// How long each of them is given to answer.
    deadline: Duration,
    purpose: Purpose,
    trials: usize,
    in_use: Arc<Mutex<InUse>>,
}

impl Servers {
    pub(super) fn new(
        settings: &config::Database,
        deadline: Duration,
        purpose: Purpose,
    ) -> Result<Self, sqlx::Error> {
        let now = Instant::now();
        let most = usize::try_from(settings.max_connections).unwrap_or(usize::MAX);
        Ok(Self {
            all: options_of(settings.places())?,
            deadline,
            purpose,
            trials: TRIALS.min(most),
            in_use: Arc::new(Mutex::new(InUse {
                index: 0,
                identity: None,
                sought: now,
                since: now,
                is_split: false,
                left: Vec::new(),
            })),
        })
    }

    /// Connects to the newest server that takes writes, which is the one in use from now on.
    ///
    /// # Errors
    /// When none does, or none may be used: with what is wrong with each.
    pub(super) async fn connect(&self) -> Result<(PgConnectOptions, PgConnection), sqlx::Error> {
        let sought = Instant::now();
        let mut found = self.search().await?;
        let options = self.all[found.newest.index].clone();
        let Writable {
            connection,
            identity,
            ..
        } = &mut found.newest;
        refuse_sharing(&options, connection, identity, self.trials).await?;
        within(self.deadline, refuse_unfit(connection)).await?;
        self.settle_on(&mut found).await?;
        self.use_from_now_on(&found, sought);
        Ok((options, found.newest.connection))
    }

    /// Lets the pool connect to the newest server that takes writes, when a connection has failed since
    /// that was last looked for, or it is time.
    pub(super) async fn choose(&self, pool: &PgPool, doubt: &Doubt) -> Result<(), sqlx::Error> {
        let sought = Instant::now();
        let before = self.in_use();
        let is_time = self.all.len() > 1 && before.sought.elapsed() >= LOOK_INTERVAL;
        if doubt.was_cast_before(before.sought) && !is_time && !before.is_split {
            return Ok(());
        }
        let mut found = match self.search().await {
            Ok(found) => found,
            Err(error) => {
                if self.note_split(&error) {
                    doubt.cast();
                }
                return Err(error);
            }
        };
        before.check_successor(&found.newest, &address(&self.all[found.newest.index]))?;
        self.settle_on(&mut found).await?;
        if self.use_from_now_on(&found, sought) {
            // Whoever keeps a connection asks for it.
            doubt.cast();
            // Also to the same place: whoever listens there connects anew.
            pool.set_connect_options(self.all[found.newest.index].clone());
        }
        found.newest.connection.close().await
    }

    async fn search(&self) -> Result<Found, sqlx::Error> {
        let in_use = self.in_use();
        let known = in_use.identity.map(Seen::from);
        search(&self.all, known, in_use.index, self.deadline).await
    }

    async fn settle_on(&self, found: &mut Found) -> Result<(), sqlx::Error> {
        let Writable {
            index,
            connection,
            identity,
        } = &mut found.newest;
        let place = address(&self.all[*index]);
        self.settle(connection, identity, &place).await
    }

    /// The server that the store is to know of, when that has a place for it.
    pub(super) fn to_be_noted(&self) -> Option<Identity> {
        self.in_use()
            .identity
            .filter(|_| self.purpose == Purpose::Use)
    }

    /// The server in use.
    pub(super) fn identity(&self) -> Option<Identity> {
        self.in_use().identity
    }

    /// Whether a connection of this age leads to a server that was given up.
    pub(super) fn were_changed_within(&self, age: Duration) -> bool {
        self.lock().since.elapsed() < age.saturating_add(ADMISSION)
    }

    /// Goes on with what was found, unless a newer one came into use meanwhile; whether that is
    /// another than before.
    fn use_from_now_on(&self, found: &Found, sought: Instant) -> bool {
        let Writable {
            index, identity, ..
        } = found.newest;
        let mut in_use = self.lock();
        let known = in_use.identity.map(Seen::from);
        if known.is_some_and(|known| known.timeline > identity.timeline) {
            return false;
        }
        let is_another = in_use.identity != Some(identity) || in_use.index != index;
        if is_another || in_use.is_split {
            in_use.since = Instant::now();
        }
        for (index, refusal) in &found.left {
            if !in_use.left.contains(index) {
                tracing::warn!(problem = %refusal, "a server that takes writes is not used");
            }
        }
        // Not one that was only started anew.
        let timeline = identity.timeline;
        let is_new = known.is_some_and(|known| known.timeline < timeline || in_use.index != index);
        if is_new {
            let server = address(&self.all[index]);
            tracing::warn!(server, timeline, "another server takes the writes now");
        }
        let left = found.left.iter().map(|(index, _)| *index);
        *in_use = InUse {
            index,
            identity: Some(identity),
            sought,
            since: in_use.since,
            is_split: false,
            left: left.collect(),
        };
        is_another
    }

    /// Lets no connection be used while two servers are as new: what one of them answers, the other
    /// does not know. Whether this was news.
    fn note_split(&self, error: &sqlx::Error) -> bool {
        let mut in_use = self.lock();
        let is_news = Refusal::is_split_brain(error) && !in_use.is_split;
        if is_news {
            (in_use.is_split, in_use.since) = (true, Instant::now());
        }
        is_news
    }

    fn place(&self) -> String {
        address(&self.all[self.in_use().index])
    }

    fn in_use(&self) -> InUse {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, InUse> {
        self.in_use.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Servers may be told to cut off who is idle, and a connection waits here for those beside it.
const STAY: &str = "\
SELECT set_config(name, '0', false) FROM pg_settings WHERE name = 'idle_session_timeout'";

/// A connection beside those of the pool.
pub(super) async fn connect(options: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    let mut connection = options.connect().await?;
    sqlx::raw_sql(STAY).execute(&mut connection).await?;
    Ok(connection)
}

async fn within<T>(
    deadline: Duration,
    asking: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    timeout(deadline, asking)
        .await
        .unwrap_or_else(|_| Err(sqlx::Error::Io(io::ErrorKind::TimedOut.into())))
}

fn options_of(urls: &[DatabaseUrl]) -> Result<Arc<[PgConnectOptions]>, sqlx::Error> {
    let option = |url: &DatabaseUrl| {
        let options = PgConnectOptions::from_str(url.expose())?;
        // It is what servers do by themselves, and PgBouncer refuses to be told.
        let options = options.extra_float_digits(None);
        Ok(options.application_name("mirrory"))
    };
    urls.iter().map(option).collect()
}

/// A server as it is called in the log.
fn address(options: &PgConnectOptions) -> String {
    let host = options.get_host();
    let place = options.get_socket().map_or_else(
        || format!("{host}:{}", options.get_port()),
        |socket| socket.display().to_string(),
    );
    match options.get_database() {
        Some(database) => format!("{place}/{database}"),
        None => place,
    }
}
