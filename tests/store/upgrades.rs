//! An instance of this version beside one of the version before, as while a deployment is upgraded.

use mirrory::{config::DatabaseKind, quota::Windows, types::ids::SiteId};

use crate::{
    blocks::{LIMIT, instance, issue, stored, use_up},
    harness::{DAY, Store, on_both_stores},
    quota::new_site,
};

on_both_stores!(
    the_version_before_takes_no_call_of_a_block,
    a_day_that_the_version_before_began_can_be_used_up,
);

/// The statement of the version before: it knows of no reserved calls.
const RESERVE: &str = "\
INSERT INTO usage (site_id, day, month, day_used, month_used) VALUES ($1, $2, $3, $4, $4) \
ON CONFLICT (site_id) DO UPDATE SET \
  day = CASE WHEN usage.day >= excluded.day THEN usage.day ELSE excluded.day END, \
  month = CASE WHEN usage.month >= excluded.month THEN usage.month ELSE excluded.month END, \
  day_used = CASE WHEN usage.day >= excluded.day THEN usage.day_used ELSE 0 END \
    + excluded.day_used, \
  month_used = CASE WHEN usage.month >= excluded.month THEN usage.month_used ELSE 0 END \
    + excluded.month_used \
WHERE CASE WHEN usage.day >= excluded.day THEN usage.day_used ELSE 0 END \
    <= $5 - excluded.day_used \
  AND CASE WHEN usage.month >= excluded.month THEN usage.month_used ELSE 0 END \
    <= $6 - excluded.month_used \
RETURNING day, day_used, month, month_used";

/// Whether an instance of the version before lets so many calls through.
async fn passes_before(store: &Store, site_id: SiteId, calls: u64) -> bool {
    let windows = Windows::at(store.clock.now());
    let site_id = site_id.as_uuid();
    let site_id = match store.kind() {
        DatabaseKind::Postgres => format!("'{site_id}'"),
        DatabaseKind::Sqlite => format!("X'{}'", site_id.simple()),
    };
    let sql = RESERVE
        .replace("$1", &site_id)
        .replace("$2", &windows.day.to_string())
        .replace("$3", &windows.month.to_string())
        .replace("$4", &calls.to_string())
        .replace("$5", &LIMIT.to_string())
        .replace("$6", "30000");
    store.column::<i64>(&sql).await.len() == 1
}

async fn the_version_before_takes_no_call_of_a_block(store: Store) {
    let ledger = instance(&store).await;
    let site_id = new_site(&store);
    issue(&ledger, site_id, 20).await;
    // It holds 11 more.
    assert!(!passes_before(&store, site_id, LIMIT - 30).await);
    assert!(passes_before(&store, site_id, LIMIT - 31).await);
    assert!(!passes_before(&store, site_id, 1).await);
    assert_eq!(use_up(&ledger, site_id).await, 11);
    ledger.close().await.unwrap();
    assert!(!passes_before(&store, site_id, 1).await);
    assert_eq!(stored(&store, site_id).await, [(LIMIT, 0); 2]);
}

/// It does not end what is reserved with the day.
async fn a_day_that_the_version_before_began_can_be_used_up(store: Store) {
    let [ledger, other] = [instance(&store).await, instance(&store).await];
    let site_id = new_site(&store);
    issue(&ledger, site_id, 20).await;
    store.hand.advance(DAY);
    assert!(passes_before(&store, site_id, 1).await);
    assert_eq!(use_up(&other, site_id).await, LIMIT - 1);
    assert!(!passes_before(&store, site_id, 1).await);
    for ledger in [ledger, other] {
        ledger.close().await.unwrap();
    }
    let [_, month] = stored(&store, site_id).await;
    assert_eq!(month, (20 + LIMIT, 0));
    store.hand.advance(DAY);
    assert!(passes_before(&store, site_id, LIMIT).await);
}
