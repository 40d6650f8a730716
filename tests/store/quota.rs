//! The ledger: never more calls than the plan allows, and what is given back.

use std::time::Duration;

use futures_util::future::join_all;
use mirrory::{
    config::{Plan, Plans},
    quota::{Ledger, Permit, QuotaError, Standing},
    store::Database,
    types::{
        clock::{ManualClock, Timestamp},
        ids::SiteId,
    },
};

use crate::harness::{DAY, NOON, Store, on_both_stores};

on_both_stores!(
    of_2400_calls_in_eight_tasks_exactly_1000_pass,
    calls_are_taken_all_or_none,
    a_day_and_a_month_roll_over,
    a_clock_that_runs_behind_rolls_nothing_back,
    a_used_up_window_says_until_when,
    a_call_is_given_back_to_its_own_day_and_month,
    a_call_of_a_slow_clock_is_given_back_where_it_was_charged,
    a_dropped_permit_stays_charged,
    what_is_given_back_twice_never_goes_below_zero,
    another_plan_keeps_the_counters,
    sites_do_not_share_a_quota,
);

pub fn plans(plans: &[(&str, u64, u64)]) -> Plans {
    let plan = |(name, calls_per_day, calls_per_month): &(&str, u64, u64)| {
        let plan = Plan {
            calls_per_day: *calls_per_day,
            calls_per_month: *calls_per_month,
        };
        (name.parse().unwrap(), plan)
    };
    plans.iter().map(plan).collect()
}

pub fn ledger(store: &Store, database: Database, plans: Plans) -> Ledger {
    Ledger::new(database, plans, store.clock.clone())
}

pub fn new_site(store: &Store) -> SiteId {
    SiteId::new(NOON, &store.randomness)
}

pub async fn reserve(ledger: &Ledger, site_id: SiteId) -> Permit {
    ledger.reserve(site_id, "plan", 1).await.unwrap()
}

pub async fn exceeded(ledger: &Ledger, site_id: SiteId, calls: u64) -> Standing {
    match ledger.reserve(site_id, "plan", calls).await {
        Err(QuotaError::Exceeded(standing)) => standing,
        Err(error) => panic!("{error:?}"),
        Ok(_) => panic!("the call passes"),
    }
}

/// What was used of the day and of the month.
pub async fn used(ledger: &Ledger, site_id: SiteId) -> (u64, u64) {
    let standing = ledger.standing(site_id, "plan").await.unwrap();
    (standing.day.used, standing.month.used)
}

async fn of_2400_calls_in_eight_tasks_exactly_1000_pass(store: Store) {
    let limits = plans(&[("plan", 1000, 5000)]);
    let ledgers = [
        ledger(&store, store.open().await, limits.clone()),
        ledger(&store, store.open().await, limits),
    ];
    let site_id = new_site(&store);
    let tasks = (0..8).map(|number| {
        let ledger = ledgers[number % 2].clone();
        tokio::spawn(async move {
            let (mut passed, mut refused) = (0, 0);
            for _ in 0..300 {
                match ledger.reserve(site_id, "plan", 1).await {
                    Ok(permit) => {
                        drop(permit);
                        passed += 1;
                    }
                    Err(QuotaError::Exceeded(standing)) => {
                        assert_eq!(standing.day.used, 1000);
                        refused += 1;
                    }
                    Err(error) => panic!("{error:?}"),
                }
            }
            (passed, refused)
        })
    });
    let (mut passed, mut refused) = (0, 0);
    for task in join_all(tasks).await {
        let task = task.unwrap();
        passed += task.0;
        refused += task.1;
    }
    assert_eq!((passed, refused), (1000, 1400));
    assert_eq!(used(&ledgers[0], site_id).await, (1000, 1000));
}

