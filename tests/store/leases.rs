//! Leases: work that one instance at a time does.

use std::time::Duration;

use futures_util::future::join_all;
use mirrory::store::leases::claim;

use crate::harness::{MICRO, NOON, Store, on_both_stores};

on_both_stores!(
    of_eight_that_claim_at_once_one_holds,
    a_claim_lasts_until_its_end_and_not_longer,
    a_holder_prolongs_its_claim,
    claims_of_other_work_do_not_meet,
    a_claim_that_a_wrong_clock_made_keeps_nobody_out,
);

const MINUTE: Duration = Duration::from_mins(1);

async fn of_eight_that_claim_at_once_one_holds(store: Store) {
    let databases = [store.open().await, store.open().await];
    for round in 0..10 {
        let work = format!("work {round}");
        let claims = (0..8).map(|number| {
            let holder = store.randomness.uuid_v7(NOON);
            let database = &databases[number % 2];
            claim(database, &work, holder, NOON, NOON.after(MINUTE))
        });
        let won = join_all(claims).await;
        let won = won.into_iter().filter(|claimed| *claimed.as_ref().unwrap());
        assert_eq!(won.count(), 1);
    }
}

async fn a_claim_lasts_until_its_end_and_not_longer(store: Store) {
    let database = store.open().await;
    let [first, second] = [(); 2].map(|()| store.randomness.uuid_v7(NOON));
    let end = NOON.after(MINUTE);
    assert!(claim(&database, "work", first, NOON, end).await.unwrap());
    let just_before = end.before(MICRO);
    let later = end.after(MINUTE);
    assert!(
        !claim(&database, "work", second, just_before, later)
            .await
            .unwrap()
    );
    assert!(claim(&database, "work", second, end, later).await.unwrap());
    assert!(!claim(&database, "work", first, end, later).await.unwrap());
}

async fn a_holder_prolongs_its_claim(store: Store) {
    let database = store.open().await;
    let [first, second] = [(); 2].map(|()| store.randomness.uuid_v7(NOON));
    let [one, two] = [NOON.after(MINUTE), NOON.after(2 * MINUTE)];
    assert!(claim(&database, "work", first, NOON, one).await.unwrap());
    assert!(claim(&database, "work", first, NOON, two).await.unwrap());
    assert!(!claim(&database, "work", second, one, two).await.unwrap());
    assert!(
        claim(&database, "work", second, two, two.after(MINUTE))
            .await
            .unwrap()
    );
}

async fn claims_of_other_work_do_not_meet(store: Store) {
    let database = store.open().await;
    let [first, second] = [(); 2].map(|()| store.randomness.uuid_v7(NOON));
    let end = NOON.after(MINUTE);
    assert!(claim(&database, "work", first, NOON, end).await.unwrap());
    assert!(
        claim(&database, "other work", second, NOON, end)
            .await
            .unwrap()
    );
}

async fn a_claim_that_a_wrong_clock_made_keeps_nobody_out(store: Store) {
    let database = store.open().await;
    let [ahead, right] = [(); 2].map(|()| store.randomness.uuid_v7(NOON));
    let years_later = NOON.after(400 * 24 * 60 * MINUTE);
    let end = years_later.after(MINUTE);
    assert!(
        claim(&database, "work", ahead, years_later, end)
            .await
            .unwrap()
    );
    assert!(
        claim(&database, "work", right, NOON, NOON.after(MINUTE))
            .await
            .unwrap()
    );
}
