//! The partitions of PostgreSQL's records: there before they are needed, gone as a whole when the
//! last of their records is past its use, and in nobody's way.

use std::{path::Path, time::Duration};

use mirrory::{
    janitor::Janitor,
    tokens::{KEPT_AFTER_END, TokenRecord},
    types::{clock::Timestamp, ids::SiteId},
};
use sqlx::{AssertSqlSafe, Connection, PgConnection, migrate::Migrator};

use crate::harness::{DAY, Hold, Instance, MICRO, SECOND, Store};

const WEEK: Duration = Duration::from_hours(7 * 24);

/// When a week of partitions begins; long after the tests are run, and so after the bound of the
/// partition of all that was before.
const FAR_AHEAD: Timestamp = Timestamp::from_seconds(6800 * 7 * 86_400);

/// More than clocks may differ.
const STRAGGLERS: Duration = Duration::from_hours(1);

/// An instance of a store with a site.
struct Shop {
    store: Store,
    instance: Instance,
    janitor: Janitor,
    site_id: SiteId,
}

impl Shop {
    async fn new() -> Self {
        let store = Store::postgres().await;
        let (state, _) = store.state().await;
        let instance = Instance::new(&store, state.database.clone());
        let (site_id, _) = instance.create_site().await;
        let janitor = Janitor::new(&state);
        Self {
            store,
            instance,
            janitor,
            site_id,
        }
    }

    /// One whose first partition of a week is the one of `FAR_AHEAD`, which it is now.
    async fn far_ahead() -> Self {
        let shop = Self::new().await;
        shop.round_at(FAR_AHEAD.before(WEEK)).await;
        shop.round_at(FAR_AHEAD).await;
        shop
    }

    async fn round_at(&self, moment: Timestamp) {
        self.store.hand.set_wall(moment);
        self.janitor.round().await.unwrap();
    }

    /// A token that is issued at a time, for an hour.
    async fn issue_at(&self, moment: Timestamp) -> TokenRecord {
        self.store.hand.set_wall(moment);
        self.instance.issue(self.site_id).await
    }

    async fn has(&self, record: &TokenRecord) -> bool {
        let found = self.instance.tokens.find(record.token_id).await.unwrap();
        found.is_some()
    }

    /// The dates in the names of those that instances made, the oldest first; before `FAR_AHEAD`
    /// there is one.
    async fn weeks(&self) -> Vec<String> {
        let dates = "SELECT substring(relname FROM 8)::text FROM pg_class \
                     WHERE relispartition AND relname ~ '^tokens_[0-9]+$' ORDER BY 1";
        self.store.column(dates).await
    }

    /// How many records were deleted one by one.
    async fn deleted(&self) -> i64 {
        let deleted = "SELECT sum(n_tup_del)::bigint FROM pg_stat_user_tables \
                       WHERE relname LIKE 'tokens%'";
        self.store.number(deleted).await
    }
}

