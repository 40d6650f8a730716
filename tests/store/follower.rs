//! The follower: what it tells those who keep something in memory, and for how long they may.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use mirrory::{
    store::{
        Database, StoreError,
        changes::SeenChange,
        follower::{Follower, Follows},
        freshness::Freshness,
    },
    types::clock::ManualClock,
};

use crate::{
    harness::{MICRO, NOON, Store, just_under, on_both_stores},
    postgres::Cluster,
};

on_both_stores!(
    first_look_resets_and_later_ones_apply_what_is_new,
    a_long_log_is_taken_in_whole_and_in_order,
    a_gap_resets,
    a_gap_inside_resets,
    a_log_that_went_backwards_resets,
    what_was_not_taken_in_is_told_again,
    freshness_counts_from_the_beginning_of_the_look,
    without_the_store_freshness_ends,
);

/// What a follower was told, as `reset` or as the numbers of the changes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    Reset,
    Changes(Vec<i64>),
}

/// Writes down what it is told; may fail, and may take its time.
struct Recorder {
    told: Mutex<Vec<Told>>,
    fails: AtomicBool,
    hand: ManualClock,
    takes: Duration,
}

impl Recorder {
    fn hears(&self, told: Told) -> Result<(), StoreError> {
        self.hand.advance(self.takes);
        if self.fails.load(Ordering::SeqCst) {
            return Err(StoreError::Timeout);
        }
        self.told.lock().unwrap().push(told);
        Ok(())
    }

    fn take(&self) -> Vec<Told> {
        std::mem::take(&mut self.told.lock().unwrap())
    }
}

type Following<'a> = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send + 'a>>;

impl Follows for Recorder {
    fn apply<'a>(&'a self, changes: &'a [SeenChange]) -> Following<'a> {
        let numbers = changes.iter().map(|change| change.seq).collect();
        Box::pin(async move { self.hears(Told::Changes(numbers)) })
    }

    fn reset(&self) -> Following<'_> {
        Box::pin(async move { self.hears(Told::Reset) })
    }
}

struct Setting {
    database: Database,
    follower: Follower,
    recorder: Arc<Recorder>,
    freshness: Freshness,
}

impl Setting {
    /// A follower that takes `takes` for what it is told, over a log of `changes` changes.
    async fn new(store: &Store, changes: i64, takes: Duration) -> Self {
        let database = store.open().await;
        append(store, changes).await;
        let recorder = Arc::new(Recorder {
            told: Mutex::default(),
            fails: AtomicBool::new(false),
            hand: store.hand.clone(),
            takes,
        });
        let freshness = Freshness::new(store.clock.clone());
        let follower = Follower::new(
            database.clone(),
            store.clock.clone(),
            freshness.clone(),
            vec![recorder.clone()],
        );
        Self {
            database,
            follower,
            recorder,
            freshness,
        }
    }

    async fn told(&self) -> Vec<Told> {
        self.follower.tick().await.unwrap();
        self.recorder.take()
    }
}

/// Adds `count` changes to the log.
async fn append(store: &Store, count: i64) {
    let at = NOON.as_micros();
    let sql = format!(
        "BEGIN; \
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) \
         INSERT INTO changes (seq, changed_at, actor, event, subject) \
         SELECT seq + i, {at}, 'operator', 'site.updated', 'x' FROM n, change_counter \
         WHERE i <= {count}; \
         UPDATE change_counter SET seq = seq + {count}; \
         COMMIT"
    );
    store.execute(&sql).await.unwrap();
}

async fn first_look_resets_and_later_ones_apply_what_is_new(store: Store) {
    let setting = Setting::new(&store, 3, Duration::ZERO).await;
    assert_eq!(setting.told().await, [Told::Reset]);
    assert_eq!(setting.told().await, []);
    append(&store, 2).await;
    assert_eq!(setting.told().await, [Told::Changes(vec![4, 5])]);
    assert_eq!(setting.told().await, []);
}

async fn a_long_log_is_taken_in_whole_and_in_order(store: Store) {
    let setting = Setting::new(&store, 0, Duration::ZERO).await;
    assert_eq!(setting.told().await, [Told::Reset]);
    append(&store, 2500).await;
    let mut numbers = Vec::new();
    for told in setting.told().await {
        match told {
            Told::Changes(more) => numbers.extend(more),
            Told::Reset => panic!("nothing is missing"),
        }
    }
    assert_eq!(numbers, (1..=2500).collect::<Vec<i64>>());
}

