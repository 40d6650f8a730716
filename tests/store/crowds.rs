//! Instances that take calls at the same time, each at its own pace, and restart and crash, while
//! days pass: whatever the order, the sums are right.

use std::{collections::BTreeMap, time::Duration};

use futures_util::future::join_all;
use mirrory::{
    config::Plans,
    quota::{Ledger, Outcome, Permit, QuotaError, Standing},
    store::Database,
    types::{
        clock::{ManualClock, Timestamp},
        ids::SiteId,
    },
};
use proptest::{
    prelude::*,
    sample::{Index, select},
    test_runner::{Config, TestError, TestRunner},
};
use tokio::{runtime::Handle, task::block_in_place};

use crate::{
    harness::{DAY, NOON, Store, on_both_stores},
    quota::{new_site, plans},
};

on_both_stores!(instances_that_run_at_once_let_through_and_keep_what_the_store_says);

const CASES: u32 = 24;
const INSTANCES: usize = 3;
/// The first is counted call by call.
const PLANS: [(&str, u64, u64); 2] = [("small", 990, 1_100), ("plan", 1_010, 1_120)];

#[derive(Clone, Debug)]
enum Step {
    Take(u64),
    Settle {
        which: Index,
        delivered: bool,
    },
    Flush,
    /// Gives all back, and starts again.
    Restart,
    /// Forgets its block, and starts again.
    Crash,
    Wait(Duration),
    Midnight,
}

fn step() -> impl Strategy<Value = Step> {
    let settle = (any::<Index>(), any::<bool>());
    prop_oneof![
        16 => (1..4_u64).prop_map(Step::Take),
        8 => settle.prop_map(|(which, delivered)| Step::Settle { which, delivered }),
        3 => Just(Step::Flush),
        1 => Just(Step::Restart),
        1 => Just(Step::Crash),
        3 => select(vec![10, 1_000, 5_000]).prop_map(|ms| Step::Wait(Duration::from_millis(ms))),
        1 => Just(Step::Midnight),
    ]
}

/// How many calls stay charged to each day and month, by when it ends.
#[derive(Default)]
struct Charged {
    days: BTreeMap<Timestamp, u64>,
    months: BTreeMap<Timestamp, u64>,
}

impl Charged {
    fn add(&mut self, standing: &Standing, calls: u64) {
        *self.days.entry(standing.day.resets_at).or_default() += calls;
        *self.months.entry(standing.month.resets_at).or_default() += calls;
    }

    fn remove(&mut self, standing: &Standing, calls: u64) {
        *self.days.get_mut(&standing.day.resets_at).unwrap() -= calls;
        *self.months.get_mut(&standing.month.resets_at).unwrap() -= calls;
    }

    fn sum(all: impl IntoIterator<Item = Self>) -> Self {
        let mut sum = Self::default();
        for charged in all {
            for (ends, calls) in charged.days {
                *sum.days.entry(ends).or_default() += calls;
            }
            for (ends, calls) in charged.months {
                *sum.months.entry(ends).or_default() += calls;
            }
        }
        sum
    }
}

/// One instance, and what it let through.
struct Runner {
    database: Database,
    limits: Plans,
    hand: ManualClock,
    site_id: SiteId,
    plan: &'static str,
    ledger: Ledger,
    open: Vec<(Permit, u64)>,
    charged: Charged,
}

impl Runner {
    fn new(store: &Store, database: Database, site_id: SiteId, plan: &'static str) -> Self {
        let limits = plans(&PLANS);
        Self {
            ledger: Ledger::new(database.clone(), limits.clone(), store.hand.clock()),
            hand: store.hand.clone(),
            database,
            limits,
            site_id,
            plan,
            open: Vec::new(),
            charged: Charged::default(),
        }
    }

    async fn take(&mut self, calls: u64) -> bool {
        match self.ledger.reserve(self.site_id, self.plan, calls).await {
            Ok(permit) => {
                self.charged.add(&permit.standing, calls);
                self.open.push((permit, calls));
                true
            }
            Err(QuotaError::Exceeded(_) | QuotaError::Contended) => false,
            Err(error) => panic!("{error:?}"),
        }
    }

