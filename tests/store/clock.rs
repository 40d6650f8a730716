//! What a wrong clock has left behind is mended, and what is deleted by a clock is watched over.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::join_all;
use mirrory::{
    app::Background,
    janitor::Janitor,
    quota::{Ledger, Outcome, QuotaError},
    store::{
        Database, StoreError,
        changes::{Actor, SeenChange},
        follower::Follows,
    },
    types::{
        clock::{Clock, ManualClock, Timestamp},
        ids::SiteId,
        store_time::{ClockState, WrongClock},
    },
};
use tracing_subscriber::fmt::MakeWriter;

use crate::{
    blocks,
    harness::{DAY, Hold, SECOND, Store, commit, on_both_stores},
    quota::{END_OF_NOVEMBER, exceeded, ledger, new_site, plans, reserve, used},
};

on_both_stores!(
    what_a_clock_far_ahead_used_up_is_mended_by_the_next_call,
    a_month_that_is_right_keeps_its_count_when_the_day_is_mended,
    a_block_of_a_day_to_come_is_not_spent_today,
    a_day_to_come_is_in_no_history,
    a_statement_that_comes_late_mends_nothing,
    clocks_that_differ_at_midnight_let_no_call_too_many_through,
    usage_that_is_reset_is_nothing_and_can_be_used_again,
    an_instance_that_hears_of_a_reset_gives_up_its_block,
    what_was_taken_before_a_reset_is_not_given_back_after_it,
    an_instance_that_missed_changes_holds_no_block_and_gives_none_back,
    a_clean_up_says_that_it_removes_more_than_a_tenth,
    nothing_is_removed_when_the_clock_is_wrong,
    a_look_at_the_store_finds_the_clock_of_this_machine_right,
);

/// A ledger with a clock of its own.
fn ledger_at(database: &Database, now: Timestamp, limits: (u64, u64)) -> (Ledger, ManualClock) {
    let hand = ManualClock::starting_at(now);
    let plans = plans(&[("plan", limits.0, limits.1)]);
    (Ledger::new(database.clone(), plans, hand.clock()), hand)
}

/// The machine's own time, which a store goes by.
fn real_now() -> Timestamp {
    Clock::system().now()
}

async fn what_a_clock_far_ahead_used_up_is_mended_by_the_next_call(store: Store) {
    let database = store.open().await;
    // The middle of a day and a month, whenever this runs: far from the next ones.
    for ahead in [400 * DAY, 40 * DAY] {
        let site_id = new_site(&store);
        let (wrong, _) = ledger_at(&database, real_now().after(ahead), (5, 50));
        let (right, _) = ledger_at(&database, real_now(), (5, 50));
        for _ in 0..5 {
            drop(reserve(&wrong, site_id).await);
        }
        exceeded(&wrong, site_id, 1).await;
        assert_eq!(used(&right, site_id).await, (0, 0), "as it will be");
        for call in 1..=5 {
            let permit = reserve(&right, site_id).await;
            assert_eq!(permit.standing.day.used, call);
            assert!(permit.standing.day.resets_at < real_now().after(DAY + SECOND));
        }
        let refused = exceeded(&right, site_id, 1).await;
        let wait = refused.retry_after(refused.violated_by(1), real_now());
        assert!(wait <= DAY, "{wait:?}");
    }
}

async fn a_month_that_is_right_keeps_its_count_when_the_day_is_mended(store: Store) {
    let database = store.open().await;
    let site_id = new_site(&store);
    // Later than this machine's time, which counts too.
    let begin = Timestamp::parse("2040-03-05T12:00:00Z").unwrap();
    let (right, hand) = ledger_at(&database, begin, (5, 6));
    drop(reserve(&right, site_id).await);
    hand.set_wall(begin.after(20 * DAY));
    for _ in 0..4 {
        drop(reserve(&right, site_id).await);
    }
    hand.set_wall(begin);
    assert_eq!(used(&right, site_id).await, (0, 5));
    drop(reserve(&right, site_id).await);
    assert_eq!(used(&right, site_id).await, (1, 6));
    let refused = exceeded(&right, site_id, 1).await;
    assert_eq!(refused.violated_by(1).names(), ["month"]);
}

