//! Blocks of calls: plans of more than 1,000 a day are charged in memory, and the limit holds all the
//! same.

use std::time::Duration;

use futures_util::{FutureExt, future::join_all};
use mirrory::{
    quota::{DayCounts, Ledger, Outcome, Permit, QuotaError, Standing},
    store::StoreError,
    types::{clock::Timestamp, ids::SiteId},
};
use tokio::time::Instant;

use crate::{
    harness::{DAY, Hold, MICRO, NOON, SECOND, Store, just_under, on_both_stores},
    quota::{END_OF_NOVEMBER, ledger, new_site, plans},
};

on_both_stores!(
    instances_that_race_let_no_more_through_than_the_limit_and_can_use_it_up,
    calls_that_race_take_one_block_at_a_time,
    a_lone_instance_uses_up_the_limit_to_the_last_call,
    a_plan_of_1000_calls_a_day_is_counted_call_by_call,
    a_quiet_site_is_counted_exactly,
    a_block_is_spent_without_the_store,
    what_is_left_is_known_call_by_call,
    what_was_spent_is_told_with_the_next_flush,
    an_idle_block_comes_back,
    a_closed_ledger_holds_nothing,
    a_ledger_is_not_closed_while_the_store_is_still_being_told,
    an_instance_that_is_gone_keeps_its_block_from_the_others,
    a_call_that_came_to_nothing_can_be_made_again,
    a_call_of_a_block_that_is_gone_is_given_back_to_the_store,
    a_block_ends_with_its_day,
    a_block_of_the_last_day_ends_with_its_month,
    a_block_is_of_no_use_on_another_plan,
    a_smaller_plan_is_obeyed_at_once,
    a_site_that_used_up_its_quota_is_asked_about_again_a_second_later,
    a_refusal_from_memory_ends_with_its_day,
    what_cannot_be_told_is_told_later_and_once,
    what_the_store_refused_to_be_told_is_told_later_and_once,
    of_many_that_wait_for_a_block_all_are_told_soon_that_it_cannot_be_had,
    many_sites_are_told_of_together_also_across_midnight,
);

pub const LIMIT: u64 = 1_200;

/// A ledger of one more instance, on a plan of [`LIMIT`] calls a day.
pub async fn instance(store: &Store) -> Ledger {
    let plans = plans(&[
        ("plan", LIMIT, 30_000),
        ("larger", 50_000, 50_000),
        ("small", 200, 30_000),
    ]);
    ledger(store, store.open().await, plans)
}

/// Makes a call, if there is one left.
async fn call(ledger: &Ledger, site_id: SiteId) -> Result<Permit, Standing> {
    match ledger.reserve(site_id, "plan", 1).await {
        Ok(permit) => Ok(permit),
        Err(QuotaError::Exceeded(standing)) => Err(standing),
        Err(error) => panic!("{error:?}"),
    }
}

/// Makes so many calls that come to something.
pub async fn issue(ledger: &Ledger, site_id: SiteId, calls: u64) {
    for _ in 0..calls {
        let permit = call(ledger, site_id).await.unwrap();
        permit.settle(Some(Outcome::Issued)).await;
    }
}

/// Makes calls until one is refused; how many were made.
pub async fn use_up(ledger: &Ledger, site_id: SiteId) -> u64 {
    let mut made = 0;
    while let Ok(permit) = call(ledger, site_id).await {
        permit.settle(Some(Outcome::Validated)).await;
        made += 1;
        assert!(made <= LIMIT, "too many pass");
    }
    made
}

/// What the store knows: used and reserved of the day, and of the month.
pub async fn stored(store: &Store, site_id: SiteId) -> [(u64, u64); 2] {
    let onlooker = instance(store).await;
    let Standing { day, month, .. } = onlooker.standing(site_id, "plan").await.unwrap();
    [(day.used, day.reserved), (month.used, month.reserved)]
}