    async fn settle(&mut self, index: usize, delivered: bool) {
        let (permit, calls) = self.open.swap_remove(index);
        if !delivered {
            self.charged.remove(&permit.standing, calls);
        }
        permit.settle(delivered.then_some(Outcome::Issued)).await;
    }

    async fn end(&mut self) {
        while !self.open.is_empty() {
            self.settle(0, false).await;
        }
        self.ledger.close().await.unwrap();
    }

    fn start(&mut self) {
        let Self {
            database, limits, ..
        } = self;
        self.ledger = Ledger::new(database.clone(), limits.clone(), self.hand.clock());
    }

    async fn run(mut self, steps: Vec<Step>) -> Self {
        for step in steps {
            match step {
                Step::Take(calls) => {
                    self.take(calls).await;
                }
                Step::Settle { which, delivered } if !self.open.is_empty() => {
                    self.settle(which.index(self.open.len()), delivered).await;
                }
                Step::Settle { .. } => {}
                Step::Flush => self.ledger.flush().await.unwrap(),
                Step::Restart => {
                    self.end().await;
                    self.start();
                }
                Step::Crash => {
                    // What is lost then is the block alone.
                    self.ledger.flush().await.unwrap();
                    self.open.clear();
                    self.start();
                }
                Step::Wait(time) => self.hand.advance(time),
                Step::Midnight => self.hand.advance(DAY),
            }
        }
        self.end().await;
        self
    }
}

async fn check(
    store: &Store,
    databases: &[Database],
    plan: &'static str,
    made: u64,
    lists: Vec<Vec<Step>>,
) {
    // Two midnights before the month ends; long past, for the database's own clock counts too.
    store.hand.set_wall(NOON.after(8 * DAY).before(365 * DAY));
    let site_id = new_site(store);
    let runners = databases
        .iter()
        .map(|database| Runner::new(store, database.clone(), site_id, plan));
    let mut runners: Vec<Runner> = runners.collect();
    // Most calls are made already, so that the last ones are raced for.
    assert!(runners[0].take(made).await);
    runners[0].settle(0, true).await;
    let has_crashed = lists
        .iter()
        .flatten()
        .any(|step| matches!(step, Step::Crash));
    let tasks = runners.into_iter().zip(lists);
    let done = join_all(tasks.map(|(runner, steps)| tokio::spawn(runner.run(steps)))).await;
    let done = done.into_iter().map(Result::unwrap);
    let charged = Charged::sum(done.map(|runner| runner.charged));

    let mut last = Runner::new(store, databases[0].clone(), site_id, plan);
    let standing = last.ledger.standing(site_id, plan).await.unwrap();
    let Standing { day, month, .. } = standing;
    assert!(charged.days.values().all(|calls| *calls <= day.limit));
    assert!(charged.months.values().all(|calls| *calls <= month.limit));
    let of = |calls: Option<&u64>| calls.copied().unwrap_or_default();
    assert_eq!(day.used, of(charged.days.get(&day.resets_at)));
    assert_eq!(month.used, of(charged.months.get(&month.resets_at)));

    if !has_crashed {
        assert_eq!((day.reserved, month.reserved), (0, 0));
    }
    // What crashed instances held is lost, and nothing else.
    let mut left = 0;
    while last.take(1).await {
        left += 1;
    }
    assert_eq!(left, standing.remaining());
}

async fn instances_that_run_at_once_let_through_and_keep_what_the_store_says(store: Store) {
    let mut databases = Vec::new();
    for _ in 0..INSTANCES {
        databases.push(store.open().await);
    }
    let config = Config {
        failure_persistence: None,
        // Tasks do not meet again as they met.
        max_shrink_iters: 0,
        ..Config::with_cases(CASES)
    };
    let lists = prop::collection::vec(prop::collection::vec(step(), 1..60), INSTANCES);
    let plan = select(PLANS.map(|(name, ..)| name).to_vec());
    let cases = (plan, 930..980_u64, lists);
    let outcome = block_in_place(|| {
        TestRunner::new(config).run(&cases, |(plan, made, lists)| {
            Handle::current().block_on(check(&store, &databases, plan, made, lists));
            Ok(())
        })
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(reason, case)) => panic!("{reason}\n{case:#?}"),
        Err(abort) => panic!("{abort}"),
    }
}
