//! The only SQL of the audit room.

use uuid::Uuid;

use super::{
    entry::{Entry, Outcome},
    listing::{AuditActor, AuditFilter, AuditRow},
    tally::Counted,
};
use crate::{
    store::{Database, StoreError, Tx, affected, in_tx, read, write},
    types::{
        clock::Timestamp,
        ids::{AccountId, AuditId, SiteId},
    },
};

const INSERT: &str = "\
INSERT INTO audit_log (audit_id, happened_at, event, actor_kind, actor_id, actor_account_id, \
subject, account_id, site_id, address, user_agent, outcome, detail, count) \
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, 1)";

const COUNT: &str = "\
INSERT INTO audit_log (audit_id, happened_at, event, actor_kind, subject, account_id, site_id, \
address, user_agent, outcome, detail, count, tally) \
VALUES ($1, $2, $3, 'nobody', $4, $5, $6, $7, $8, 'refused', $9, $10, $11) \
ON CONFLICT (tally) DO UPDATE SET count = audit_log.count + excluded.count";

/// Of all rows, of those of an event, or of those about a site: each by an index of its own.
macro_rules! page_where {
    ($condition:literal) => {
        concat!(
            "SELECT audit_id, happened_at, event, actor_kind, actor_id, actor_account_id, subject, \
             account_id, site_id, address, user_agent, outcome, detail, count FROM audit_log \
             WHERE audit_id < $1 AND happened_at >= $3 AND ",
            $condition,
            " ORDER BY audit_id DESC LIMIT $2"
        )
    };
}

const PAGE: &str = page_where!("TRUE");

const PAGE_OF_EVENT: &str = page_where!("event = $4");

const PAGE_OF_SITE: &str = page_where!("site_id = $4 AND ($5 = '' OR event = $5)");

/// An owner's rows are found by one index each: by who acted, by the account and by the site. Also
/// of a site that was deleted, as long as its row is there.
const PAGE_OF_ACCOUNT: &str = "\
WITH seen AS (\
  SELECT * FROM (SELECT audit_id FROM audit_log WHERE actor_account_id = $7 \
    AND audit_id < $1 AND happened_at >= $3 AND ($4 = '' OR event = $4) \
    AND ($5 = $6 OR site_id = $5) ORDER BY audit_id DESC LIMIT $2) AS acted \
  UNION SELECT * FROM (SELECT audit_id FROM audit_log WHERE account_id = $7 \
    AND audit_id < $1 AND happened_at >= $3 AND ($4 = '' OR event = $4) \
    AND ($5 = $6 OR site_id = $5) ORDER BY audit_id DESC LIMIT $2) AS concerned \
  UNION SELECT * FROM (SELECT audit_id FROM audit_log \
    WHERE site_id IN (SELECT sites.site_id FROM sites WHERE owner_id = $7) \
    AND audit_id < $1 AND happened_at >= $3 AND ($4 = '' OR event = $4) \
    AND ($5 = $6 OR site_id = $5) ORDER BY audit_id DESC LIMIT $2) AS owned) \
SELECT audit_id, happened_at, event, actor_kind, actor_id, actor_account_id, subject, account_id, \
  site_id, address, user_agent, outcome, detail, count FROM audit_log \
WHERE audit_id IN (SELECT audit_id FROM seen) ORDER BY audit_id DESC LIMIT $2";

const SWEEP: &str = "\
DELETE FROM audit_log WHERE audit_id IN \
(SELECT audit_id FROM audit_log WHERE happened_at < $1 ORDER BY happened_at LIMIT $2)";

/// Stands for every site.
const ANY_SITE: SiteId = SiteId::from_uuid(Uuid::nil());

#[derive(sqlx::FromRow)]
struct Row {
    audit_id: AuditId,
    happened_at: Timestamp,
    event: String,
    actor_kind: String,
    actor_id: Option<String>,
    actor_account_id: Option<AccountId>,
    subject: Option<String>,
    account_id: Option<AccountId>,
    site_id: Option<SiteId>,
    address: Option<String>,
    user_agent: Option<String>,
    #[sqlx(try_from = "String")]
    outcome: Outcome,
    detail: String,
    count: i64,
}

impl TryFrom<Row> for AuditRow {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let detail = serde_json::from_str(&row.detail)
            .map_err(|error| StoreError::from(sqlx::Error::Decode(error.into())))?;
        Ok(Self {
            id: row.audit_id,
            time: row.happened_at,
            event: row.event,
            actor: AuditActor {
                kind: row.actor_kind,
                id: row.actor_id,
                account_id: row.actor_account_id,
            },
            subject: row.subject,
            site_id: row.site_id,
            account_id: row.account_id,
            address: row.address,
            user_agent: row.user_agent,
            outcome: row.outcome,
            detail,
            count: row.count,
        })
    }
}

/// The statement that reads a page; a macro, since its type is each database's own.
macro_rules! asking {
    ($sql:expr, $filter:expr, $before:expr, $limit:expr) => {
        sqlx::query_as($sql)
            .bind($before)
            .bind($limit)
            .bind($filter.since.unwrap_or(Timestamp::from_micros(0)))
    };
}

/// Up to `limit` rows whose ids are below `before`, the newest first.
pub(super) async fn page(
    database: &Database,
    filter: &AuditFilter,
    before: Uuid,
    limit: i64,
) -> Result<Vec<AuditRow>, StoreError> {
    let event = filter.event.as_deref();
    let rows: Vec<Row> = match (filter.visible_to, filter.site_id, event) {
        (None, None, None) => read!(database, |connection| {
            asking!(PAGE, filter, before, limit).fetch_all(connection)
        })?,
        (None, None, Some(event)) => read!(database, |connection| {
            asking!(PAGE_OF_EVENT, filter, before, limit)
                .bind(event)
                .fetch_all(connection)
        })?,
        (None, Some(site_id), event) => read!(database, |connection| {
            asking!(PAGE_OF_SITE, filter, before, limit)
                .bind(site_id)
                .bind(event.unwrap_or_default())
                .fetch_all(connection)
        })?,
        (Some(account_id), site_id, event) => read!(database, |connection| {
            asking!(PAGE_OF_ACCOUNT, filter, before, limit)
                .bind(event.unwrap_or_default())
                .bind(site_id.unwrap_or(ANY_SITE))
                .bind(ANY_SITE)
                .bind(account_id)
                .fetch_all(connection)
        })?,
    };
    rows.into_iter().map(AuditRow::try_from).collect()
}

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

/// Adds to the row of what was counted.
pub(super) async fn count(tx: &mut Tx, counted: &Counted) -> Result<(), StoreError> {
    in_tx!(tx, |connection| affected(
        sqlx::query(COUNT)
            .bind(counted.id)
            .bind(counted.first_at)
            .bind(counted.event)
            .bind(&counted.subject)
            .bind(counted.account_id)
            .bind(counted.site_id)
            .bind(counted.address.map(|address| address.to_string()))
            .bind(counted.user_agent.as_deref())
            .bind(counted.detail.to_string())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::migrations::plan_of;

    #[tokio::test]
    async fn each_page_is_read_from_its_index_alone_and_in_its_order() {
        for (page, index) in [
            (PAGE, "PRIMARY KEY (audit_id<?)"),
            (
                PAGE_OF_EVENT,
                "INDEX audit_log_event (event=? AND audit_id<?)",
            ),
            (
                PAGE_OF_SITE,
                "INDEX audit_log_site (site_id=? AND audit_id<?)",
            ),
        ] {
            let expected = format!("SEARCH audit_log USING {index}");
            assert_eq!(plan_of(page).await, expected);
        }
    }
}
