//! Quota and binding against a plain model: several instances call, are slow, restart and crash in
//! any order, days pass and plans change.

use std::time::Duration;

use mirrory::{
    config::Plans,
    keys::TokenClaims,
    quota::{Ledger, Outcome, Permit, QuotaError, Standing, Windows},
    store::changes::Actor,
    tokens::TokenState,
    types::ids::SiteId,
};
use proptest::{
    prelude::*,
    sample::select,
    test_runner::{Config, TestError, TestRunner},
};
use tokio::{runtime::Handle, task::block_in_place};

use crate::{
    harness::{DAY, Instance, NOON, Store, commit, machine, on_both_stores},
    quota::{ledger, plans},
};

on_both_stores!(whatever_happens_the_model_would_have_allowed_it);

const CASES: u32 = 48;
const INSTANCES: usize = 3;
const TOKENS: usize = 2;
/// The first is counted call by call.
const PLANS: [(&str, u64, u64); 3] = [
    ("small", 990, 1_100),
    ("plan", 1_010, 1_120),
    ("large", 1_050, 1_110),
];

#[derive(Clone, Debug)]
enum Step {
    /// Calls that are not settled yet.
    Take {
        instance: usize,
        calls: u64,
    },
    /// The end of one that was not settled yet.
    Settle {
        which: usize,
        delivered: bool,
    },
    /// A validation: a call that binds or comes to nothing.
    Validate {
        instance: usize,
        token: usize,
        machine: u8,
    },
    Release {
        instance: usize,
        token: usize,
    },
    Revoke {
        instance: usize,
        token: usize,
    },
    Flush {
        instance: usize,
    },
    /// Settles what is open, gives all back, and starts again.
    Restart {
        instance: usize,
    },
    /// Forgets everything, and starts again.
    Crash {
        instance: usize,
    },
    Wait(Duration),
    Midnight,
    SetPlan(&'static str),
}

fn step() -> impl Strategy<Value = Step> {
    let instance = || 0..INSTANCES;
    let token = || 0..TOKENS;
    let validate = (instance(), token(), 0..3_u8);
    prop_oneof![
        8 => (instance(), 1..4_u64).prop_map(|(instance, calls)| Step::Take { instance, calls }),
        8 => (any::<prop::sample::Index>(), any::<bool>()).prop_map(|(which, delivered)| {
            Step::Settle { which: which.index(1_000), delivered }
        }),
        12 => validate.prop_map(|(instance, token, machine)| {
            Step::Validate { instance, token, machine }
        }),
        2 => (instance(), token()).prop_map(|(instance, token)| Step::Release { instance, token }),
        1 => (instance(), token()).prop_map(|(instance, token)| Step::Revoke { instance, token }),
        4 => instance().prop_map(|instance| Step::Flush { instance }),
        1 => instance().prop_map(|instance| Step::Restart { instance }),
        1 => instance().prop_map(|instance| Step::Crash { instance }),
        3 => select(vec![10, 1_000, 5_000]).prop_map(|ms| Step::Wait(Duration::from_millis(ms))),
        1 => Just(Step::Midnight),
        1 => select(PLANS.map(|(name, ..)| name).to_vec()).prop_map(Step::SetPlan),
    ]
}

/// All that a service of one instance without any haste would know.
#[derive(Debug)]
struct Model {
    plan: &'static str,
    day: u64,
    month: u64,
    bound: [Option<u8>; TOKENS],
    revoked: [bool; TOKENS],
    /// Whether calls may be lost that nobody made.
    has_crashed: bool,
}

impl Model {
    fn limits(&self) -> (u64, u64) {
        let plan = PLANS.into_iter().find(|(name, ..)| *name == self.plan);
        let (_, day, month) = plan.unwrap();
        (day, month)
    }

    fn charge(&mut self, calls: u64) {
        self.day += calls;
        self.month += calls;
        let (day, month) = self.limits();
        assert!(self.day <= day && self.month <= month, "{self:?}");
    }