async fn calls_are_taken_all_or_none(store: Store) {
    let ledger = ledger(&store, store.open().await, plans(&[("plan", 5, 7)]));
    let site_id = new_site(&store);
    exceeded(&ledger, site_id, 6).await;
    assert_eq!(used(&ledger, site_id).await, (0, 0));
    let permit = ledger.reserve(site_id, "plan", 3).await.unwrap();
    assert_eq!(permit.standing.day.remaining(), 2);
    assert_eq!(permit.standing.month.remaining(), 4);
    exceeded(&ledger, site_id, 3).await;
    assert_eq!(used(&ledger, site_id).await, (3, 3));
    permit.settle(None).await;
    assert_eq!(used(&ledger, site_id).await, (0, 0));
    let all = ledger.reserve(site_id, "plan", 5).await.unwrap();
    assert_eq!(all.standing.day.remaining(), 0);
    store.hand.advance(DAY);
    let violated = exceeded(&ledger, site_id, 3).await.violated_by(3);
    assert_eq!(violated.names(), ["month"]);
    ledger
        .reserve(site_id, "plan", 2)
        .await
        .unwrap()
        .settle(None)
        .await;
}

/// The last microsecond of November, in the time zone of the calendar of plans.
pub const END_OF_NOVEMBER: Timestamp = Timestamp::from_micros(1_796_083_199_999_999);

async fn a_day_and_a_month_roll_over(store: Store) {
    let ledger = ledger(&store, store.open().await, plans(&[("plan", 2, 3)]));
    let site_id = new_site(&store);
    store.hand.set_wall(END_OF_NOVEMBER.before(DAY));
    drop(reserve(&ledger, site_id).await);
    drop(reserve(&ledger, site_id).await);
    assert_eq!(
        exceeded(&ledger, site_id, 1).await.violated_by(1).names(),
        ["day"]
    );
    store.hand.advance(Duration::from_micros(1));
    assert_eq!(used(&ledger, site_id).await, (0, 2));
    drop(reserve(&ledger, site_id).await);
    assert_eq!(used(&ledger, site_id).await, (1, 3));
    store.hand.set_wall(END_OF_NOVEMBER);
    assert_eq!(
        exceeded(&ledger, site_id, 1).await.violated_by(1).names(),
        ["month"]
    );
    store.hand.advance(Duration::from_micros(1));
    assert_eq!(used(&ledger, site_id).await, (0, 0));
    drop(reserve(&ledger, site_id).await);
    drop(reserve(&ledger, site_id).await);
    assert_eq!(used(&ledger, site_id).await, (2, 2));
    exceeded(&ledger, site_id, 1).await;
}

async fn a_clock_that_runs_behind_rolls_nothing_back(store: Store) {
    let limits = plans(&[("plan", 2, 100)]);
    let database = store.open().await;
    let ahead = ledger(&store, database.clone(), limits.clone());
    let behind = ManualClock::starting_at(END_OF_NOVEMBER);
    let behind = Ledger::new(database, limits, behind.clock());
    let site_id = new_site(&store);
    drop(reserve(&behind, site_id).await);
    store
        .hand
        .set_wall(END_OF_NOVEMBER.after(Duration::from_secs(1)));
    drop(reserve(&ahead, site_id).await);
    assert_eq!(used(&ahead, site_id).await, (1, 1));
    assert_eq!(used(&behind, site_id).await, (1, 1), "the new month counts");
    drop(reserve(&behind, site_id).await);
    assert_eq!(
        used(&ahead, site_id).await,
        (2, 2),
        "charged to the month that has begun"
    );
    exceeded(&behind, site_id, 1).await;
    exceeded(&ahead, site_id, 1).await;
}

async fn a_used_up_window_says_until_when(store: Store) {
    let ledger = ledger(&store, store.open().await, plans(&[("plan", 1, 1)]));
    let site_id = new_site(&store);
    drop(reserve(&ledger, site_id).await);
    let standing = exceeded(&ledger, site_id, 1).await;
    assert_eq!(standing.day.resets_at.to_string(), "2026-11-22T00:00:00Z");
    assert_eq!(standing.month.resets_at.to_string(), "2026-12-01T00:00:00Z");
    assert_eq!((standing.day.limit, standing.day.used), (1, 1));
    let zero = ledger.reserve(site_id, "unheard of", 1).await;
    assert!(matches!(zero, Err(QuotaError::UnknownPlan(name)) if name == "unheard of"));
}