async fn instances_that_race_let_no_more_through_than_the_limit_and_can_use_it_up(store: Store) {
    let ledgers = [
        instance(&store).await,
        instance(&store).await,
        instance(&store).await,
    ];
    let site_id = new_site(&store);
    let tasks = (0..6).map(|number| {
        let ledger = ledgers[number % 3].clone();
        tokio::spawn(async move {
            let mut made = 0;
            for number in 0..400 {
                if let Ok(permit) = call(&ledger, site_id).await {
                    let outcome = (number % 10 > 0).then_some(Outcome::Issued);
                    made += u64::from(outcome.is_some());
                    permit.settle(outcome).await;
                }
                if number % 50 == 0 {
                    ledger.flush().await.unwrap();
                }
            }
            made
        })
    });
    let done = join_all(tasks).await;
    let made: u64 = done.into_iter().map(Result::unwrap).sum();
    for ledger in &ledgers {
        ledger.close().await.unwrap();
    }
    assert!(made <= LIMIT, "{made} pass");
    assert_eq!(stored(&store, site_id).await, [(made, 0); 2]);
    store.hand.advance(SECOND);
    assert_eq!(made + use_up(&ledgers[0], site_id).await, LIMIT);
}

/// The first block is a single call, and each of the next is twice as large as the one before.
async fn calls_that_race_take_one_block_at_a_time(store: Store) {
    let ledger = instance(&store).await;
    let site_id = new_site(&store);
    let calls = join_all((0..20).map(|_| call(&ledger, site_id))).await;
    assert!(calls.iter().all(Result::is_ok));
    let taken = [1, 2, 4, 8, 16];
    let [day, _] = stored(&store, site_id).await;
    assert_eq!(day, (5, taken.iter().sum::<u64>() - 5));
}

async fn a_lone_instance_uses_up_the_limit_to_the_last_call(store: Store) {
    let ledger = instance(&store).await;
    let site_id = new_site(&store);
    assert_eq!(use_up(&ledger, site_id).await, LIMIT);
    let standing = call(&ledger, site_id).await.err().unwrap();
    assert_eq!(standing.violated_by(1).names(), ["day"]);
    ledger.flush().await.unwrap();
    assert_eq!(stored(&store, site_id).await, [(LIMIT, 0); 2]);
}

async fn a_plan_of_1000_calls_a_day_is_counted_call_by_call(store: Store) {
    let plans = plans(&[("plan", 1_000, 30_000)]);
    let ledger = ledger(&store, store.open().await, plans);
    let site_id = new_site(&store);
    for made in 1..=20 {
        drop(call(&ledger, site_id).await.unwrap());
        assert_eq!(stored(&store, site_id).await, [(made, 0); 2]);
    }
}

async fn a_quiet_site_is_counted_exactly(store: Store) {
    let ledger = instance(&store).await;
    let site_id = new_site(&store);
    for made in 1..=10 {
        issue(&ledger, site_id, 1).await;
        assert_eq!(stored(&store, site_id).await, [(made, 0); 2]);
        store.hand.advance(SECOND);
    }
}

async fn a_block_is_spent_without_the_store(store: Store) {
    let database = store.open().await;
    let plans = plans(&[("plan", LIMIT, 30_000)]);
    let ledger = ledger(&store, database.clone(), plans);
    let site_id = new_site(&store);
    // Of a block of 16.
    issue(&ledger, site_id, 20).await;
    database.close().await;
    for _ in 0..11 {
        drop(call(&ledger, site_id).now_or_never().unwrap().unwrap());
    }
    for site_id in [site_id, new_site(&store)] {
        let next = ledger.reserve(site_id, "plan", 1).await;
        assert!(matches!(
            next,
            Err(QuotaError::Store(StoreError::Unreachable(_)))
        ));
    }
}

async fn what_is_left_is_known_call_by_call(store: Store) {
    let ledger = instance(&store).await;
    let site_id = new_site(&store);
    for made in 1..=100 {
        let permit = call(&ledger, site_id).await.unwrap();
        assert_eq!(permit.standing.day.remaining(), LIMIT - made);
        assert_eq!(permit.standing.month.remaining(), 30_000 - made);
        if made % 30 == 0 {
            ledger.flush().await.unwrap();
        }
        let standing = ledger.standing(site_id, "plan").await.unwrap();
        assert_eq!(standing.day.remaining(), LIMIT - made);
    }
    let permit = call(&ledger, site_id).await.unwrap();
    let standing = permit.settle(None).await;
    assert_eq!(standing.day.remaining(), LIMIT - 100);
}

