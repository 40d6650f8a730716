//! The change log: what every mutation writes in its own transaction, and every instance follows.
//!
//! Issuing, binding and charging are calls, not changes: no instance knows anything from memory
//! that they could make stale.

use std::str::FromStr;

use super::{
    Database, StoreError, Tx, affected, in_tx, read,
    tx::{Inner, before},
    write,
};
use crate::types::{
    clock::Timestamp,
    ids::{SiteId, TokenId},
};

/// Who makes a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// Who runs the service, through the command line.
    Operator,
    /// A site's proxy, with a secret of the site.
    Site(SiteId),
    /// The service itself, at its start.
    Service,
}

impl Actor {
    fn describe(self) -> String {
        match self {
            Self::Operator => "operator".to_owned(),
            Self::Site(site_id) => site_id.to_string(),
            Self::Service => "service".to_owned(),
        }
    }
}

/// What was changed. The names are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A site was made.
    SiteCreated(SiteId),
    /// A site's plan was set, or it was resumed.
    SiteUpdated(SiteId),
    /// A site was suspended.
    SiteSuspended(SiteId),
    /// A site was deleted.
    SiteDeleted(SiteId),
    /// A site has a new secret, and its old one an end.
    SecretRotated(SiteId),
    /// A token was revoked.
    TokenRevoked(TokenId),
    /// A token was released from its machine.
    MachineReleased(TokenId),
    /// A signing key was made; by its `kid`.
    KeyRotated(String),
    /// A signing key was revoked; by its `kid`.
    KeyRevoked(String),
}

impl Change {
    const fn event(&self) -> &'static str {
        match self {
            Self::SiteCreated(_) => "site.created",
            Self::SiteUpdated(_) => "site.updated",
            Self::SiteSuspended(_) => "site.suspended",
            Self::SiteDeleted(_) => "site.deleted",
            Self::SecretRotated(_) => "secret.rotated",
            Self::TokenRevoked(_) => "token.revoked",
            Self::MachineReleased(_) => "machine.released",
            Self::KeyRotated(_) => "key.rotated",
            Self::KeyRevoked(_) => "key.revoked",
        }
    }

    fn subject(&self) -> String {
        match self {
            Self::SiteCreated(site_id)
            | Self::SiteUpdated(site_id)
            | Self::SiteSuspended(site_id)
            | Self::SiteDeleted(site_id)
            | Self::SecretRotated(site_id) => site_id.to_string(),
            Self::TokenRevoked(token_id) | Self::MachineReleased(token_id) => token_id.to_string(),
            Self::KeyRotated(kid) | Self::KeyRevoked(kid) => kid.clone(),
        }
    }
}

/// A number is taken from a one-row counter and not from a sequence: a sequence gives a lower
/// number to one that commits later, and a follower that has read past it would never see it.
const NEXT_SEQ: &str = "UPDATE change_counter SET seq = seq + 1 WHERE id = 1 RETURNING seq";

const INSERT: &str = "INSERT INTO changes (seq, changed_at, actor, event, subject) \
                      VALUES ($1, $2, $3, $4, $5)";

/// Comes to the listeners with the commit. The server lets one commit that notifies in at a time, so
/// calls, which are many, never do.
const NOTIFY: &str = "SELECT pg_notify('mirrory_changes', '')";

/// Takes the lock that every mutation holds until its commit, so that what it reads before it
/// writes stays true: two rotations of one secret, or of the keys, follow each other.
///
/// # Errors
/// When the store fails.
pub async fn lock(tx: &mut Tx) -> Result<(), StoreError> {
    in_tx!(tx, |connection| affected(
        sqlx::query("UPDATE change_counter SET seq = seq WHERE id = 1").execute(connection)
    ))?;
    Ok(())
}

/// Writes a change into the log, in the transaction that makes it. The one place through which
/// every mutation goes.
///
/// # Errors
/// When the store fails; the transaction is then of no use.
pub async fn record(
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
    let (inner, deadline, doubt) = tx.parts();
    if let Inner::Postgres(transaction) = inner {
        let notifying = sqlx::query(NOTIFY).execute(&mut **transaction);
        before(deadline, doubt, notifying).await?;
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

    /// The site that is no longer what it was, if it is one; its tokens and secrets apart.
    #[must_use]
    pub fn site(&self) -> Option<SiteId> {
        self.subject_of("site.")
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

/// The number of the newest change.
///
/// # Errors
/// When the store fails.
pub async fn newest(database: &Database) -> Result<i64, StoreError> {
    let (seq,): (i64,) = read!(database, |connection| sqlx::query_as(
        "SELECT seq FROM change_counter WHERE id = 1"
    )
    .fetch_one(connection))?;
    Ok(seq)
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
