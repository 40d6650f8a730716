//! The ledger: takes calls from a site's quota, gives them back, and counts what they were.

use std::{future::ready, sync::Arc, time::Duration};

use super::{
    account::{Account, Arrival, Taken, USED_UP},
    accounts::Accounts,
    block::is_taken_in_blocks,
    permit::{Permit, Source},
    report,
    store::{DayCounts, QuotaStore},
    tally::Period,
    windows::{Standing, Windows},
};
use crate::{
    config::{Plan, Plans},
    store::{
        Database, StoreError, Tx,
        changes::{self, Change, Context, SeenChange, SiteChange},
        follower::{Following, Follows},
    },
    types::{
        clock::Clock,
        ids::SiteId,
        randomness::Randomness,
        turnstile::{self, Crowded, Turnstile},
    },
};

/// How many calls of a site may wait to be charged. They wait for one statement, and share what
/// comes of it.
const AT_ONE_SITE: usize = 4096;

/// How many days a site's row a day is kept.
pub const HISTORY_DAYS: i64 = 90;

/// Why no call could be taken.
#[derive(Debug, thiserror::Error)]
pub enum QuotaError {
    /// A window is used up.
    #[error("the site's quota is used up")]
    Exceeded(Standing),
    /// Calls came and went faster than the ledger could be read.
    #[error("the site's quota is contended")]
    Contended,
    /// The site is on a plan that the configuration does not know.
    #[error("the plan {0:?} is not in the configuration: add [plans.{0}] or set another plan")]
    UnknownPlan(String),
    /// Too many calls of the site wait to be charged.
    #[error(transparent)]
    Crowded(#[from] Crowded),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What every site has used. Clones share it.
///
/// A call of a plan of up to 1,000 a day is charged in the store. For larger plans an instance takes
/// a block of calls from the store, and charges what comes next in memory, until the block is used
/// up, its day is over, or nobody calls for a while.
#[derive(Clone)]
pub struct Ledger(Arc<Inner>);

struct Inner {
    store: QuotaStore,
    plans: Plans,
    clock: Clock,
    accounts: Accounts,
    /// Who is to be charged by a statement: one call of a site at a time, so that none of them holds a
    /// connection while it waits for the site's row.
    turns: Turnstile<SiteId>,
    /// Held while the store is told of all: told out of order, a call that was given back into its
    /// block and made again would seem to be made twice.
    flushing: tokio::sync::Mutex<()>,
}

impl Ledger {
    /// A ledger over the store's tables.
    #[must_use]
    pub fn new(database: Database, plans: Plans, clock: Clock) -> Self {
        let store = QuotaStore::new(database);
        Self(Arc::new(Inner {
            accounts: Accounts::new(store.clone()),
            turns: Turnstile::new(AT_ONE_SITE),
            store,
            plans,
            clock,
            flushing: tokio::sync::Mutex::default(),
        }))
    }

    /// Takes `calls` calls from the site's day and month, or none at all.
    ///
    /// The plan must be one that the site is on now: read from the store, or known while this
    /// instance is fresh.
    ///
    /// # Errors
    /// [`QuotaError::Exceeded`] when a window has too few left.
    pub async fn reserve(
        &self,
        site_id: SiteId,
        plan: &str,
        calls: u64,
    ) -> Result<Permit, QuotaError> {
        match self.spend(site_id, plan, calls) {
            Some(permit) => Ok(permit),
            None => self.turn(site_id).await?.take(plan, calls).await,
        }
    }

    /// Whether calls of this plan are taken from the store in blocks.
    #[must_use]
    pub fn takes_blocks(&self, plan: &str) -> bool {
        self.plan(plan)
            .is_ok_and(|plan| is_taken_in_blocks(plan.calls_per_day))
    }

    /// Takes calls out of the site's block.
    pub(super) fn spend(&self, site_id: SiteId, plan: &str, calls: u64) -> Option<Permit> {
        let account = self.0.accounts.find(site_id)?;
        account.spend(plan, calls, self.0.clock.now())
    }

    /// Waits until no other call of the site is being charged in the store.
    pub(super) async fn turn(&self, site_id: SiteId) -> Result<Turn, QuotaError> {
        let place = self.0.turns.enter(site_id)?;
        let account = self.0.accounts.find_or_open(site_id);
        let arrival = account.arrival();
        // Who waits in vain waited for the store, as the one whose turn it is.
        let turn = place.turn(self.0.store.deadline()).await;
        Ok(Turn {
            ledger: self.clone(),
            account,
            arrival,
            _held: turn.ok_or(StoreError::Timeout)?,
        })
    }

    async fn take_block(
        &self,
        account: &Arc<Account>,
        plan: &str,
        limits: &Plan,
        calls: u64,
    ) -> Result<Taken, QuotaError> {
        let clock = &self.0.clock;
        let extra = account.wanted(plan, calls, clock.monotonic());
        let forgotten = account.forgotten();
        self.give_up_remains(account).await?;
        let charged = self.charge(account.site_id(), limits, calls, extra).await?;
        Ok(Taken {
            plan: plan.into(),
            period: charged.period,
            calls,
            left: charged.extra,
            standing: charged.standing,
            at: clock.monotonic(),
            forgotten,
        })
    }

    /// Takes calls of a plan that is counted call by call.
    async fn take_calls(
        &self,
        account: &Arc<Account>,
        limits: &Plan,
        calls: u64,
    ) -> Result<Permit, QuotaError> {
        self.give_up_remains(account).await?;
        let charged = self.charge(account.site_id(), limits, calls, 0).await?;
        account.note_taken();
        Ok(Permit {
            account: Arc::clone(account),
            calls,
            period: charged.period,
            source: Source::Store,
            standing: charged.standing,
        })
    }

    /// Gives back what is left of a block that cannot be spent: it is too little, its day is over, or
    /// the site has another plan now. Until that is done there may seem to be too few calls left.
    async fn give_up_remains(&self, account: &Arc<Account>) -> Result<(), StoreError> {
        if !account.retire_remains() {
            return Ok(());
        }
        report::settle_one(&self.0.store, account).await
    }

    /// Takes `calls` calls, and reserves `extra` more if so many are left.
    async fn charge(
        &self,
        site_id: SiteId,
        limits: &Plan,
        calls: u64,
        extra: u64,
    ) -> Result<Charged, QuotaError> {
        let Inner { store, clock, .. } = &*self.0;
        // A refused charge looks again when the store shows that there is something left after all:
        // another call was given back, a window ended, or the extra calls were too many.
        for extra in [extra, 0, 0] {
            let now = clock.moment();
            store.database().require_right_clock(clock, now)?;
            let windows = Windows::at(now.wall);
            let reserved = store.reserve(site_id, calls, extra, &windows, limits);
            if let Some(usage) = reserved.await? {
                return Ok(Charged {
                    period: usage.period(),
                    extra,
                    standing: Standing::of_row(limits, &windows, Some(usage)).holding(extra),
                });
            }
            let standing = Standing::new(limits, &windows, store.find(site_id).await?);
            if standing.violated_by(calls).any() {
                return Err(QuotaError::Exceeded(standing));
            }
        }
        Err(QuotaError::Contended)
    }

    /// Where a site stands now.
    ///
    /// # Errors
    /// When the store fails or does not know the plan.
    pub async fn standing(&self, site_id: SiteId, plan: &str) -> Result<Standing, QuotaError> {
        let limits = self.plan(plan)?;
        let Inner {
            store,
            clock,
            accounts,
            ..
        } = &*self.0;
        let usage = store.find(site_id).await?;
        let standing = Standing::new(limits, &Windows::at(clock.now()), usage);
        // What others have reserved is gone for now; what this instance has can be spent.
        let held = accounts.find(site_id).zip(usage);
        Ok(standing.holding(held.map_or(0, |(account, usage)| account.held(usage.period()))))
    }

    /// What a site was charged for, by day, the newest first, as far as it is kept.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn history(&self, site_id: SiteId) -> Result<Vec<DayCounts>, StoreError> {
        let windows = Windows::at(self.0.clock.now());
        let (last_day, _) = windows.latest;
        // What a wrong clock counted on days to come is left out.
        let first_day = windows.day - HISTORY_DAYS;
        self.0.store.history(site_id, first_day, last_day).await
    }

    /// Tells the store what was spent and what it came to, and gives back blocks that are over or
    /// idle. What could not be told is kept for the next time; of what is in doubt the counts alone.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn flush(&self) -> Result<(), StoreError> {
        let Inner {
            store,
            clock,
            accounts,
            flushing,
            ..
        } = &*self.0;
        // What a flush before this one could not tell is told now.
        let _one_by_one = flushing.lock().await;
        let all = accounts.all();
        let now = clock.moment();
        // A wrong clock does not say which of them are over.
        if store.database().time().require_at(clock, now).is_ok() {
            for account in &all {
                account.retire_unused(now.wall, now.monotonic);
            }
        }
        let settled = report::settle(store, &all).await;
        drop(all);
        accounts.forget_blank();
        settled
    }