async fn what_was_spent_is_told_with_the_next_flush(store: Store) {
    let ledger = instance(&store).await;
    let site_id = new_site(&store);
    issue(&ledger, site_id, 20).await;
    let permit = call(&ledger, site_id).await.unwrap();
    permit.settle(Some(Outcome::Validated)).await;
    assert_eq!(stored(&store, site_id).await, [(5, 26); 2]);
    for _ in 0..2 {
        ledger.flush().await.unwrap();
        assert_eq!(stored(&store, site_id).await, [(21, 10); 2]);
        let [counts] = ledger.history(site_id).await.unwrap()[..] else {
            panic!("one day");
        };
        let DayCounts {
            issued, validated, ..
        } = counts;
        assert_eq!((issued, validated), (20, 1));
    }
}

async fn an_idle_block_comes_back(store: Store) {
    let ledger = instance(&store).await;
    let site_id = new_site(&store);
    issue(&ledger, site_id, 20).await;
    ledger.flush().await.unwrap();
    store.hand.advance(Duration::from_secs(4));
    issue(&ledger, site_id, 1).await;
    ledger.flush().await.unwrap();
    store.hand.advance(just_under(Duration::from_secs(5)));
    ledger.flush().await.unwrap();
    assert_eq!(stored(&store, site_id).await, [(21, 10); 2]);
    store.hand.advance(MICRO);
    for _ in 0..2 {
        ledger.flush().await.unwrap();
        assert_eq!(stored(&store, site_id).await, [(21, 0); 2]);
    }
    // It begins anew, with a single call.
    issue(&ledger, site_id, 1).await;
    assert_eq!(stored(&store, site_id).await, [(22, 0); 2]);
}

async fn a_closed_ledger_holds_nothing(store: Store) {
    let ledger = instance(&store).await;
    let [busy, idle] = [new_site(&store), new_site(&store)];
    issue(&ledger, idle, 2).await;
    issue(&ledger, busy, 20).await;
    ledger.close().await.unwrap();
    assert_eq!(stored(&store, busy).await, [(20, 0); 2]);
    assert_eq!(stored(&store, idle).await, [(2, 0); 2]);
}

async fn a_ledger_is_not_closed_while_the_store_is_still_being_told(store: Store) {
    let ledger = instance(&store).await;
    let site_id = new_site(&store);
    issue(&ledger, site_id, 7).await;
    let held = Hold::of_table(&store, "usage").await;
    let mut flush = Box::pin(ledger.flush());
    assert!(flush.as_mut().now_or_never().is_none());
    let mut close = Box::pin(ledger.close());
    assert!(close.as_mut().now_or_never().is_none());
    held.release().await;
    let (flushed, closed) = tokio::join!(flush, close);
    flushed.and(closed).unwrap();
    assert_eq!(stored(&store, site_id).await, [(7, 0); 2]);
}

async fn an_instance_that_is_gone_keeps_its_block_from_the_others(store: Store) {
    let site_id = new_site(&store);
    let gone = instance(&store).await;
    issue(&gone, site_id, 50).await;
    gone.flush().await.unwrap();
    issue(&gone, site_id, 5).await;
    drop(gone);
    let other = instance(&store).await;
    let made = use_up(&other, site_id).await;
    other.close().await.unwrap();
    // 63 were taken, in six blocks; nobody knows what became of the last ones.
    assert_eq!(stored(&store, site_id).await, [(LIMIT - 13, 13); 2]);
    assert_eq!(made, LIMIT - 63);
    store.hand.advance(DAY);
    assert_eq!(use_up(&other, site_id).await, LIMIT);
}

async fn a_call_that_came_to_nothing_can_be_made_again(store: Store) {
    let ledger = instance(&store).await;
    let site_id = new_site(&store);
    issue(&ledger, site_id, LIMIT - 1).await;
    for _ in 0..3 {
        let last = call(&ledger, site_id).await.unwrap();
        assert!(call(&ledger, site_id).await.is_err());
        ledger.flush().await.unwrap();
        last.settle(None).await;
    }
    issue(&ledger, site_id, 1).await;
    assert!(call(&ledger, site_id).await.is_err());
    ledger.flush().await.unwrap();
    assert_eq!(stored(&store, site_id).await, [(LIMIT, 0); 2]);
}

async fn a_call_of_a_block_that_is_gone_is_given_back_to_the_store(store: Store) {
    let ledger = instance(&store).await;
    let site_id = new_site(&store);
    let told = call(&ledger, site_id).await.unwrap();
    issue(&ledger, site_id, 10).await;
    ledger.flush().await.unwrap();
    let untold = call(&ledger, site_id).await.unwrap();
    ledger.close().await.unwrap();
    assert_eq!(stored(&store, site_id).await, [(12, 0); 2]);
    told.settle(None).await;
    untold.settle(None).await;
    for _ in 0..2 {
        ledger.flush().await.unwrap();
        assert_eq!(stored(&store, site_id).await, [(10, 0); 2]);
    }
}