    fn binds(&mut self, token: usize, machine: u8) -> bool {
        let binds = !self.revoked[token] && self.bound[token].is_none_or(|its| its == machine);
        if binds {
            self.bound[token] = Some(machine);
        }
        binds
    }
}

/// A call that is not settled yet, at its instance, and the windows that it was made in.
struct Open {
    instance: usize,
    permit: Permit,
    calls: u64,
    windows: Windows,
}

struct World<'a> {
    store: &'a Store,
    limits: Plans,
    instances: Vec<(Instance, Ledger)>,
    site_id: SiteId,
    claims: Vec<TokenClaims>,
    open: Vec<Open>,
    model: Model,
}

impl<'a> World<'a> {
    /// Most of a day's calls are made already, so that the last ones are raced for.
    async fn new(store: &'a Store, instances: &[Instance], made: u64) -> Self {
        let limits = plans(&PLANS);
        let (site_id, _) = instances[0].create_site().await;
        let ledger = |instance: &Instance| ledger(store, instance.database.clone(), limits.clone());
        let ledgers: Vec<Ledger> = instances.iter().map(ledger).collect();
        drop(ledgers[0].reserve(site_id, "plan", made).await.unwrap());
        let mut world = Self {
            store,
            instances: instances.iter().cloned().zip(ledgers).collect(),
            limits,
            site_id,
            claims: Vec::new(),
            open: Vec::new(),
            model: Model {
                plan: "plan",
                day: made,
                month: made,
                bound: [None; TOKENS],
                revoked: [false; TOKENS],
                has_crashed: false,
            },
        };
        world.issue().await;
        world
    }

    async fn issue(&mut self) {
        self.claims.clear();
        for _ in 0..TOKENS {
            let record = self.instances[0].0.issue(self.site_id).await;
            self.claims.push(record.claims());
        }
        self.model.bound = [None; TOKENS];
        self.model.revoked = [false; TOKENS];
    }

    fn windows(&self) -> Windows {
        Windows::at(self.store.clock.now())
    }

    async fn take(&mut self, instance: usize, calls: u64) -> Option<Permit> {
        let (_, ledger) = &self.instances[instance];
        match ledger.reserve(self.site_id, self.model.plan, calls).await {
            Ok(permit) => {
                self.model.charge(calls);
                Some(permit)
            }
            Err(QuotaError::Exceeded(standing)) => {
                assert!(standing.violated_by(calls).any(), "{standing:?}");
                None
            }
            Err(error) => panic!("{error:?}"),
        }
    }

    async fn settle(&mut self, open: Open, delivered: bool) {
        let outcome = delivered.then_some(Outcome::Issued);
        open.permit.settle(outcome).await;
        if delivered {
            return;
        }
        let windows = self.windows();
        if open.windows.day == windows.day {
            self.model.day -= open.calls;
        }
        if open.windows.month == windows.month {
            self.model.month -= open.calls;
        }
    }

    async fn validate(&mut self, instance: usize, token: usize, number: u8) {
        let Some(permit) = self.take(instance, 1).await else {
            return;
        };
        let (rooms, _) = &self.instances[instance];
        let machine_id = machine(&number.to_string());
        let bound = rooms.binds(self.claims[token], &machine_id).await.unwrap();
        assert_eq!(bound, self.model.binds(token, number));
        let open = Open {
            instance,
            permit,
            calls: 1,
            windows: self.windows(),
        };
        self.settle(open, bound).await;
    }

    async fn run(&mut self, step: &Step) {
        match *step {
            Step::Take { instance, calls } => {
                if let Some(permit) = self.take(instance, calls).await {
                    self.open.push(Open {
                        instance,
                        permit,
                        calls,
                        windows: self.windows(),
                    });
                }
            }
            Step::Settle { which, delivered } => {
                if !self.open.is_empty() {
                    let open = self.open.swap_remove(which % self.open.len());
                    self.settle(open, delivered).await;
                }
            }
            Step::Validate {
                instance,
                token,
                machine,
            } => self.validate(instance, token, machine).await,
            Step::Release { instance, token } => {
                let (
                    Instance {
                        database, tokens, ..
                    },
                    _,
                ) = &self.instances[instance];
                let token_id = self.claims[token].token_id;
                commit!(database, |tx| tokens.release(tx, Actor::Operator, token_id));
                self.model.bound[token] = None;
            }
            Step::Revoke { instance, token } => {
                let (
                    Instance {
                        database, tokens, ..
                    },
                    _,
                ) = &self.instances[instance];
                let token_id = self.claims[token].token_id;
                commit!(database, |tx| tokens.revoke(tx, Actor::Operator, token_id));
                self.model.revoked[token] = true;
            }
            Step::Flush { instance } => self.instances[instance].1.flush().await.unwrap(),
            Step::Restart { instance } => self.restart(instance).await,
            Step::Crash { instance } => {
                self.open.retain(|open| open.instance != instance);
                self.model.has_crashed = true;
                self.start(instance);
            }
            Step::Wait(time) => self.store.hand.advance(time),
            Step::Midnight => {
                let before = self.windows();
                self.store.hand.advance(DAY);
                self.model.day = 0;
                if self.windows().month != before.month {
                    self.model.month = 0;
                }
                // The old ones have expired.
                self.issue().await;
            }
            Step::SetPlan(plan) => self.set_plan(plan),
        }
    }

