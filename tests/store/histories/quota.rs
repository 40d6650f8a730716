//! Quotas: instances whose clocks differ take calls, give them back, and begin new days.

use std::sync::Arc;

use futures_util::future::join_all;
use mirrory::{
    quota::{Ledger, Permit, QuotaError, Standing, Windows},
    store::Database,
    types::{
        clock::{ManualClock, Timestamp},
        ids::SiteId,
    },
};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{Noted, Order, check};
use crate::{
    harness::{SECOND, Store, on_both_stores},
    quota::{END_OF_NOVEMBER, new_site, plans},
};

on_both_stores!(charges_are_linearizable);

const SEEDS: u64 = 20;
const TASKS: usize = 5;
const CALLS: usize = 12;
const A_DAY: u64 = 9;
const A_MONTH: u64 = 25;
/// The month ends in a few seconds.
const START: Timestamp = Timestamp::from_micros(END_OF_NOVEMBER.as_micros() - 5_000_000);

/// What a caller sees of the day and of the month.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Used {
    day: u64,
    month: u64,
}

/// A call and its answer. A permit goes by its number.
#[derive(Clone, Debug)]
enum Event {
    Taken {
        permit: usize,
        calls: u64,
        windows: (i64, i64),
        used: Used,
    },
    Refused {
        calls: u64,
        windows: (i64, i64),
        used: Used,
    },
    /// The ledger saw too much come and go, and took nothing.
    Contended,
    GivenBack {
        permit: usize,
        calls: u64,
    },
    Looked {
        windows: (i64, i64),
        used: Used,
    },
}

/// The one row of the site, and the windows that each permit was charged to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Model {
    day: i64,
    day_used: u64,
    month: i64,
    month_used: u64,
    permits: Vec<(usize, i64, i64)>,
}

impl Model {
    /// The row as one sees it whose clock is in these windows: what is over counts nothing.
    fn seen_in(&self, (day, month): (i64, i64)) -> Self {
        let mut seen = self.clone();
        if day > seen.day {
            (seen.day, seen.day_used) = (day, 0);
        }
        if month > seen.month {
            (seen.month, seen.month_used) = (month, 0);
        }
        seen
    }

    const fn used(&self) -> Used {
        Used {
            day: self.day_used,
            month: self.month_used,
        }
    }

    const fn has(&self, calls: u64) -> bool {
        self.day_used + calls <= A_DAY && self.month_used + calls <= A_MONTH
    }
}

fn step(model: &Model, event: &Event) -> Option<Model> {
    match event {
        Event::Taken {
            permit,
            calls,
            windows,
            used,
        } => {
            let mut next = model.seen_in(*windows);
            if !next.has(*calls) {
                return None;
            }
            next.day_used += calls;
            next.month_used += calls;
            next.permits.push((*permit, next.day, next.month));
            next.permits.sort_unstable();
            (next.used() == *used).then_some(next)
        }
        Event::Refused {
            calls,
            windows,
            used,
        } => {
            let seen = model.seen_in(*windows);
            (!seen.has(*calls) && seen.used() == *used).then(|| model.clone())
        }
        Event::Looked { windows, used } => {
            (model.seen_in(*windows).used() == *used).then(|| model.clone())
        }
        Event::Contended => Some(model.clone()),
        Event::GivenBack { permit, calls } => {
            let mut next = model.clone();
            let index = next.permits.iter().position(|(its, _, _)| its == permit)?;
            let (_, day, month) = next.permits.remove(index);
            if day == next.day {
                next.day_used -= calls;
            }
            if month == next.month {
                next.month_used -= calls;
            }
            Some(next)
        }
    }
}

const fn used(standing: &Standing) -> Used {
    Used {
        day: standing.day.used,
        month: standing.month.used,
    }
}

/// An instance with a clock of its own, and the permits that it holds.
struct Worker {
    ledger: Ledger,
    hand: ManualClock,
    site_id: SiteId,
    held: Vec<(usize, u64, Permit)>,
    next_permit: usize,
    random: StdRng,
}

impl Worker {
    fn new(database: Database, site_id: SiteId, number: usize, seed: u64) -> Self {
        let hand = ManualClock::starting_at(START);
        Self {
            ledger: Ledger::new(database, plans(&[("plan", A_DAY, A_MONTH)]), hand.clock()),
            hand,
            site_id,
            held: Vec::new(),
            next_permit: number * CALLS,
            random: StdRng::seed_from_u64(seed),
        }
    }

    fn windows(&self) -> (i64, i64) {
        let windows = Windows::at(self.hand.clock().now());
        (windows.day, windows.month)
    }

    async fn take(&mut self) -> Event {
        let calls = self.random.random_range(1..=3);
        let windows = self.windows();
        match self.ledger.reserve(self.site_id, "plan", calls).await {
            Ok(permit) => {
                let used = used(&permit.standing);
                let number = self.next_permit;
                self.next_permit += 1;
                self.held.push((number, calls, permit));
                Event::Taken {
                    permit: number,
                    calls,
                    windows,
                    used,
                }
            }
            Err(QuotaError::Exceeded(standing)) => Event::Refused {
                calls,
                windows,
                used: used(&standing),
            },
            Err(QuotaError::Contended) => Event::Contended,
            Err(error) => panic!("{error:?}"),
        }
    }

    async fn look(&mut self) -> Event {
        let windows = self.windows();
        let standing = self.ledger.standing(self.site_id, "plan").await.unwrap();
        Event::Looked {
            windows,
            used: used(&standing),
        }
    }

    async fn call(&mut self) -> Event {
        match self.random.random_range(0..100) {
            0..30 if !self.held.is_empty() => {
                let index = self.random.random_range(0..self.held.len());
                let (permit, calls, held) = self.held.remove(index);
                held.settle(None).await;
                Event::GivenBack { permit, calls }
            }
            30..40 => self.look().await,
            _ => self.take().await,
        }
    }

    async fn work(mut self, order: Arc<Order>) -> Vec<Noted<Event>> {
        let mut history = Vec::new();
        for _ in 0..CALLS {
            // Time passes on each clock by itself, so that some run behind when a month begins.
            if self.random.random_bool(0.4) {
                self.hand.advance(SECOND);
            }
            history.push(order.note(self.call()).await);
        }
        history
    }
}

async fn charges_are_linearizable(store: Store) {
    let databases = [store.open().await, store.open().await];
    for seed in 0..SEEDS {
        let site_id = new_site(&store);
        let order = Arc::new(Order::default());
        let worker =
            |number: usize, seed| Worker::new(databases[number % 2].clone(), site_id, number, seed);
        let tasks = (0_u64..).zip(0..TASKS).map(|(task, number)| {
            let worker = worker(number, seed * 100 + task);
            tokio::spawn(worker.work(order.clone()))
        });
        let mut history = Vec::new();
        for done in join_all(tasks).await {
            history.extend(done.unwrap());
        }
        assert_eq!(history.len(), TASKS * CALLS);
        // A last look: the counter is what was taken and not given back.
        let mut last = worker(TASKS, seed);
        history.push(order.note(last.look()).await);
        check(seed, Model::default(), history, step);
    }
}