    /// Gives back every block, and tells the store all that it does not know: the last thing that an
    /// instance does.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn close(&self) -> Result<(), StoreError> {
        for account in self.0.accounts.all() {
            account.retire_remains();
        }
        self.flush().await
    }

    /// Sets what a site has used of the present day and month to nothing. Instances that hold calls of
    /// it give them up when they hear of it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn reset(
        &self,
        tx: &mut Tx,
        by: impl Into<Context>,
        site_id: SiteId,
        randomness: &Randomness,
    ) -> Result<(), StoreError> {
        let now = self.0.clock.now();
        let change = Change::OfSite(site_id, SiteChange::UsageReset);
        changes::record(tx, &by.into(), &change, now, randomness).await?;
        self.0.store.reset(tx, site_id, &Windows::at(now)).await
    }

    /// Removes up to `limit` rows of days that are kept no longer.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn sweep(&self, limit: i64) -> Result<u64, StoreError> {
        let first_day = Windows::at(self.0.clock.now()).day - HISTORY_DAYS;
        self.0.store.sweep_history(first_day, limit).await
    }

    /// Removes up to `limit` counters of sites that are gone.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn sweep_counters(&self, limit: i64) -> Result<u64, StoreError> {
        self.0.store.sweep_counters(limit).await
    }

    fn plan(&self, name: &str) -> Result<&Plan, QuotaError> {
        let plan = self.0.plans.get(name);
        plan.ok_or_else(|| QuotaError::UnknownPlan(name.to_owned()))
    }
}