async fn a_block_ends_with_its_day(store: Store) {
    let ledger = instance(&store).await;
    let site_id = new_site(&store);
    let midnight = Timestamp::from_seconds(NOON.as_seconds() / 86_400 * 86_400 + 86_400);
    store.hand.set_wall(midnight.before(MICRO));
    issue(&ledger, site_id, 20).await;
    let slow = call(&ledger, site_id).await.unwrap();
    assert_eq!(stored(&store, site_id).await, [(5, 26); 2]);
    store.hand.set_wall(midnight);
    issue(&ledger, site_id, 1).await;
    ledger.flush().await.unwrap();
    let [day, month] = stored(&store, site_id).await;
    assert_eq!(day.0, 1);
    assert_eq!(month.0, 22);
    assert_eq!(day.1, month.1, "of the old block nothing is kept");
    slow.settle(None).await;
    ledger.close().await.unwrap();
    assert_eq!(stored(&store, site_id).await, [(1, 0), (21, 0)]);
}

async fn a_block_of_the_last_day_ends_with_its_month(store: Store) {
    let ledger = instance(&store).await;
    let site_id = new_site(&store);
    store.hand.set_wall(END_OF_NOVEMBER);
    issue(&ledger, site_id, 20).await;
    let slow = call(&ledger, site_id).await.unwrap();
    store.hand.set_wall(END_OF_NOVEMBER.after(MICRO));
    ledger.flush().await.unwrap();
    assert_eq!(stored(&store, site_id).await, [(0, 0); 2]);
    issue(&ledger, site_id, 1).await;
    slow.settle(None).await;
    ledger.close().await.unwrap();
    assert_eq!(stored(&store, site_id).await, [(1, 0); 2]);
}

async fn a_block_is_of_no_use_on_another_plan(store: Store) {
    let ledger = instance(&store).await;
    let site_id = new_site(&store);
    issue(&ledger, site_id, 20).await;
    let permit = ledger.reserve(site_id, "larger", 1).await.unwrap();
    assert_eq!(permit.standing.day.remaining(), 50_000 - 21);
    assert_eq!(stored(&store, site_id).await, [(21, 0); 2]);
}

async fn a_smaller_plan_is_obeyed_at_once(store: Store) {
    let ledger = instance(&store).await;
    let site_id = new_site(&store);
    issue(&ledger, site_id, 190).await;
    let mut made = 190;
    while let Ok(permit) = ledger.reserve(site_id, "small", 1).await {
        drop(permit);
        made += 1;
        assert_eq!(stored(&store, site_id).await, [(made, 0); 2]);
    }
    assert_eq!(made, 200, "what was held of the larger plan can be used");
    // And back.
    assert_eq!(use_up(&ledger, site_id).await, LIMIT - 200);
}

async fn a_site_that_used_up_its_quota_is_asked_about_again_a_second_later(store: Store) {
    let [ledger, other] = [instance(&store).await, instance(&store).await];
    let site_id = new_site(&store);
    issue(&other, site_id, 20).await;
    assert_eq!(use_up(&ledger, site_id).await, LIMIT - 31);
    other.close().await.unwrap();
    store.hand.advance(just_under(SECOND));
    assert!(call(&ledger, site_id).await.is_err());
    store.hand.advance(MICRO);
    assert_eq!(use_up(&ledger, site_id).await, 11);
}

async fn a_refusal_from_memory_ends_with_its_day(store: Store) {
    let ledger = instance(&store).await;
    let site_id = new_site(&store);
    assert_eq!(use_up(&ledger, site_id).await, LIMIT);
    store.hand.set_wall(NOON.after(DAY));
    assert_eq!(use_up(&ledger, site_id).await, LIMIT);
    let larger = ledger.reserve(site_id, "larger", 1).await;
    assert!(larger.is_ok(), "nor does it hold for another plan");
}

