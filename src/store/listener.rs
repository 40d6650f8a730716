//! Hears at once, on PostgreSQL, that the change log has grown.
//!
//! It only makes the follower look sooner than it would have done by itself, so a notification that
//! is lost does no harm.

use std::{io, sync::Arc, time::Duration};

use prometheus::IntGauge;
use sqlx::{
    Acquire, Connection, PgPool, Pool,
    postgres::{PgConnectOptions, PgListener, PgPoolOptions},
};
use tokio::time::{Instant, sleep, timeout};

use super::{Database, StoreError, database::Pools, postgres};
use crate::{error::Chain, telemetry::metrics::Metrics};

/// Where [`super::changes::record`] says that there is something new.
const CHANNEL: &str = "mirrory_changes";

/// How long a connection may be silent before it is tried: one that died without a word looks like
/// one that has nothing to tell.
pub const TRUSTED_SILENCE: Duration = Duration::from_secs(10);

const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Listens on a connection of its own, which counts towards no pool.
pub struct Listener {
    pool: PgPool,
    deadline: Duration,
    trusted_silence: Duration,
    listening: Option<IntGauge>,
}

impl Listener {
    /// A listener beside the connections of `database`; none on the embedded store, which has no
    /// such thing.
    #[must_use]
    pub fn new(database: &Database, trusted_silence: Duration) -> Option<Self> {
        let Pools::Postgres(pool) = database.pools() else {
            return None;
        };
        Some(Self {
            pool: Pool::clone(pool),
            deadline: database.deadline(),
            trusted_silence,
            listening: None,
        })
    }

    /// The same listener, and whether it hears anything is told.
    #[must_use]
    pub fn measured_by(self, metrics: &Metrics) -> Self {
        Self {
            listening: metrics.change_listener(),
            ..self
        }
    }

    /// Calls `wake` when something new is in the log, or may be: also each time that the connection
    /// was lost and is there again. Ends only by being dropped.
    pub async fn run(&self, wake: impl Fn()) {
        let mut is_lost = false;
        let mut pause = SHORTEST_PAUSE;
        loop {
            let error = match self.connect().await {
                Ok((connection, server)) => {
                    if is_lost {
                        tracing::info!("changes made by others are heard of at once again");
                    }
                    is_lost = false;
                    self.tell(true);
                    wake();
                    let begun = Instant::now();
                    let error = self.hear(connection, &server, &wake).await;
                    // One that is dropped as soon as it was made is not tried ten times a second.
                    if begun.elapsed() > LONGEST_PAUSE {
                        pause = SHORTEST_PAUSE;
                    }
                    error
                }
                Err(error) => error,
            };
            if !is_lost {
                tracing::warn!(
                    error = %Chain(&error),
                    "changes made by others are not heard of at once, but still found by looking"
                );
            }
            is_lost = true;
            self.tell(false);
            sleep(pause).await;
            pause = LONGEST_PAUSE.min(pause * 2);
        }
    }

    fn tell(&self, is_listening: bool) {
        if let Some(listening) = &self.listening {
            listening.set(is_listening.into());
        }
    }

    /// Connects to the server that the others are connected to, and says which it is.
    async fn connect(&self) -> Result<(PgListener, Arc<PgConnectOptions>), StoreError> {
        let server = self.pool.connect_options();
        let options = server.as_ref().clone();
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .max_lifetime(None)
            .idle_timeout(None)
            .acquire_timeout(self.deadline)
            .after_connect(|connection, _| Box::pin(postgres::set(connection, [])))
            .connect_lazy_with(options.application_name("mirrory listener"));
        let connecting = async {
            let mut connection = PgListener::connect_with(&pool).await?;
            connection.eager_reconnect(false);
            connection.listen(CHANNEL).await?;
            Ok((connection, server))
        };
        timeout(self.deadline, connecting)
            .await
            .unwrap_or(Err(sqlx::Error::PoolTimedOut))
            .map_err(StoreError::of_connecting)
    }

    /// Passes on what comes until the connection is lost, or leads to a server that was given up, and
    /// says how.
    async fn hear(
        &self,
        mut connection: PgListener,
        server: &Arc<PgConnectOptions>,
        wake: &impl Fn(),
    ) -> StoreError {
        loop {
            if !Arc::ptr_eq(server, &self.pool.connect_options()) {
                let given_up = io::Error::other("another server takes the writes now");
                return sqlx::Error::Io(given_up).into();
            }
            let heard = timeout(self.trusted_silence, connection.try_recv()).await;
            match heard {
                Ok(Ok(Some(_))) => wake(),
                // It would connect again by itself, and nobody would know what it missed.
                Ok(Ok(None)) => return sqlx::Error::Io(io::ErrorKind::UnexpectedEof.into()).into(),
                Ok(Err(error)) => return error.into(),
                Err(_silence) => {
                    if let Err(error) = self.try_out(&mut connection).await {
                        return error;
                    }
                }
            }
        }
    }

    async fn try_out(&self, connection: &mut PgListener) -> Result<(), StoreError> {
        let trial = async { connection.acquire().await?.ping().await };
        match timeout(self.deadline, trial).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(StoreError::Timeout),
        }
    }
}
