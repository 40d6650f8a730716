//! The PostgreSQL servers that hold the store, a primary and its replicas: which one takes writes.

use std::{
    io, iter,
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sqlx::{
    ConnectOptions, Connection, PgConnection, PgPool, Row,
    postgres::{PgConnectOptions, PgRow},
};
use tokio::time::{Instant, timeout};

use super::{StoreError, pooler::refuse_sharing, postgres::Doubt};
use crate::{
    config::{self, DatabaseUrl},
    error::Chain,
};

/// The servers, in the order in which they are tried. Clones share what is known of them.
#[derive(Clone, Debug)]
pub(crate) struct Servers {
    all: Arc<[PgConnectOptions]>,
    /// How long each of them is given to answer.
    deadline: Duration,
    in_use: Arc<Mutex<InUse>>,
}

/// The server that the pool connects to.
#[derive(Clone, Copy, Debug)]
struct InUse {
    /// Its place among all: two may have one address, and lead to different ones by their options.
    index: usize,
    /// When the search began that found it.
    sought: Instant,
    /// When it came into use: a connection from before leads to another.
    since: Instant,
}

impl Servers {
    pub(super) fn new(
        settings: &config::Database,
        deadline: Duration,
    ) -> Result<Self, sqlx::Error> {
        let all: Result<Arc<[_]>, _> = settings.places().iter().map(options_of).collect();
        let now = Instant::now();
        Ok(Self {
            all: all?,
            deadline,
            in_use: Arc::new(Mutex::new(InUse {
                index: 0,
                sought: now,
                since: now,
            })),
        })
    }

    /// Connects to the first server that takes writes, which is the one in use from now on.
    ///
    /// # Errors
    /// When none does: with what is wrong with each. When it shares its sessions.
    pub(super) async fn connect(&self) -> Result<(PgConnectOptions, PgConnection), sqlx::Error> {
        let sought = Instant::now();
        let (index, mut connection) = self.search().await?;
        let options = self.all[index].clone();
        refuse_sharing(&options, &mut connection).await?;
        self.use_from_now_on(index, sought);
        Ok((options, connection))
    }

    /// Lets the pool connect to a server that takes writes, when a connection has failed since that
    /// was last looked for.
    pub(super) async fn choose(&self, pool: &PgPool, doubt: &Doubt) -> Result<(), sqlx::Error> {
        let sought = Instant::now();
        let InUse {
            index,
            sought: before,
            ..
        } = self.in_use();
        if self.all.len() < 2 || doubt.was_cast_before(before) {
            return Ok(());
        }
        let (found, connection) = self.search().await?;
        if found != index {
            let options = self.all[found].clone();
            tracing::warn!(server = %address(&options), "another server takes the writes now");
            pool.set_connect_options(options);
        }
        self.use_from_now_on(found, sought);
        connection.close().await
    }

    /// Connects to the server in use if it takes writes, else to the first that does.
    ///
    /// One that was given up may come back and take writes, too, without what was answered since:
    /// no connection that is lost may lead back to it.
    async fn search(&self) -> Result<(usize, PgConnection), sqlx::Error> {
        let mut problems = Vec::new();
        let in_use = self.in_use().index;
        let others = (0..self.all.len()).filter(|index| *index != in_use);
        for index in iter::once(in_use).chain(others) {
            let options = &self.all[index];
            match timeout(self.deadline, connect_to_primary(options)).await {
                Ok(Ok(connection)) => return Ok((index, connection)),
                Ok(Err(error)) => problems.push((options, error)),
                Err(_) => problems.push((options, sqlx::Error::Io(io::ErrorKind::TimedOut.into()))),
            }
        }
        Err(together(problems))
    }

    /// Whether a connection of this age leads to a server that was given up.
    pub(super) fn were_changed_within(&self, age: Duration) -> bool {
        self.in_use().since.elapsed() < age
    }

    fn use_from_now_on(&self, index: usize, sought: Instant) {
        let mut in_use = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        if in_use.index != index {
            in_use.since = Instant::now();
        }
        (in_use.index, in_use.sought) = (index, sought);
    }

    fn in_use(&self) -> InUse {
        *self.in_use.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn options_of(url: &DatabaseUrl) -> Result<PgConnectOptions, sqlx::Error> {
    let options = PgConnectOptions::from_str(url.expose())?;
    // It is what servers do by themselves, and PgBouncer refuses to be told.
    let options = options.extra_float_digits(None);
    Ok(options.application_name("mirrory"))
}

/// Whether the server that one URL names takes writes.
///
/// # Errors
/// When it does not answer in time, or refuses.
pub(crate) async fn ask(url: &DatabaseUrl, deadline: Duration) -> Result<bool, StoreError> {
    let asking = async {
        let mut connection = options_of(url)?.connect().await?;
        let takes_writes = takes_writes(&mut connection).await?;
        connection.close().await?;
        Ok(takes_writes)
    };
    let asked = timeout(deadline, asking).await;
    asked
        .unwrap_or_else(|_| Err(sqlx::Error::Io(io::ErrorKind::TimedOut.into())))
        .map_err(StoreError::of_connecting)
}

async fn connect_to_primary(options: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    let mut connection = options.connect().await?;
    if !takes_writes(&mut connection).await? {
        connection.close().await?;
        return Err(read_only());
    }
    Ok(connection)
}

/// Whether a server takes writes: sessions of a standby are read-only, and so are those of a server
/// that was told to be.
pub(super) async fn takes_writes(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let row: PgRow = sqlx::raw_sql("SHOW transaction_read_only")
        .fetch_one(connection)
        .await?;
    Ok(row.try_get::<&str, _>(0)? == "off")
}

/// That a server answers, and takes no writes.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct ReadOnly(String);

/// Another server may take writes, or this one later.
pub(super) fn read_only() -> sqlx::Error {
    read_only_saying("the server is read-only, as a standby is".to_owned())
}

fn read_only_saying(problem: String) -> sqlx::Error {
    sqlx::Error::Io(io::Error::other(ReadOnly(problem)))
}

/// Whether the store could not be opened because a server that answers takes no writes.
pub(super) fn is_read_only(error: &sqlx::Error) -> bool {
    let sqlx::Error::Io(error) = error else {
        return false;
    };
    matches!(error.get_ref(), Some(cause) if cause.is::<ReadOnly>())
}

fn together(mut problems: Vec<(&PgConnectOptions, sqlx::Error)>) -> sqlx::Error {
    if let [_] = &*problems {
        return problems.remove(0).1;
    }
    let any_is_read_only = problems.iter().any(|(_, error)| is_read_only(error));
    let each: Vec<_> = problems
        .into_iter()
        .map(|(options, error)| format!("{}: {}", address(options), Chain(&error)))
        .collect();
    let each = each.join("; ");
    if any_is_read_only {
        read_only_saying(each)
    } else {
        sqlx::Error::Io(io::Error::other(each))
    }
}

fn address(options: &PgConnectOptions) -> String {
    let host = options.get_host();
    options.get_socket().map_or_else(
        || format!("{host}:{}", options.get_port()),
        |socket| socket.display().to_string(),
    )
}