async fn what_cannot_be_told_is_told_later_and_once(mut store: Store) {
    store.config.database.max_connections = 1;
    let database = store.open_with(SECOND).await;
    let plans = plans(&[("plan", LIMIT, 30_000)]);
    let ledger = ledger(&store, database.clone(), plans);
    let site_id = new_site(&store);
    issue(&ledger, site_id, 20).await;
    let takes_the_connection = database.begin().await.unwrap();
    assert!(ledger.flush().await.is_err());
    assert!(ledger.close().await.is_err());
    drop(takes_the_connection);
    assert_eq!(stored(&store, site_id).await, [(5, 26); 2]);
    for _ in 0..2 {
        ledger.flush().await.unwrap();
        assert_eq!(stored(&store, site_id).await, [(20, 0); 2]);
    }
    let [counts] = ledger.history(site_id).await.unwrap()[..] else {
        panic!("one day");
    };
    assert_eq!(counts.issued, 20);
}

async fn what_the_store_refused_to_be_told_is_told_later_and_once(store: Store) {
    let ledger = instance(&store).await;
    let site_id = new_site(&store);
    let returned = call(&ledger, site_id).await.unwrap();
    issue(&ledger, site_id, 20).await;
    let away = "ALTER TABLE usage RENAME TO usage_away";
    store.execute(away).await.unwrap();
    returned.settle(None).await;
    assert!(ledger.close().await.is_err());
    let back = "ALTER TABLE usage_away RENAME TO usage";
    store.execute(back).await.unwrap();
    assert_eq!(stored(&store, site_id).await, [(5, 26); 2]);
    for _ in 0..2 {
        ledger.flush().await.unwrap();
        assert_eq!(stored(&store, site_id).await, [(20, 0); 2]);
    }
    let [counts] = ledger.history(site_id).await.unwrap()[..] else {
        panic!("one day");
    };
    assert_eq!(counts.issued, 20);
}

/// The server ends the statement by itself, and says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waited_too_long_for_a_row_is_told_later_and_once() {
    let store = Store::postgres().await;
    let plans = plans(&[("plan", LIMIT, 30_000)]);
    let ledger = ledger(&store, store.open_with(SECOND).await, plans);
    let site_id = new_site(&store);
    issue(&ledger, site_id, 20).await;
    let held = Hold::of_table(&store, "usage").await;
    assert!(ledger.close().await.is_err());
    held.release().await;
    for _ in 0..2 {
        ledger.flush().await.unwrap();
        assert_eq!(stored(&store, site_id).await, [(20, 0); 2]);
    }
}

/// The block has too little left for any of them, and is to be given back first.
async fn of_many_that_wait_for_a_block_all_are_told_soon_that_it_cannot_be_had(store: Store) {
    let deadline = 2 * SECOND;
    let plans = plans(&[("plan", LIMIT, 30_000)]);
    let ledger = ledger(&store, store.open_with(deadline).await, plans);
    let site_id = new_site(&store);
    issue(&ledger, site_id, 2).await;
    let held = Hold::of_table(&store, "usage").await;
    let began = Instant::now();
    let asked = join_all((0..20).map(|_| ledger.reserve(site_id, "plan", 2))).await;
    let took = began.elapsed();
    assert!(took < deadline.mul_f32(1.5), "after {took:?}");
    for answer in asked {
        assert!(matches!(answer, Err(QuotaError::Store(_))));
    }
    held.release().await;
    assert!(ledger.reserve(site_id, "plan", 2).await.is_ok());
}

/// More than go into one statement, by two instances that meet on the same rows.
async fn many_sites_are_told_of_together_also_across_midnight(store: Store) {
    let ledgers = [instance(&store).await, instance(&store).await];
    let sites: Vec<SiteId> = (0..510).map(|_| new_site(&store)).collect();
    for _ in 0..2 {
        for ledger in &ledgers {
            for calls in sites.chunks(8) {
                join_all(calls.iter().map(|site_id| issue(ledger, *site_id, 1))).await;
            }
        }
        store.hand.advance(DAY);
    }
    let [one, other] = &ledgers;
    let (one, other) = tokio::join!(one.close(), other.close());
    one.and(other).unwrap();
    let counted = "SELECT CAST(count(*) AS BIGINT) FROM usage_history WHERE issued = 2";
    assert_eq!(store.number(counted).await, 2 * 510);
    let charged = "SELECT CAST(count(*) AS BIGINT) FROM usage WHERE day_used = 2 \
                   AND day_reserved = 0 AND month_used = 4 AND month_reserved = 0";
    assert_eq!(store.number(charged).await, 510);
}