async fn a_block_of_a_day_to_come_is_not_spent_today(store: Store) {
    let database = store.open().await;
    let site_id = new_site(&store);
    let (ledger, hand) = ledger_at(
        &database,
        real_now().after(400 * DAY),
        (blocks::LIMIT, 30_000),
    );
    blocks::issue(&ledger, site_id, 20).await;
    hand.set_wall(real_now());
    // All that the plan allows, and none of what it still holds.
    assert_eq!(blocks::use_up(&ledger, site_id).await, blocks::LIMIT);
    ledger.close().await.unwrap();
    exceeded(&ledger, site_id, 1).await;
}

async fn a_day_to_come_is_in_no_history(store: Store) {
    let database = store.open().await;
    let site_id = new_site(&store);
    let (ledger, hand) = ledger_at(&database, real_now().after(400 * DAY), (5, 50));
    let permit = reserve(&ledger, site_id).await;
    permit.settle(Some(Outcome::Issued)).await;
    ledger.flush().await.unwrap();
    assert_eq!(ledger.history(site_id).await.unwrap().len(), 1);
    hand.set_wall(real_now());
    assert_eq!(ledger.history(site_id).await.unwrap(), []);
}

/// As of a process that was stopped after it had looked at its clock.
async fn a_statement_that_comes_late_mends_nothing(store: Store) {
    let database = store.open().await;
    let site_id = new_site(&store);
    let (present, _) = ledger_at(&database, real_now(), (2, 50));
    let (late, _) = ledger_at(&database, real_now().before(3 * DAY), (2, 50));
    drop(reserve(&present, site_id).await);
    drop(reserve(&present, site_id).await);
    let refused = late.reserve(site_id, "plan", 1).await;
    assert!(matches!(
        refused,
        Err(QuotaError::Contended | QuotaError::Exceeded(_))
    ));
    exceeded(&present, site_id, 1).await;
}

async fn clocks_that_differ_at_midnight_let_no_call_too_many_through(store: Store) {
    let databases = [store.open().await, store.open().await];
    let site_id = new_site(&store);
    let calls = (0_u64..8).map(|number| {
        let database = databases[usize::from(number % 2 == 0)].clone();
        // From 12 seconds before midnight on, and for as long.
        let now = END_OF_NOVEMBER.before(Duration::from_secs(number * 12 / 7));
        let (ledger, hand) = ledger_at(&database, now, (5, 50));
        tokio::spawn(async move {
            let mut passed = Vec::new();
            for _ in 0..12 {
                if let Ok(permit) = ledger.reserve(site_id, "plan", 1).await {
                    passed.push(permit.standing.day.resets_at);
                }
                hand.advance(SECOND);
            }
            passed
        })
    });
    let mut passed = Vec::new();
    for day in join_all(calls).await {
        passed.extend(day.unwrap());
    }
    passed.sort();
    for day in passed.chunk_by(|one, other| one == other) {
        assert!(day.len() <= 5, "{passed:?}");
    }
    assert!(passed.len() <= 10 && passed.len() >= 5, "{passed:?}");
}

async fn reset(store: &Store, database: &Database, ledger: &Ledger, site_id: SiteId) {
    commit!(database, |tx| ledger.reset(
        tx,
        Actor::Operator,
        site_id,
        &store.randomness
    ));
}

async fn usage_that_is_reset_is_nothing_and_can_be_used_again(store: Store) {
    let database = store.open().await;
    let ledger = ledger(&store, database.clone(), plans(&[("plan", 2, 3)]));
    let [site_id, other] = [new_site(&store), new_site(&store)];
    for site_id in [site_id, other] {
        drop(reserve(&ledger, site_id).await);
        drop(reserve(&ledger, site_id).await);
    }
    reset(&store, &database, &ledger, site_id).await;
    assert_eq!(used(&ledger, site_id).await, (0, 0));
    assert_eq!(used(&ledger, other).await, (2, 2));
    drop(reserve(&ledger, site_id).await);
    drop(reserve(&ledger, site_id).await);
    exceeded(&ledger, site_id, 1).await;
    // One of a window that a wrong clock began, before anybody calls.
    let sql = "UPDATE usage SET day = day + 400, month = month + 13";
    store.execute(sql).await.unwrap();
    reset(&store, &database, &ledger, site_id).await;
    assert_eq!(used(&ledger, site_id).await, (0, 0));
    // And of a site that has never called.
    reset(&store, &database, &ledger, new_site(&store)).await;
    let told: Vec<String> = store
        .column("SELECT subject FROM audit_log WHERE event = 'usage.reset'")
        .await;
    let site_id = site_id.to_string();
    assert_eq!(told.iter().filter(|told| **told == site_id).count(), 2);
    assert_eq!(told.len(), 3);
}