fn date(moment: Timestamp) -> String {
    moment.to_string()[..10].replace('-', "")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_are_partitions_for_four_weeks_ahead() {
    let shop = Shop::far_ahead().await;
    let weeks = |count: u32| -> Vec<_> {
        (0..count)
            .map(|week| date(FAR_AHEAD.after(WEEK * week)))
            .collect()
    };
    assert_eq!(shop.weeks().await[1..], weeks(4));
    shop.round_at(FAR_AHEAD.after(MICRO)).await;
    shop.round_at(FAR_AHEAD.after(SECOND)).await;
    assert_eq!(shop.weeks().await[1..], weeks(5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_goes_when_the_last_of_its_records_is_past_its_use() {
    let shop = Shop::far_ahead().await;
    let first = shop.issue_at(FAR_AHEAD).await;
    let last = shop.issue_at(FAR_AHEAD.after(WEEK).before(MICRO)).await;
    let next = shop.issue_at(FAR_AHEAD.after(WEEK)).await;
    let end = last.expires_at.after(KEPT_AFTER_END);
    shop.round_at(end.before(MICRO)).await;
    assert!(shop.has(&first).await && shop.has(&last).await);
    shop.round_at(end).await;
    assert!(!shop.has(&first).await && !shop.has(&last).await);
    assert!(shop.has(&next).await);
    assert!(!shop.weeks().await.contains(&date(FAR_AHEAD)));
    assert_eq!(shop.deleted().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_partition_goes_when_no_clock_is_in_it_any_more() {
    let shop = Shop::far_ahead().await;
    let end = FAR_AHEAD.after(WEEK).after(STRAGGLERS);
    shop.round_at(end.before(MICRO)).await;
    assert!(shop.weeks().await.contains(&date(FAR_AHEAD)));
    shop.round_at(end).await;
    assert!(!shop.weeks().await.contains(&date(FAR_AHEAD)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_records_of_before_go_as_a_whole_and_their_place_stays() {
    let shop = Shop::new().await;
    let long_ago = Timestamp::from_seconds(1);
    let record = shop.issue_at(long_ago).await;
    shop.round_at(FAR_AHEAD).await;
    assert!(!shop.has(&record).await);
    assert_eq!(shop.deleted().await, 0);
    let size = "SELECT pg_relation_size('tokens_past')";
    assert_eq!(shop.store.number(size).await, 0);
    // What is moved here from another store may be as old.
    let record = shop.issue_at(long_ago).await;
    assert!(shop.has(&record).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_came_before_its_partition_is_moved_into_it() {
    let shop = Shop::far_ahead().await;
    let early = shop.issue_at(FAR_AHEAD.after(20 * WEEK)).await;
    let by_default = "SELECT count(*) FROM tokens_default";
    assert_eq!(shop.store.number(by_default).await, 1);
    shop.janitor.round().await.unwrap();
    assert_eq!(shop.store.number(by_default).await, 0);
    assert!(shop.has(&early).await);
}

/// As while a back-up is made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_that_are_held_are_left_and_calls_go_on() {
    let shop = Shop::far_ahead().await;
    let record = shop.issue_at(FAR_AHEAD.after(DAY)).await;
    let end = record.expires_at.after(KEPT_AFTER_END);
    shop.round_at(end.before(MICRO)).await;
    let new_week = end.after(WEEK);
    for (moment, is_dropping) in [(end, true), (new_week, false)] {
        let before = shop.weeks().await;
        let back_up = Hold::with(&shop.store, "LOCK TABLE tokens IN ACCESS SHARE MODE").await;
        let calling = async {
            shop.store.until_waiting(1).await;
            // This is answered only because the round stops waiting.
            shop.instance.issue(shop.site_id).await
        };
        let ((), _) = tokio::join!(shop.round_at(moment), calling);
        assert_eq!(shop.weeks().await, before);
        back_up.release().await;
        shop.janitor.round().await.unwrap();
        assert_ne!(shop.weeks().await, before);
        assert_eq!(shop.weeks().await.len() < before.len(), is_dropping);
    }
    assert!(!shop.has(&record).await);
}

/// As when a store is moved here while others run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_stays_for_a_record_that_comes_at_the_last_moment() {
    let shop = Shop::far_ahead().await;
    let record = shop.issue_at(FAR_AHEAD).await;
    // The empty one before it is gone, so that this one is the first to go.
    shop.round_at(FAR_AHEAD.after(STRAGGLERS)).await;
    let moment = FAR_AHEAD.after(8 * WEEK);
    // Not committed, it is seen by nobody, but holds the partition.
    let late = format!(
        "INSERT INTO tokens (token_id, site_id, user_id, coins, issued_at, expires_at) \
         SELECT overlay(token_id::text PLACING '000000000000' FROM 25)::uuid, site_id, user_id, \
           coins, issued_at, {} FROM tokens_{}",
        moment.after(DAY).as_micros(),
        date(FAR_AHEAD)
    );
    let writing = Hold::with(&shop.store, &late).await;
    let committing = async {
        shop.store.until_waiting(1).await;
        writing.commit().await;
    };
    tokio::join!(shop.round_at(moment), committing);
    assert!(shop.has(&record).await);
    shop.janitor.round().await.unwrap();
    assert!(shop.has(&record).await);
}

/// The first migration that has to do with partitions.
const FIRST: i64 = 20_261_122_200_000;

/// What the version before asks of its records.
const ISSUE_BEFORE: &str = "\
INSERT INTO tokens (token_id, site_id, user_id, coins, issued_at, expires_at, machine_id, bound_at) \
SELECT * FROM unnest($1::uuid[], $1::uuid[], '{1}'::bigint[], '{1}'::bigint[], '{1}'::bigint[], \
  '{1}'::bigint[], '{m}'::text[], '{1}'::bigint[]) RETURNING 1::bigint";

const FIND_BEFORE: &str = "\
SELECT tokens.coins FROM unnest($1::uuid[]) AS asked (token_id) \
JOIN tokens ON tokens.token_id = asked.token_id";

const REVOKE_BEFORE: &str = "\
UPDATE tokens SET revoked_at = 1 WHERE token_id = ANY($1::uuid[]) AND revoked_at IS NULL \
RETURNING coins";

/// Its connections are open, and its statements prepared, while the tables change.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_version_before_goes_on_when_its_records_become_a_partition() {
    let store = Store::postgres().await;
    let url = store.config.database.url.expose();
    let mut connection = PgConnection::connect(url).await.unwrap();
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/postgres"));
    let mut before = Migrator::new(folder).await.unwrap();
    before.migrations.to_mut().retain(|one| one.version < FIRST);
    before.run(&mut connection).await.unwrap();

    let mut old = async |number: u8| {
        let token_ids = format!("{{01900000-0000-7000-8000-0000000000{number:02x}}}");
        for statement in [ISSUE_BEFORE, FIND_BEFORE, REVOKE_BEFORE] {
            let answer: Vec<i64> = sqlx::query_scalar(AssertSqlSafe(statement))
                .bind(&token_ids)
                .fetch_all(&mut connection)
                .await
                .unwrap();
            assert_eq!(answer, [1]);
        }
    };
    for number in 0..20 {
        old(number).await;
    }
    let files = "SELECT relfilenode::bigint FROM pg_class \
                 WHERE relname ~ '^tokens' AND relfilenode <> 0 ORDER BY 1";
    let files_before: Vec<i64> = store.column(files).await;
    store.open().await;
    old(20).await;
    // Nothing was written anew, and no index was made of what there is.
    let files_after: Vec<i64> = store.column(files).await;
    assert_eq!(files_after[..files_before.len()], files_before);
    assert_eq!(files_after.len(), 2 * files_before.len());
    let in_past = "SELECT count(*) FROM tokens_past";
    assert_eq!(store.number(in_past).await, 21);
}