    /// A plan that has no room for what was made already stays a plan for another site.
    fn set_plan(&mut self, plan: &'static str) {
        let before = std::mem::replace(&mut self.model.plan, plan);
        let (day, month) = self.model.limits();
        if self.model.day > day || self.model.month > month {
            self.model.plan = before;
        }
    }

    async fn restart(&mut self, instance: usize) {
        while let Some(index) = self.open.iter().position(|open| open.instance == instance) {
            let open = self.open.swap_remove(index);
            self.settle(open, false).await;
        }
        self.instances[instance].1.close().await.unwrap();
        self.start(instance);
    }

    fn start(&mut self, instance: usize) {
        let (rooms, its_ledger) = &mut self.instances[instance];
        *its_ledger = ledger(self.store, rooms.database.clone(), self.limits.clone());
    }

    /// What is stored covers what was charged.
    async fn check(&self) {
        let Standing { day, month, .. } = self.stored().await;
        let Model {
            day: made_today,
            month: made,
            ..
        } = self.model;
        assert!(day.used + day.reserved >= made_today, "{:?}", self.model);
        assert!(month.used + month.reserved >= made, "{:?}", self.model);
    }

    async fn stored(&self) -> Standing {
        let database = self.instances[0].0.database.clone();
        let onlooker = ledger(self.store, database, self.limits.clone());
        onlooker
            .standing(self.site_id, self.model.plan)
            .await
            .unwrap()
    }

    /// When all have ended in order, the store is as the model, and what is left can be used.
    async fn end(mut self) {
        for instance in 0..INSTANCES {
            self.restart(instance).await;
        }
        let Standing { day, month, .. } = self.stored().await;
        if !self.model.has_crashed {
            assert_eq!((day.used, day.reserved), (self.model.day, 0));
            assert_eq!((month.used, month.reserved), (self.model.month, 0));
        }
        let left = day.remaining().min(month.remaining());
        let mut made = 0;
        while let Some(permit) = self.take(0, 1).await {
            drop(permit);
            made += 1;
        }
        assert_eq!(made, left);
        for (claims, (bound, revoked)) in self
            .claims
            .iter()
            .zip(self.model.bound.into_iter().zip(self.model.revoked))
        {
            let tokens = &self.instances[0].0.tokens;
            let record = tokens.find(claims.token_id).await.unwrap().unwrap().record;
            let bound = bound.map(|number| machine(&number.to_string()));
            assert_eq!(record.machine_id, bound);
            assert_eq!(record.state != TokenState::Active, revoked);
        }
    }
}

async fn whatever_happens_the_model_would_have_allowed_it(store: Store) {
    let mut instances = Vec::new();
    for _ in 0..INSTANCES {
        instances.push(store.instance().await);
    }
    let config = Config {
        failure_persistence: None,
        ..Config::with_cases(CASES)
    };
    let cases = (930..1_000_u64, prop::collection::vec(step(), 1..60));
    let outcome = block_in_place(|| {
        TestRunner::new(config).run(&cases, |(made, steps)| {
            Handle::current().block_on(async {
                // Two midnights before the month ends.
                store.hand.set_wall(NOON.after(8 * DAY));
                let mut world = World::new(&store, &instances, made).await;
                for step in &steps {
                    world.run(step).await;
                    world.check().await;
                }
                world.end().await;
            });
            Ok(())
        })
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(reason, case)) => panic!("{reason}\n{case:#?}"),
        Err(abort) => panic!("{abort}"),
    }
}
