//! PostgreSQL: its connections, and which of them may be dead.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sqlx::{Connection, PgConnection, PgPool, Row, error::DatabaseError, postgres::PgPoolOptions};
use tokio::time::Instant;

use super::servers::Servers;

/// When a connection last failed. One that has lain idle since before then may be just as dead, and
/// is tried before it is used; else a restart of the server would cost one failed call for each.
#[derive(Clone, Debug)]
pub(crate) struct Doubt(Arc<Mutex<Instant>>);

impl Doubt {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    pub(crate) fn cast(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn concerns(&self, idle_for: Duration) -> bool {
        let cast = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        idle_for > TRUSTED_IDLE || idle_for >= cast.elapsed()
    }

    pub(super) fn was_cast_before(&self, moment: Instant) -> bool {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) < moment
    }

    pub(super) fn was_cast_within(&self, time: Duration) -> bool {
        let cast = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cast.elapsed() <= time
    }
}

/// How long a connection may lie idle and be used without a trial.
const TRUSTED_IDLE: Duration = Duration::from_secs(1);

/// Opens a pool of connections, and one of them at once, to tell what is wrong.
pub(super) async fn open(
    servers: &Servers,
    max_connections: u32,
    deadline: Duration,
    doubt: &Doubt,
) -> Result<PgPool, sqlx::Error> {
    let [doubt_at_first, doubt, doubt_at_end] = [doubt.clone(), doubt.clone(), doubt.clone()];
    let [admitting, servers] = [servers.clone(), servers.clone()];
    // The pool tries a refused connection again until the deadline, and then tells that it was
    // late and not why.
    let (options, first) = servers.connect().await?;
    first.close().await?;
    let pool = PgPoolOptions::new()
        .max_connections(max_connections)
        .acquire_timeout(deadline)
        .test_before_acquire(false)
        .after_connect(move |connection, _| {
            let (doubt, servers) = (doubt_at_first.clone(), admitting.clone());
            Box::pin(async move {
                prepare(connection, deadline).await?;
                // Last, for servers may change meanwhile. Refused, it is tried again until the
                // deadline, and maybe elsewhere by then.
                let admitted = servers.admit(connection, &doubt).await;
                admitted.inspect_err(|_| doubt.cast())
            })
        })
        .before_acquire(move |connection, metadata| {
            let is_left = servers.were_changed_within(metadata.age);
            let doubtful = doubt.concerns(metadata.idle_for);
            Box::pin(async move { Ok(!is_left && (!doubtful || takes_writes(connection).await?)) })
        })
        // The pool tries what is given back and waits for the answer without end: a transaction
        // whose connection fell silent would keep its place for good.
        .after_release(move |connection, _| {
            let doubtful = doubt_at_end.was_cast_within(deadline);
            Box::pin(async move {
                if !doubtful {
                    return Ok(true);
                }
                let trial = tokio::time::timeout(deadline, takes_writes(connection));
                trial.await.map_err(|_| sqlx::Error::PoolTimedOut)?
            })
        })
        .connect_lazy_with(options);
    Ok(pool)
}

/// Whether the server of a connection takes writes still.
async fn takes_writes(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let row = sqlx::raw_sql("SHOW transaction_read_only")
        .fetch_one(connection)
        .await?;
    Ok(row.try_get::<&str, _>(0)? == "off")
}

/// What all statements here rely on, also where the role, the database or the server was told
/// otherwise. The driver does the same for the encoding, the time zone and the form of dates.
///
/// Two settings are left to the operator: `search_path`, which says where the tables are, and
/// `default_transaction_read_only`, by which a server is told to take no writes.
const RELIED_ON: [(&str, &str); 4] = [
    // A statement that waited for a row goes on with what it has become. With more isolation it
    // would fail, and so would most that meet.
    ("default_transaction_isolation", "read committed"),
    ("lock_timeout", "0"),
    ("standard_conforming_strings", "on"),
    // Errors are told all the same. Undoing what was never begun would be a warning.
    ("client_min_messages", "error"),
];

/// Settings that younger servers have, and since which version: they would cut a connection that is
/// idle, or a transaction before its own deadline.
const RELIED_ON_SINCE: [(u32, &str, &str); 2] = [
    (140_000, "idle_session_timeout", "0"),
    (170_000, "transaction_timeout", "0"),
];

/// Every statement here finds its few rows by an index. A plan that reads a table whole, made while
/// it is small, would be kept while the table grows, until the server comes to analyze it. Where a
/// small table must be read whole, its plan now looks so dear that the server would compile it to
/// machine code first, for a tenth of a second.
const PLANS: [(&str, &str); 8] = [
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("enable_nestloop", "on"),
    ("enable_indexscan", "on"),
    ("enable_partition_pruning", "on"),
    ("plan_cache_mode", "auto"),
    ("jit", "off"),
];

/// What is committed survives a crash of the server, or it would not have been answered: where that
/// was turned off for the role or the database, commits are as the server's replication wants them.
const SET: &str = "\
SELECT set_config(name, value, false) FROM unnest($1::TEXT[], $2::TEXT[]) AS told (name, value) \
UNION ALL \
SELECT set_config('synchronous_commit', 'on', false) \
WHERE current_setting('synchronous_commit') = 'off'";

/// Makes a connection fit for the statements here.
///
/// Every statement has an end on the server, too: one that we gave up waiting for would go on there,
/// hold its place, and take effect when its caller was told that it failed.
async fn prepare(connection: &mut PgConnection, deadline: Duration) -> Result<(), sqlx::Error> {
    let statement = format!("{}ms", deadline.mul_f32(0.9).as_millis());
    let transaction = format!("{}ms", deadline.saturating_mul(2).as_millis());
    let ends = [
        ("statement_timeout", &*statement),
        ("idle_in_transaction_session_timeout", &*transaction),
    ];
    set(connection, ends.into_iter().chain(PLANS)).await
}

/// Makes a connection fit for what may take long and reads tables whole.
pub(super) async fn unprepare(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::raw_sql("RESET ALL").execute(&mut *connection).await?;
    let ends = ["statement_timeout", "idle_in_transaction_session_timeout"];
    set(connection, ends.map(|end| (end, "0"))).await
}

/// Sets these, and what is relied on besides.
pub(super) async fn set(
    connection: &mut PgConnection,
    settings: impl IntoIterator<Item = (&str, &str)>,
) -> Result<(), sqlx::Error> {
    let version = connection.server_version_num().unwrap_or_default();
    let known = RELIED_ON_SINCE
        .into_iter()
        .filter(|(since, ..)| version >= *since);
    let relied_on = known.map(|(_, name, value)| (name, value)).chain(RELIED_ON);
    let (names, values): (Vec<_>, Vec<_>) = settings.into_iter().chain(relied_on).unzip();
    sqlx::query(SET)
        .bind(names)
        .bind(values)
        .execute(connection)
        .await?;
    Ok(())
}

/// Ends a statement that waits for a lock for so long; where one waits, all that come later wait
/// behind it.
pub(super) async fn limit_waiting(
    connection: &mut PgConnection,
    patience: Duration,
) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT set_config('lock_timeout', $1, false)")
        .bind(format!("{}ms", patience.as_millis()))
        .execute(connection)
        .await?;
    Ok(())
}

/// Whether a statement was ended because it waited for a lock for too long.
pub(super) fn waited_too_long(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(DatabaseError::code);
    code.is_some_and(|code| code == "55P03")
}
