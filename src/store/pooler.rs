//! A pooler, such as PgBouncer, may stand before PostgreSQL: whether it leaves us our sessions, and
//! all on one server.

use std::{io, time::Duration};

use futures_util::future::try_join_all;
use sqlx::{Connection, PgConnection, Row, postgres::PgConnectOptions};
use tokio::time::timeout;

use super::servers::{
    Refusal, connect,
    identity::{Identity, are_on_one_server, identify},
};

/// Why the service does not start over a pooler that shares sessions. With one, settings and prepared
/// statements would be another client's at the next transaction, and nothing would be heard of
/// changes.
#[derive(Debug, thiserror::Error)]
#[error(
    "a pooler before the server hands its sessions on between transactions: set PgBouncer's \
     pool_mode to session, or name the server itself in database.url"
)]
struct SharesSessions;

/// Other clients of a pooler may come between two statements here, and hide once what it does.
const TRIALS: usize = 3;

/// How long they may take in all: some thirty answers, of a server that may be far away.
const PATIENCE: Duration = Duration::from_secs(5);

/// Refuses a connection whose session serves others between its transactions, and one beside which
/// others, of which as many are made as `trials`, lead to another server.
pub(super) async fn refuse_sharing(
    options: &PgConnectOptions,
    connection: &mut PgConnection,
    identity: &Identity,
    trials: usize,
) -> Result<(), sqlx::Error> {
    let trying = async {
        // At once, for a balancer may look at who has the fewest.
        let others = try_join_all((0..trials).map(|_| connect(options))).await?;
        for mut other in others {
            for _ in 0..TRIALS {
                if is_shared(connection, &mut other).await? {
                    return Err(sqlx::Error::Configuration(SharesSessions.into()));
                }
            }
            if identify(&mut other).await?.as_ref() != Some(identity)
                || !are_on_one_server(connection, &mut other).await?
            {
                return Err(Refusal::spread().into());
            }
            other.close().await?;
        }
        Ok(())
    };
    timeout(PATIENCE, trying)
        .await
        .unwrap_or_else(|_| Err(sqlx::Error::Io(io::ErrorKind::TimedOut.into())))
}

/// Whether another client can take the session that was ours a moment ago, or that makes us take
/// another one.
async fn is_shared(
    connection: &mut PgConnection,
    other: &mut PgConnection,
) -> Result<bool, sqlx::Error> {
    let ours = session(connection).await?;
    let mut transaction = other.begin().await?;
    let is_shared = session(&mut transaction).await? == ours || session(connection).await? != ours;
    transaction.rollback().await?;
    Ok(is_shared)
}

/// As a plain text: a prepared one would need the session that it was prepared in.
async fn session(connection: &mut PgConnection) -> Result<i32, sqlx::Error> {
    let asking = sqlx::raw_sql("SELECT pg_backend_pid()").fetch_one(connection);
    asking.await?.try_get(0)
}