async fn a_gap_resets(store: Store) {
    let setting = Setting::new(&store, 1, Duration::ZERO).await;
    assert_eq!(setting.told().await, [Told::Reset]);
    append(&store, 4).await;
    store
        .execute("DELETE FROM changes WHERE seq < 4")
        .await
        .unwrap();
    assert_eq!(setting.told().await, [Told::Reset]);
    append(&store, 1).await;
    assert_eq!(setting.told().await, [Told::Changes(vec![6])]);
    append(&store, 2).await;
    store.execute("DELETE FROM changes").await.unwrap();
    assert_eq!(setting.told().await, [Told::Reset]);
}

/// The clean-up goes by times, and those of instances differ: it may leave one that is before
/// another which it takes.
async fn a_gap_inside_resets(store: Store) {
    let setting = Setting::new(&store, 1, Duration::ZERO).await;
    assert_eq!(setting.told().await, [Told::Reset]);
    append(&store, 4).await;
    store
        .execute("DELETE FROM changes WHERE seq = 3")
        .await
        .unwrap();
    assert_eq!(setting.told().await, [Told::Reset]);
    assert_eq!(setting.told().await, []);
}

async fn a_log_that_went_backwards_resets(store: Store) {
    let setting = Setting::new(&store, 5, Duration::ZERO).await;
    assert_eq!(setting.told().await, [Told::Reset]);
    let restored = "DELETE FROM changes WHERE seq > 2; UPDATE change_counter SET seq = 2";
    store.execute(restored).await.unwrap();
    assert_eq!(setting.told().await, [Told::Reset]);
    append(&store, 1).await;
    assert_eq!(setting.told().await, [Told::Changes(vec![3])]);
}

/// A replica that was behind when it took over has lost what the log does not show, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_server_resets_though_its_log_is_whole() {
    let cluster = Cluster::start();
    let store = Store::new(&cluster.create_database().await, None);
    let setting = Setting::new(&store, 3, Duration::ZERO).await;
    assert_eq!(setting.told().await, [Told::Reset]);
    // It is told by when a server was started.
    for changes in [0, 2] {
        cluster.stop();
        cluster.start_again();
        append(&store, changes).await;
        // The first ones may meet connections that the restart ended.
        while setting.database.now().await.is_err() {}
        assert_eq!(setting.told().await, [Told::Reset]);
        assert_eq!(setting.told().await, []);
    }
    append(&store, 1).await;
    assert_eq!(setting.told().await, [Told::Changes(vec![6])]);
}

async fn what_was_not_taken_in_is_told_again(store: Store) {
    let setting = Setting::new(&store, 1, Duration::ZERO).await;
    setting.recorder.fails.store(true, Ordering::SeqCst);
    assert!(setting.follower.tick().await.is_err());
    assert!(!setting.freshness.holds());
    setting.recorder.fails.store(false, Ordering::SeqCst);
    assert_eq!(setting.told().await, [Told::Reset]);

    append(&store, 1).await;
    store.hand.advance(Duration::from_secs(1));
    setting.recorder.fails.store(true, Ordering::SeqCst);
    assert!(setting.follower.tick().await.is_err());
    assert!(!setting.freshness.holds());
    setting.recorder.fails.store(false, Ordering::SeqCst);
    assert_eq!(setting.told().await, [Told::Changes(vec![2])]);
    assert!(setting.freshness.holds());
}

async fn freshness_counts_from_the_beginning_of_the_look(store: Store) {
    let takes = Duration::from_millis(400);
    let setting = Setting::new(&store, 1, takes).await;
    assert!(!setting.freshness.holds(), "before the first look");
    assert_eq!(setting.told().await, [Told::Reset]);
    store.hand.advance(just_under(Duration::from_millis(600)));
    assert!(setting.freshness.holds());
    store.hand.advance(MICRO);
    assert!(!setting.freshness.holds());
    assert_eq!(setting.told().await, []);
    assert!(setting.freshness.holds());
    store.hand.set_wall(NOON.before(Duration::from_hours(1)));
    assert!(setting.freshness.holds(), "whatever the wall says");
}

async fn without_the_store_freshness_ends(store: Store) {
    let setting = Setting::new(&store, 1, Duration::ZERO).await;
    assert_eq!(setting.told().await, [Told::Reset]);
    setting.database.close().await;
    store.hand.advance(Duration::from_millis(999));
    assert!(setting.follower.tick().await.is_err());
    assert!(setting.freshness.holds());
    store.hand.advance(Duration::from_millis(1));
    assert!(setting.follower.tick().await.is_err());
    assert!(!setting.freshness.holds());
}