async fn a_call_is_given_back_to_its_own_day_and_month(store: Store) {
    let ledger = ledger(&store, store.open().await, plans(&[("plan", 10, 100)]));
    let site_id = new_site(&store);
    store.hand.set_wall(END_OF_NOVEMBER.before(DAY));
    let first = reserve(&ledger, site_id).await;
    let second = reserve(&ledger, site_id).await;
    first.settle(None).await;
    assert_eq!(used(&ledger, site_id).await, (1, 1));
    store.hand.set_wall(END_OF_NOVEMBER);
    let third = reserve(&ledger, site_id).await;
    second.settle(None).await;
    assert_eq!(used(&ledger, site_id).await, (1, 1), "to the month alone");
    store.hand.advance(Duration::from_micros(1));
    drop(reserve(&ledger, site_id).await);
    third.settle(None).await;
    assert_eq!(used(&ledger, site_id).await, (1, 1), "to neither");
}

async fn a_call_of_a_slow_clock_is_given_back_where_it_was_charged(store: Store) {
    let limits = plans(&[("plan", 10, 100)]);
    let database = store.open().await;
    let ahead = ledger(&store, database.clone(), limits.clone());
    let behind = ManualClock::starting_at(END_OF_NOVEMBER);
    let behind = Ledger::new(database, limits, behind.clock());
    let site_id = new_site(&store);
    store
        .hand
        .set_wall(END_OF_NOVEMBER.after(Duration::from_secs(1)));
    drop(reserve(&ahead, site_id).await);
    let late = reserve(&behind, site_id).await;
    assert_eq!(used(&ahead, site_id).await, (2, 2));
    late.settle(None).await;
    assert_eq!(used(&ahead, site_id).await, (1, 1));
}

async fn a_dropped_permit_stays_charged(store: Store) {
    let ledger = ledger(&store, store.open().await, plans(&[("plan", 2, 2)]));
    let site_id = new_site(&store);
    drop(reserve(&ledger, site_id).await);
    drop(reserve(&ledger, site_id).await);
    ledger.flush().await.unwrap();
    assert_eq!(used(&ledger, site_id).await, (2, 2));
    exceeded(&ledger, site_id, 1).await;
    assert_eq!(ledger.history(site_id).await.unwrap(), []);
}

async fn what_is_given_back_twice_never_goes_below_zero(store: Store) {
    let limits = plans(&[("plan", 10, 100)]);
    let ledger = ledger(&store, store.open().await, limits);
    let site_id = new_site(&store);
    let permits = [
        reserve(&ledger, site_id).await,
        reserve(&ledger, site_id).await,
    ];
    // As a restored back-up would have it.
    store
        .execute("UPDATE usage SET day_used = 1, month_used = 1")
        .await
        .unwrap();
    for permit in permits {
        permit.settle(None).await;
    }
    assert_eq!(used(&ledger, site_id).await, (0, 0));
}

async fn another_plan_keeps_the_counters(store: Store) {
    let limits = plans(&[("plan", 2, 10), ("large", 5, 10), ("none", 0, 0)]);
    let ledger = ledger(&store, store.open().await, limits);
    let site_id = new_site(&store);
    drop(reserve(&ledger, site_id).await);
    drop(reserve(&ledger, site_id).await);
    exceeded(&ledger, site_id, 1).await;
    let permit = ledger.reserve(site_id, "large", 1).await.unwrap();
    assert_eq!(
        (permit.standing.day.used, permit.standing.day.limit),
        (3, 5)
    );
    drop(permit);
    let standing = exceeded(&ledger, site_id, 1).await;
    assert_eq!((standing.day.used, standing.day.remaining()), (3, 0));
    for site_id in [site_id, new_site(&store)] {
        let none = ledger.reserve(site_id, "none", 1).await;
        assert!(matches!(none, Err(QuotaError::Exceeded(_))));
    }
}

async fn sites_do_not_share_a_quota(store: Store) {
    let ledger = ledger(&store, store.open().await, plans(&[("plan", 1, 1)]));
    let [one, two] = [new_site(&store), new_site(&store)];
    let of_one = reserve(&ledger, one).await;
    let of_two = reserve(&ledger, two).await;
    of_one.settle(None).await;
    assert_eq!(used(&ledger, one).await, (0, 0));
    assert_eq!(used(&ledger, two).await, (1, 1));
    drop(of_two);
}
