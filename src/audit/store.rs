//! The SQL that writes and clears the audit log.

use super::{entry::Entry, tally::Counted};
use crate::{
    store::{Database, StoreError, Tx, affected, in_tx, write},
    types::clock::Timestamp,
};

const INSERT: &str = "\
INSERT INTO audit_log (audit_id, happened_at, event, actor_kind, actor_id, actor_account_id, \
subject, account_id, site_id, address, user_agent, outcome, detail, count) \
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, 1)";

/// The first account that was tried stays the subject: a row is about an address, not an account.
const COUNT: &str = "\
INSERT INTO audit_log (audit_id, happened_at, event, actor_kind, subject, account_id, site_id, \
address, user_agent, outcome, detail, count, tally) \
VALUES ($1, $2, $3, 'nobody', $4, $5, $6, $7, $8, 'refused', '{}', $9, $10) \
ON CONFLICT (tally) DO UPDATE SET count = audit_log.count + excluded.count, \
subject = COALESCE(audit_log.subject, excluded.subject), \
account_id = COALESCE(audit_log.account_id, excluded.account_id)";

const SWEEP: &str = "\
DELETE FROM audit_log WHERE audit_id IN \
(SELECT audit_id FROM audit_log WHERE happened_at < $1 ORDER BY happened_at LIMIT $2)";

/// Writes a row, in the transaction that makes the change.
pub(crate) async fn record(tx: &mut Tx, entry: &Entry) -> Result<(), StoreError> {
    let actor = entry.actor;
    in_tx!(tx, |connection| affected(
        sqlx::query(INSERT)
            .bind(entry.id)
            .bind(entry.time)
            .bind(entry.event)
            .bind(actor.kind())
            .bind(actor.id())
            .bind(actor.account_id())
            .bind(&entry.subject)
            .bind(entry.account_id)
            .bind(entry.site_id)
            .bind(entry.address.map(|address| address.to_string()))
            .bind(entry.user_agent.as_deref())
            .bind(entry.outcome.as_str())
            .bind(entry.detail.to_string())
            .execute(connection)
    ))?;
    Ok(())
}

/// Adds to the row of an address and hour.
pub(super) async fn count(database: &Database, counted: &Counted) -> Result<(), StoreError> {
    write!(database, |connection| affected(
        sqlx::query(COUNT)
            .bind(counted.id)
            .bind(counted.first_at)
            .bind(counted.event)
            .bind(&counted.subject)
            .bind(counted.account_id)
            .bind(counted.site_id)
            .bind(counted.address.map(|address| address.to_string()))
            .bind(counted.user_agent.as_deref())
            .bind(counted.count)
            .bind(&counted.key)
            .execute(connection)
    ))?;
    Ok(())
}

/// Removes up to `limit` rows of before `cutoff`.
///
/// # Errors
/// When the store fails.
pub async fn sweep(database: &Database, cutoff: Timestamp, limit: i64) -> Result<u64, StoreError> {
    write!(database, |connection| affected(
        sqlx::query(SWEEP)
            .bind(cutoff)
            .bind(limit)
            .execute(connection)
    ))
}
