//! Changes: what every mutation writes in its own transaction. Each is a row of the audit log; one
//! that makes stale what instances have in memory is also in the change log, which they follow.
//!
//! Issuing, binding and charging are calls, not changes: no instance knows anything from memory
//! that they could make stale.

mod actor;
mod change;
mod site_change;

use std::str::FromStr;

use super::{
    Database, StoreError, Tx, affected,
    database::{Pools, with_connection},
    in_tx, read, write,
};
use crate::{
    audit::{self, Entry},
    config::DatabaseKind,
    types::{
        clock::Timestamp,
        ids::{SiteId, TokenId},
        randomness::Randomness,
    },
};

pub use self::{
    actor::{Actor, Context},
    change::{AccountChange, Change},
    site_change::{FieldChange, SiteChange},
};

/// A number is taken from a one-row counter and not from a sequence: a sequence gives a lower
/// number to one that commits later, and a follower that has read past it would never see it.
const NEXT_SEQ: &str = "UPDATE change_counter SET seq = seq + 1 WHERE id = 1 RETURNING seq";

const INSERT: &str = "INSERT INTO changes (seq, changed_at, actor, event, subject) \
                      VALUES ($1, $2, $3, $4, $5)";

/// Comes to the listeners with the commit. The server lets one commit that notifies in at a time, so
/// calls, which are many, never do.
const NOTIFY: &str = "SELECT pg_notify('mirrory_changes', '')";

/// Takes the lock that every mutation holds until its commit, so that what it reads before it
/// writes stays true: two rotations of one secret, or of the keys, follow each other. Whoever holds
/// it may ask for it again.
///
/// # Errors
/// When the store fails.
pub async fn lock(tx: &mut Tx) -> Result<(), StoreError> {
    if tx.holds_change_lock() {
        return Ok(());
    }
    in_tx!(tx, |connection| affected(
        sqlx::query("UPDATE change_counter SET seq = seq WHERE id = 1").execute(connection)
    ))?;
    tx.note_change_lock();
    Ok(())
}

/// Writes a change down, in the transaction that makes it. The one place through which every
/// mutation goes.
///
/// # Errors
/// When the store fails; the transaction is then of no use.
pub async fn record(
    tx: &mut Tx,
    by: &Context,
    change: &Change,
    now: Timestamp,
    randomness: &Randomness,
) -> Result<(), StoreError> {
    if change.is_followed() {
        append(tx, by.actor, change, now).await?;
    }
    audit::record(tx, &Entry::of_change(by, change, now, randomness)).await
}

async fn append(
    tx: &mut Tx,
    actor: Actor,
    change: &Change,
    now: Timestamp,
) -> Result<(), StoreError> {
    let (seq,): (i64,) = in_tx!(tx, |connection| sqlx::query_as(NEXT_SEQ)
        .fetch_one(connection))?;
    in_tx!(tx, |connection| affected(
        sqlx::query(INSERT)
            .bind(seq)
            .bind(now)
            .bind(actor.describe())
            .bind(change.event())
            .bind(change.subject())
            .execute(connection)
    ))?;
    tx.note(SeenChange {
        seq,
        event: change.event().to_owned(),
        subject: change.subject(),
    });
    notify(tx).await
}

async fn notify(tx: &mut Tx) -> Result<(), StoreError> {
    if tx.kind() == DatabaseKind::Postgres {
        in_tx!(tx, |connection| affected(
            sqlx::query(NOTIFY).execute(connection)
        ))?;
    }
    Ok(())
}

/// A change as a follower sees it.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct SeenChange {
    /// Its number: without a gap, in the order of the commits.
    pub seq: i64,
    /// What happened, as in `secret.rotated`.
    pub event: String,
    /// The id of what it happened to.
    pub subject: String,
}

impl SeenChange {
    /// Whether the signing keys are no longer what they were.
    #[must_use]
    pub fn is_of_keys(&self) -> bool {
        self.event.starts_with("key.")
    }

    /// Whether a site's secrets are no longer what they were.
    #[must_use]
    pub fn is_of_secrets(&self) -> bool {
        self.event.starts_with("secret.")
    }

    /// Whether anything may be no longer what it was.
    #[must_use]
    pub fn is_of_everything(&self) -> bool {
        self.event == change::IMPORTED
    }

    /// The site that is no longer what it was, if it is one; its tokens and secrets apart.
    #[must_use]
    pub fn site(&self) -> Option<SiteId> {
        self.subject_of("site.")
    }

    /// The site whose usage was set to nothing, if it is one.
    #[must_use]
    pub fn usage_of(&self) -> Option<SiteId> {
        self.subject_of("usage.")
    }

    /// The token that is no longer what it was, or where, if it is one.
    #[must_use]
    pub fn token(&self) -> Option<TokenId> {
        self.subject_of("token.")
            .or_else(|| self.subject_of("machine."))
    }

    fn subject_of<Id: FromStr>(&self, kind: &str) -> Option<Id> {
        let is_of_kind = self.event.starts_with(kind);
        is_of_kind.then(|| self.subject.parse().ok()).flatten()
    }
}

/// Where the log ends, and whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// The number of the newest change.
    pub seq: i64,
    /// When the server was started that told this, in its own microseconds; 0 on the embedded store.
    /// After a fail-over it is another's, which need not have all that the one before it had.
    pub server: i64,
}

/// The end of the log.
///
/// # Errors
/// When the store fails.
pub async fn end(database: &Database) -> Result<End, StoreError> {
    end_and_time(database).await.map(|(end, _)| end)
}

/// The end of the log, and what the store's own clock says; or of the embedded store, which has none
/// but ours, the greatest time that it has seen, 0 before the first.
pub(super) async fn end_and_time(database: &Database) -> Result<(End, Timestamp), StoreError> {
    let (seq, server, time) = match database.pools() {
        Pools::Postgres(pool) => with_connection!(database, pool, |connection| sqlx::query_as(
            "SELECT seq, (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint, \
             (extract(epoch FROM clock_timestamp()) * 1000000)::bigint \
             FROM change_counter WHERE id = 1"
        )
        .fetch_one(connection))?,
        Pools::Sqlite { readers, .. } => {
            with_connection!(database, readers, |connection| sqlx::query_as(
                "SELECT seq, 0, (SELECT seen_at FROM store_clock WHERE id = 1) \
                 FROM change_counter WHERE id = 1"
            )
            .fetch_one(connection))?
        }
    };
    Ok((End { seq, server }, time))
}

/// The changes after number `seq`, oldest first, at most `limit` of them.
///
/// # Errors
/// When the store fails.
pub async fn after(
    database: &Database,
    seq: i64,
    limit: i64,
) -> Result<Vec<SeenChange>, StoreError> {
    read!(database, |connection| sqlx::query_as(
        "SELECT seq, event, subject FROM changes WHERE seq > $1 ORDER BY seq LIMIT $2"
    )
    .bind(seq)
    .bind(limit)
    .fetch_all(connection))
}

/// Removes up to `limit` changes made before `cutoff`, but never the newest one: a follower knows
/// by it that it has missed some.
///
/// # Errors
/// When the store fails.
pub async fn sweep(database: &Database, cutoff: Timestamp, limit: i64) -> Result<u64, StoreError> {
    write!(database, |connection| affected(
        sqlx::query(
            "DELETE FROM changes WHERE seq IN (SELECT seq FROM changes WHERE changed_at < $1 \
         AND seq < (SELECT seq FROM change_counter WHERE id = 1) ORDER BY seq LIMIT $2)"
        )
        .bind(cutoff)
        .bind(limit)
        .execute(connection)
    ))
}
