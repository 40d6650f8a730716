//! How much PostgreSQL reads for a page of a list. What the embedded store reads is told by its plans,
//! beside the statements.

use mirrory::{
    audit::{AuditFilter, AuditLog},
    tokens::{TokenFilter, TokenStatus},
};
use uuid::Uuid;

use crate::harness::{DAY, Instance, NOON, Store, user};

/// How many rows the list has that is looked through, of which few are asked for.
const ROWS: i64 = 20_000;
const FEW: usize = 3;
const LIMIT: i64 = 50;

/// Far more than a page, and far fewer than all.
const MOST: i64 = 1_000;

/// How many rows of a table or of its partitions the server has read by itself, from its heap or by
/// an index.
async fn read(store: &Store, table: &str) -> i64 {
    let read = format!(
        "SELECT sum(COALESCE(idx_tup_fetch, 0) + seq_tup_read)::bigint FROM pg_stat_user_tables \
         WHERE relname LIKE '{table}%'"
    );
    store.number(&read).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_of_a_users_or_of_revoked_tokens_reads_no_others() {
    let store = Store::postgres().await;
    let instance = store.instance().await;
    let (site_id, _) = instance.create_site().await;
    let issued = format!(
        "INSERT INTO tokens (token_id, site_id, user_id, coins, issued_at, expires_at, revoked_at) \
         SELECT gen_random_uuid(), site_id, CASE WHEN number <= {FEW} THEN 7 ELSE 1 END, 200, 0, {}, \
         CASE WHEN number <= {FEW} THEN 1 END FROM sites, generate_series(1, {ROWS}) AS number; \
         ANALYZE tokens",
        NOON.after(DAY).as_micros()
    );
    store.execute(&issued).await.unwrap();
    store.end(&[instance]).await;
    let of_user = TokenFilter {
        user_id: Some(user(7)),
        state: None,
    };
    let revoked = TokenFilter {
        user_id: None,
        state: Some(TokenStatus::Revoked),
    };
    for filter in [of_user, revoked] {
        let before = read(&store, "tokens").await;
        let instance = store.instance().await;
        let Instance { tokens, .. } = &instance;
        let page = tokens.page(site_id, &filter, Uuid::max(), LIMIT).await;
        assert_eq!(page.unwrap().len(), FEW);
        store.end(&[instance]).await;
        let rows = read(&store, "tokens").await - before;
        assert!(rows < MOST, "{rows} rows read for {filter:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_of_an_event_or_of_a_site_reads_no_other_rows() {
    let store = Store::postgres().await;
    let instance = store.instance().await;
    let (site_id, _) = instance.create_site().await;
    let written = format!(
        "DELETE FROM audit_log; \
         INSERT INTO audit_log (audit_id, happened_at, event, actor_kind, site_id, outcome, detail, \
         count) SELECT gen_random_uuid(), 1, CASE WHEN number <= {FEW} THEN 'rare' ELSE 'usual' END, \
         'nobody', CASE WHEN number <= {FEW} THEN site_id END, 'success', '{{}}', 1 \
         FROM sites, generate_series(1, {ROWS}) AS number; ANALYZE audit_log"
    );
    store.execute(&written).await.unwrap();
    store.end(&[instance]).await;
    let of_event = AuditFilter {
        event: Some("rare".to_owned()),
        ..AuditFilter::default()
    };
    let of_site = AuditFilter {
        site_id: Some(site_id),
        ..AuditFilter::default()
    };
    for filter in [of_event, of_site] {
        let before = read(&store, "audit_log").await;
        let instance = store.instance().await;
        let log = AuditLog::new(instance.database.clone());
        let page = log.newest(&filter, LIMIT).await.unwrap();
        assert_eq!(page.len(), FEW);
        store.end(&[instance]).await;
        let rows = read(&store, "audit_log").await - before;
        assert!(rows < MOST, "{rows} rows read for {filter:?}");
    }
}