/// An operator may set what a site has used to nothing, and with it what is reserved for instances.
impl Follows for Ledger {
    fn apply<'a>(&'a self, changes: &'a [SeenChange]) -> Following<'a> {
        for site_id in changes.iter().filter_map(SeenChange::usage_of) {
            if let Some(account) = self.0.accounts.find(site_id) {
                account.begin_anew();
            }
        }
        Box::pin(ready(Ok(())))
    }

    fn reset(&self) -> Following<'_> {
        for account in self.0.accounts.all() {
            account.forget();
        }
        Box::pin(ready(Ok(())))
    }
}

/// The turn to charge a site in the store.
pub(super) struct Turn {
    ledger: Ledger,
    account: Arc<Account>,
    arrival: Arrival,
    _held: turnstile::Turn<SiteId>,
}

impl Turn {
    /// Takes calls of the site.
    ///
    /// Whoever waited while another took some shares what came of it, also a refusal and a failure:
    /// one after the other they would each ask the store for what is known, or wait for one that
    /// does not answer.
    pub(super) async fn take(self, plan: &str, calls: u64) -> Result<Permit, QuotaError> {
        let Self {
            ledger, account, ..
        } = &self;
        let limits = ledger.plan(plan)?;
        let clock = &ledger.0.clock;
        if let Some(permit) = account.spend(plan, calls, clock.now()) {
            return Ok(permit);
        }
        if let Some(standing) = account.used_up(plan, calls, clock.moment(), &self.arrival) {
            return Err(QuotaError::Exceeded(standing));
        }
        if let Some(failure) = account.failure_after(&self.arrival) {
            return Err(failure.into());
        }
        account.note_taking();
        let (taken, used_up_for) = if is_taken_in_blocks(limits.calls_per_day) {
            let taken = ledger.take_block(account, plan, limits, calls).await;
            (taken.map(|taken| account.open(taken)), USED_UP)
        } else {
            // Only for who waits already: of few calls, one that is given back can be made at once.
            let taken = ledger.take_calls(account, limits, calls).await;
            (taken, Duration::ZERO)
        };
        match &taken {
            Err(QuotaError::Exceeded(standing)) => {
                let until = clock.monotonic().after(used_up_for);
                account.note_used_up(plan, *standing, until);
            }
            Err(QuotaError::Store(failure)) => account.note_failure(failure.clone()),
            _ => {}
        }
        taken
    }
}

/// Calls that the store has counted.
struct Charged {
    period: Period,
    /// How many are reserved for this instance.
    extra: u64,
    standing: Standing,
}
