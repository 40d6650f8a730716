//! The PostgreSQL servers that hold the store, a primary and its replicas: which one takes writes.

use std::{
    io,
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sqlx::{
    ConnectOptions, Connection, PgConnection, PgPool, Row,
    postgres::{PgConnectOptions, PgRow},
};
use tokio::time::{Instant, timeout};

use super::{pooler::refuse_sharing, postgres::Doubt};
use crate::config;

/// The servers, in the order in which they are tried. Clones share what is known of them.
#[derive(Clone, Debug)]
pub(crate) struct Servers {
    all: Arc<[PgConnectOptions]>,
    /// How long each of them is given to answer.
    deadline: Duration,
    since: Arc<Mutex<Since>>,
}

#[derive(Clone, Copy, Debug)]
struct Since {
    /// When the search began that found the server in use.
    sought: Instant,
    /// When it came into use: a connection from before leads to another.
    used: Instant,
}

impl Servers {
    pub(super) fn new(
        settings: &config::Database,
        deadline: Duration,
    ) -> Result<Self, sqlx::Error> {
        let all: Result<Arc<[_]>, _> = settings
            .places()
            .iter()
            .map(|url| {
                let options = PgConnectOptions::from_str(url.expose())?;
                // It is what servers do by themselves, and PgBouncer refuses to be told.
                let options = options.extra_float_digits(None);
                Ok::<_, sqlx::Error>(options.application_name("mirrory"))
            })
            .collect();
        let now = Instant::now();
        Ok(Self {
            all: all?,
            deadline,
            since: Arc::new(Mutex::new(Since {
                sought: now,
                used: now,
            })),
        })
    }

    /// Connects to the first that takes writes.
    ///
    /// # Errors
    /// When none does: with what is wrong with each.
    pub(super) async fn connect(&self) -> Result<(PgConnectOptions, PgConnection), sqlx::Error> {
        let mut problems = Vec::new();
        for options in &*self.all {
            match timeout(self.deadline, connect_to_primary(options)).await {
                Ok(Ok(connection)) => return Ok((options.clone(), connection)),
                Ok(Err(error)) => problems.push((options, error)),
                Err(_) => problems.push((options, sqlx::Error::Io(io::ErrorKind::TimedOut.into()))),
            }
        }
        Err(together(problems))
    }

    /// Lets the pool connect to the first server that takes writes, when a connection has failed
    /// since that was last looked for.
    pub(super) async fn choose(&self, pool: &PgPool, doubt: &Doubt) -> Result<(), sqlx::Error> {
        let sought = Instant::now();
        if self.all.len() < 2 || doubt.was_cast_before(self.since().sought) {
            return Ok(());
        }
        let (found, connection) = self.connect().await?;
        let used = pool.connect_options();
        let is_other = address(&used) != address(&found);
        if is_other {
            tracing::warn!(server = %address(&found), "another server takes the writes now");
            pool.set_connect_options(found);
        }
        self.note(sought, is_other);
        connection.close().await
    }

    /// Whether a connection of this age leads to a server that was given up.
    pub(super) fn were_changed_within(&self, age: Duration) -> bool {
        self.since().used.elapsed() < age
    }

    fn note(&self, sought: Instant, is_other: bool) {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        since.sought = sought;
        if is_other {
            since.used = Instant::now();
        }
    }

    fn since(&self) -> Since {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn connect_to_primary(options: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    let mut connection = options.connect().await?;
    if !takes_writes(&mut connection).await? {
        connection.close().await?;
        return Err(read_only());
    }
    refuse_sharing(options, &mut connection).await?;
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

/// Another server may take writes, or this one later.
pub(super) fn read_only() -> sqlx::Error {
    sqlx::Error::Io(io::Error::other("the server is read-only, as a standby is"))
}

fn together(mut problems: Vec<(&PgConnectOptions, sqlx::Error)>) -> sqlx::Error {
    if let [_] = &*problems {
        return problems.remove(0).1;
    }
    let each: Vec<_> = problems
        .into_iter()
        .map(|(options, error)| format!("{}: {error}", address(options)))
        .collect();
    sqlx::Error::Io(io::Error::other(each.join("; ")))
}

fn address(options: &PgConnectOptions) -> String {
    let host = options.get_host();
    options.get_socket().map_or_else(
        || format!("{host}:{}", options.get_port()),
        |socket| socket.display().to_string(),
    )
}