/// An instance with every room, which follows the log.
async fn following(store: &Store) -> (Background, Ledger) {
    let (state, freshness) = store.state().await;
    let background = Background::new(&state, freshness);
    background.follower.tick().await.unwrap();
    (background, state.ledger.clone())
}

async fn an_instance_that_hears_of_a_reset_gives_up_its_block(store: Store) {
    let (background, held) = following(&store).await;
    let database = store.open().await;
    let (site_id, _) = store.instance().await.create_site().await;
    let plan = "enterprise";
    let issue = async |ledger: &Ledger, calls| {
        for _ in 0..calls {
            let permit = ledger.reserve(site_id, plan, 1).await.unwrap();
            permit.settle(Some(Outcome::Issued)).await;
        }
    };
    issue(&held, 20).await;
    let [reserved, used] = ["day_reserved", "day_used"];
    let stored = async |column: &str| store.number(&format!("SELECT {column} FROM usage")).await;
    assert!(stored(reserved).await > 0);
    let operator = ledger(&store, database.clone(), store.config.plans.clone());
    reset(&store, &database, &operator, site_id).await;
    background.follower.tick().await.unwrap();
    held.flush().await.unwrap();
    assert_eq!((stored(used).await, stored(reserved).await), (0, 0));
    issue(&held, 1).await;
    assert_eq!(stored(used).await, 1, "it took one anew");
}

async fn what_was_taken_before_a_reset_is_not_given_back_after_it(store: Store) {
    let database = store.open().await;
    let ledger = blocks::instance(&store).await;
    let [small, large] = [new_site(&store), new_site(&store)];
    let early = ledger.reserve(small, "small", 1).await.unwrap();
    blocks::issue(&ledger, large, 20).await;
    for site_id in [small, large] {
        reset(&store, &database, &ledger, site_id).await;
    }
    let late = ledger.reserve(small, "small", 1).await.unwrap();
    early.settle(None).await;
    let other = blocks::instance(&store).await;
    blocks::issue(&other, large, 3).await;
    other.close().await.unwrap();
    // It has not heard of the reset, and ends with a block of before.
    ledger.close().await.unwrap();
    assert_eq!(
        store
            .number("SELECT CAST(sum(day_used) AS BIGINT) FROM usage")
            .await,
        1 + 3
    );
    late.settle(None).await;
    assert_eq!(
        store
            .number("SELECT CAST(sum(day_used) AS BIGINT) FROM usage")
            .await,
        3
    );
    assert_eq!(
        store
            .number("SELECT CAST(sum(day_reserved) AS BIGINT) FROM usage")
            .await,
        0
    );
}

/// As after a fail-over: the store may not know of it, and it is not given back.
async fn an_instance_that_missed_changes_holds_no_block_and_gives_none_back(store: Store) {
    let ledger = blocks::instance(&store).await;
    let site_id = new_site(&store);
    blocks::issue(&ledger, site_id, 20).await;
    ledger.flush().await.unwrap();
    let [(used, reserved), _] = blocks::stored(&store, site_id).await;
    assert!(used == 20 && reserved > 0);
    let follows: &dyn Follows = &ledger;
    follows.reset().await.unwrap();
    ledger.close().await.unwrap();
    assert_eq!(blocks::stored(&store, site_id).await[0], (20, reserved));
    assert_eq!(
        blocks::use_up(&ledger, site_id).await,
        blocks::LIMIT - 20 - reserved
    );
}

/// The charge was on its way when the reset was heard of.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_that_was_taken_while_its_site_was_reset_is_not_kept() {
    let store = Store::postgres().await;
    let ledger = blocks::instance(&store).await;
    let site_id = new_site(&store);
    // The next call takes a block.
    blocks::issue(&ledger, site_id, 3).await;
    ledger.flush().await.unwrap();
    let held = Hold::of_table(&store, "usage").await;
    let taking = async { drop(ledger.reserve(site_id, "plan", 1).await.unwrap()) };
    let hearing = async {
        store.until_waiting(1).await;
        let reset = SeenChange {
            seq: 1,
            event: "usage.reset".to_owned(),
            subject: site_id.to_string(),
        };
        let follows: &dyn Follows = &ledger;
        follows.apply(&[reset]).await.unwrap();
        held.release().await;
    };
    tokio::join!(taking, hearing);
    let [(_, reserved), _] = blocks::stored(&store, site_id).await;
    assert!(reserved > 0, "it took a block");
    ledger.close().await.unwrap();
    assert_eq!(blocks::stored(&store, site_id).await[0].1, reserved);
}

