//! The ledger: takes calls from a site's quota, gives them back, and counts what they were.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    layer::Outcome,
    store::{DayCounts, QuotaStore},
    windows::{Standing, Windows},
};
use crate::{
    config::{Plan, Plans},
    error::Chain,
    store::{Database, StoreError},
    types::{clock::Clock, ids::SiteId},
};

/// How many days a site's row a day is kept.
pub const HISTORY_DAYS: i64 = 90;

/// How often a refused charge looks again when the store shows that there is something left after
/// all: another call was given back, or a window ended, between two statements.
const LOOKS: usize = 3;

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
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What every site has used. Clones share it.
#[derive(Clone)]
pub struct Ledger {
    store: QuotaStore,
    plans: Arc<Plans>,
    clock: Clock,
    pending: Arc<Mutex<Pending>>,
}

/// What is written later, in batches.
#[derive(Default)]
struct Pending {
    /// Outcomes by site and day.
    counts: HashMap<(SiteId, i64), Counts>,
    /// Calls that the store could not be given back at once, by site, day and month.
    returns: HashMap<(SiteId, i64, i64), u64>,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    issued: i64,
    validated: i64,
}

/// A call that was taken from a site's quota. Dropped, it stays charged: only
/// [`Permit::settle`] can give it back.
#[must_use = "a call is charged until it is settled"]
pub struct Permit {
    ledger: Ledger,
    site_id: SiteId,
    calls: u64,
    /// The windows that were charged; ahead of this instance's when its clock runs behind.
    day: i64,
    month: i64,
    /// Where the site stands after the charge.
    pub standing: Standing,
}

impl Ledger {
    /// A ledger over the store's tables.
    #[must_use]
    pub fn new(database: Database, plans: Plans, clock: Clock) -> Self {
        Self {
            store: QuotaStore::new(database),
            plans: Arc::new(plans),
            clock,
            pending: Arc::default(),
        }
    }

    /// Takes `calls` calls from the site's day and month, or none at all.
    ///
    /// # Errors
    /// [`QuotaError::Exceeded`] when a window has too few left.
    pub async fn reserve(
        &self,
        site_id: SiteId,
        plan: &str,
        calls: u64,
    ) -> Result<Permit, QuotaError> {
        let plan = self.plan(plan)?;
        for _ in 0..LOOKS {
            let windows = Windows::at(self.clock.now());
            let reserved = self.store.reserve(site_id, calls, &windows, plan).await?;
            if let Some(usage) = reserved {
                return Ok(Permit {
                    ledger: self.clone(),
                    site_id,
                    calls,
                    day: usage.day,
                    month: usage.month,
                    standing: Standing::new(plan, &windows, Some(usage)),
                });
            }
            let standing = Standing::new(plan, &windows, self.store.find(site_id).await?);
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
        let plan = self.plan(plan)?;
        let usage = self.store.find(site_id).await?;
        Ok(Standing::new(plan, &Windows::at(self.clock.now()), usage))
    }

    /// What a site was charged for, by day, the newest first, as far as it is kept.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn history(&self, site_id: SiteId) -> Result<Vec<DayCounts>, StoreError> {
        let today = Windows::at(self.clock.now()).day;
        self.store.history(site_id, today - HISTORY_DAYS).await
    }

    /// Writes the counts that have come together, and gives back what could not be before. What
    /// fails is kept for the next time.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn flush(&self) -> Result<(), StoreError> {
        let Pending { counts, returns } = std::mem::take(&mut *self.pending());
        let mut outcome = Ok(());
        for ((site_id, day), count) in counts {
            if outcome.is_ok() {
                outcome = self
                    .store
                    .count(site_id, day, count.issued, count.validated)
                    .await;
            }
            // A count whose outcome is unknown may be written twice; dropped, it might be missing.
            // It is a statistic: charges do not rest on it.
            if outcome.is_err() {
                let mut pending = self.pending();
                let kept = pending.counts.entry((site_id, day)).or_default();
                kept.issued += count.issued;
                kept.validated += count.validated;
            }
        }
        for ((site_id, day, month), calls) in returns {
            if outcome.is_ok() {
                outcome = self.give_back(site_id, calls, day, month).await;
            } else {
                self.give_back_later(site_id, calls, day, month);
            }
        }
        outcome
    }

    /// Removes up to `limit` rows each of days that are kept no longer and of sites that are gone.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn sweep(&self, limit: i64) -> Result<u64, StoreError> {
        let today = Windows::at(self.clock.now()).day;
        let days = self
            .store
            .sweep_history(today - HISTORY_DAYS, limit)
            .await?;
        let counters = self.store.sweep_counters(limit).await?;
        Ok(days.max(counters))
    }

    fn plan(&self, name: &str) -> Result<&Plan, QuotaError> {
        self.plans
            .get(name)
            .ok_or_else(|| QuotaError::UnknownPlan(name.to_owned()))
    }

    fn count(&self, site_id: SiteId, day: i64, outcome: Outcome) {
        let mut pending = self.pending();
        let counts = pending.counts.entry((site_id, day)).or_default();
        match outcome {
            Outcome::Issued => counts.issued += 1,
            Outcome::Validated => counts.validated += 1,
            Outcome::Unknown => {}
        }
    }

    /// Gives calls back, now or, if the store cannot be asked, later. A return whose outcome is
    /// unknown is let go: given back twice, it would let through more calls than the plan allows.
    async fn give_back(
        &self,
        site_id: SiteId,
        calls: u64,
        day: i64,
        month: i64,
    ) -> Result<(), StoreError> {
        let given = self.store.give_back(site_id, calls, day, month).await;
        if let Err(StoreError::Unreachable(_)) = given {
            self.give_back_later(site_id, calls, day, month);
        }
        given
    }

    fn give_back_later(&self, site_id: SiteId, calls: u64, day: i64, month: i64) {
        *self
            .pending()
            .returns
            .entry((site_id, day, month))
            .or_default() += calls;
    }

    fn pending(&self) -> std::sync::MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// Ends the call: what was delivered is counted and stays charged, all else is given back. Says
    /// where the site stands then.
    pub async fn settle(self, outcome: Option<Outcome>) -> Standing {
        let Self {
            ledger,
            site_id,
            calls,
            day,
            month,
            standing,
        } = self;
        if let Some(outcome) = outcome {
            ledger.count(site_id, day, outcome);
            return standing;
        }
        if let Err(error) = ledger.give_back(site_id, calls, day, month).await {
            tracing::warn!(site.id = %site_id, error = %Chain(&error), "a call was not given back at once");
        }
        standing.less(calls)
    }
}