/// What is logged on this thread.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Lines {
    fn listen(&self) -> tracing::subscriber::DefaultGuard {
        let subscriber = tracing_subscriber::fmt()
            .with_writer(self.clone())
            .with_ansi(false)
            .finish();
        tracing::subscriber::set_default(subscriber)
    }

    fn with(&self, part: &str) -> usize {
        let said = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        said.lines().filter(|line| line.contains(part)).count()
    }
}

/// So many records that are past their use, and so many that are not.
async fn fill_tokens(store: &Store, past: usize, alive: usize) {
    let instance = store.instance().await;
    let (site_id, _) = instance.create_site().await;
    join_all((0..past + alive).map(|_| instance.issue(site_id))).await;
    let sql = format!(
        "UPDATE tokens SET issued_at = 1, expires_at = 2 WHERE token_id IN \
         (SELECT token_id FROM tokens ORDER BY token_id LIMIT {past})"
    );
    store.execute(&sql).await.unwrap();
}

async fn a_clean_up_says_that_it_removes_more_than_a_tenth(store: Store) {
    let (state, _) = store.state().await;
    let janitor = Janitor::new(&state);
    for (past, alive, warnings) in [(9, 0, 0), (11, 99, 0), (11, 98, 1)] {
        fill_tokens(&store, past, alive).await;
        let lines = Lines::default();
        let listening = lines.listen();
        janitor.round().await.unwrap();
        drop(listening);
        let told = lines.with("removes more than a tenth");
        assert_eq!(told, warnings, "{past} of {}", past + alive);
        store.execute("DELETE FROM tokens").await.unwrap();
    }
}

async fn nothing_is_removed_when_the_clock_is_wrong(store: Store) {
    let (state, _) = store.state().await;
    fill_tokens(&store, 3, 0).await;
    let left = async || store.number("SELECT count(*) FROM tokens").await;
    let janitor = Janitor::new(&state);
    let time = state.database.time();
    let at = store.clock.moment();
    let (ours, seen) = (at.wall, at.wall);
    for state in [
        ClockState::Wrong(WrongClock::Behind { ours, seen }),
        ClockState::Ahead { ours, seen },
    ] {
        time.note(&store.clock, at, state);
        janitor.round().await.unwrap();
        assert_eq!(left().await, 3, "{state:?}");
    }
    time.note(&store.clock, at, ClockState::Right);
    // It was set since the last look.
    store.hand.set_off(2_000_000);
    janitor.round().await.unwrap();
    assert_eq!(left().await, 3);
    store.hand.set_off(0);
    janitor.round().await.unwrap();
    assert_eq!(left().await, 0);
}

async fn a_look_at_the_store_finds_the_clock_of_this_machine_right(store: Store) {
    let database = store.open().await;
    let clock = Clock::system();
    database.check_clock(&clock).await.unwrap();
    database.beat(&clock).await.unwrap();
    database.check_clock(&clock).await.unwrap();
    assert!(database.time().is_trusted());
    assert_eq!(database.time().require(&clock), Ok(()));
}

/// A call that is made with a wrong clock is refused before the store is asked.
#[tokio::test]
async fn a_ledger_takes_nothing_by_a_wrong_clock() {
    let store = Store::sqlite().await;
    let database = store.open().await;
    let ledger = ledger(&store, database.clone(), plans(&[("plan", 5, 50)]));
    let at = store.clock.moment();
    database.time().note(&store.clock, at, ClockState::Right);
    store.hand.set_off(-2_000_000);
    let refused = ledger.reserve(new_site(&store), "plan", 1).await;
    assert!(matches!(
        refused,
        Err(QuotaError::Store(StoreError::WrongClock(WrongClock::Leapt)))
    ));
    assert_eq!(store.number("SELECT count(*) FROM usage").await, 0);
}
