//! What an instance has in memory of one site: its block, and what the store is yet to be told.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{
    block::{Block, Size},
    layer::Outcome,
    permit::{Permit, Source},
    report::{self, Report},
    store::QuotaStore,
    tally::{Moved, Period, Tallies, Tally},
    windows::Standing,
};
use crate::{
    store::StoreError,
    types::{
        clock::{Moment, Monotonic, Timestamp},
        ids::SiteId,
    },
};

/// How long a site with blocks is refused without the store being asked: each call over the limit
/// would cost a statement. Not longer, since others give back what they do not use.
pub(super) const USED_UP: Duration = Duration::from_secs(1);

/// One site at one instance.
pub(super) struct Account {
    site_id: SiteId,
    store: QuotaStore,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    block: Option<Block>,
    blocks_taken: u64,
    /// How often what the store reserved was forgotten.
    forgotten: u64,
    size: Size,
    used_up: Option<UsedUp>,
    /// How many takings have begun.
    takings: u64,
    /// How many takings failed.
    failures: u64,
    /// How the last taking failed, if it did.
    failure: Option<StoreError>,
    tallies: Tallies,
}

struct UsedUp {
    plan: Arc<str>,
    standing: Standing,
    /// The number of the taking that found it.
    found_by: u64,
    until: Monotonic,
}

/// What had come to pass when a call asked for its turn.
pub(super) struct Arrival {
    takings: u64,
    failures: u64,
}

/// A block as it was taken: `calls` of it are made at once, and `left` are kept.
pub(super) struct Taken {
    pub(super) plan: Arc<str>,
    pub(super) period: Period,
    pub(super) calls: u64,
    pub(super) left: u64,
    pub(super) standing: Standing,
    pub(super) at: Monotonic,
    /// [`Account::forgotten`] before it was taken.
    pub(super) forgotten: u64,
}

impl Account {
    pub(super) fn new(site_id: SiteId, store: QuotaStore) -> Self {
        Self {
            site_id,
            store,
            state: Mutex::default(),
        }
    }

    pub(super) const fn site_id(&self) -> SiteId {
        self.site_id
    }

    /// Makes calls out of the block, or none.
    pub(super) fn spend(
        self: &Arc<Self>,
        plan: &str,
        calls: u64,
        now: Timestamp,
    ) -> Option<Permit> {
        let mut state = self.state();
        let State { block, tallies, .. } = &mut *state;
        let block = block.as_mut().filter(|block| block.is_for(plan, now))?;
        if !block.spend(calls) {
            return None;
        }
        tallies.move_calls(block.period, Moved::spent(calls));
        Some(Permit {
            account: Arc::clone(self),
            calls,
            period: block.period,
            source: Source::Block(block.number),
            standing: block.standing,
        })
    }

    /// Puts a block in the place of the last one, of which nothing is left, and makes its first
    /// calls.
    pub(super) fn open(self: &Arc<Self>, taken: Taken) -> Permit {
        self.note_taken();
        let mut state = self.state();
        state.retire();
        state.blocks_taken += 1;
        let number = state.blocks_taken;
        state.block = Some(Block::new(
            number,
            taken.plan,
            taken.period,
            taken.left,
            taken.standing,
            taken.at,
        ));
        if state.forgotten != taken.forgotten {
            state.block = None;
        }
        Permit {
            account: Arc::clone(self),
            calls: taken.calls,
            period: taken.period,
            source: Source::Block(number),
            standing: taken.standing,
        }
    }

    /// How many calls to take beyond the `calls` that are needed now.
    pub(super) fn wanted(&self, plan: &str, calls: u64, now: Monotonic) -> u64 {
        let mut state = self.state();
        let last = state.block.as_ref().filter(|block| *block.plan == *plan);
        let Some((taken_at, remaining)) =
            last.map(|block| (block.taken_at, block.standing.remaining()))
        else {
            state.size = Size::default();
            return 0;
        };
        state.size = state.size.after(now.since(taken_at));
        state.size.beyond(calls, remaining)
    }

    pub(super) fn arrival(&self) -> Arrival {
        let State {
            takings, failures, ..
        } = *self.state();
        Arrival { takings, failures }
    }

    /// Notes that the store is about to be asked for calls.
    pub(super) fn note_taking(&self) {
        self.state().takings += 1;
    }

    /// Notes that the store gave calls.
    pub(super) fn note_taken(&self) {
        let mut state = self.state();
        state.used_up = None;
        state.failure = None;
    }

    /// Where the site stood when the store said, since the arrival or a moment ago, that it has used
    /// up its quota.
    pub(super) fn used_up(
        &self,
        plan: &str,
        calls: u64,
        now: Moment,
        arrival: &Arrival,
    ) -> Option<Standing> {
        let state = self.state();
        let used_up = state.used_up.as_ref()?;
        let standing = used_up.standing;
        let is_new = used_up.found_by > arrival.takings || now.monotonic < used_up.until;
        let holds = is_new
            && *used_up.plan == *plan
            && now.wall < standing.day.resets_at
            && standing.violated_by(calls).any();
        holds.then_some(standing)
    }

    /// Notes that the store said so, which stands `until` then for whoever comes.
    pub(super) fn note_used_up(&self, plan: &str, standing: Standing, until: Monotonic) {
        let mut state = self.state();
        state.used_up = Some(UsedUp {
            plan: plan.into(),
            standing,
            found_by: state.takings,
            until,
        });
    }

    /// How the last taking failed, if it did, and since the arrival.
    pub(super) fn failure_after(&self, arrival: &Arrival) -> Option<StoreError> {
        let state = self.state();
        let is_later = state.failures > arrival.failures;
        state.failure.clone().filter(|_| is_later)
    }

    pub(super) fn note_failure(&self, failure: StoreError) {
        let mut state = self.state();
        state.failures += 1;
        state.failure = Some(failure);
    }

    /// Gives up a block that is over or idle.
    pub(super) fn retire_unused(&self, now: Timestamp, monotonic: Monotonic) {
        let mut state = self.state();
        let is_unused = |block: &mut Block| block.is_over(now) || block.is_idle(monotonic);
        if state.block.as_mut().is_some_and(is_unused) {
            state.retire();
            state.size = Size::default();
        }
    }

    /// Gives the block back, which the store has taken back already if it was taken before, and asks
    /// anew.
    pub(super) fn begin_anew(&self) {
        self.state().retire();
        self.forget();
    }

    /// Holds no block any more, and asks anew: the store may have lost what it said. What is left stays
    /// charged, for given back where it is not charged it would let too many through.
    pub(super) fn forget(&self) {
        let mut state = self.state();
        state.forgotten += 1;
        state.used_up = None;
        state.block = None;
    }

    /// How often the store's word was forgotten until now.
    pub(super) fn forgotten(&self) -> u64 {
        self.state().forgotten
    }

    /// Gives up what is left of the block; whether there is something to be given back.
    pub(super) fn retire_remains(&self) -> bool {
        let mut state = self.state();
        let has_remains = state.block.as_ref().is_some_and(|block| block.left > 0);
        if has_remains {
            state.retire();
        }
        has_remains
    }

    /// What is left of the block.
    pub(super) fn held(&self, period: Period) -> u64 {
        let state = self.state();
        let block = state.block.as_ref();
        block
            .filter(|block| block.period == period)
            .map_or(0, |block| block.left)
    }

    pub(super) fn count(&self, period: Period, outcome: Outcome) {
        self.state().tallies.count(period, outcome);
    }

    /// Gives back calls that were made out of a block: into it, if it is still there.
    pub(super) fn unspend(&self, number: u64, period: Period, calls: u64) {
        let mut state = self.state();
        let State { block, tallies, .. } = &mut *state;
        match block.as_mut().filter(|block| block.number == number) {
            Some(block) => {
                block.unspend(calls);
                tallies.move_calls(period, Moved::unspent(calls));
            }
            None => tallies.move_calls(period, Moved::returned(calls)),
        }
    }

    /// Gives back calls that were taken from the store one by one: now, or later if the store did
    /// not do it. If it does not say, they stay charged.
    pub(super) async fn give_back(
        self: &Arc<Self>,
        period: Period,
        calls: u64,
    ) -> Result<(), StoreError> {
        let returned = Report {
            account: Arc::clone(self),
            tally: Tally::of_moved(period, Moved::returned(calls)),
        };
        report::tell(&self.store, vec![returned]).await
    }

    /// All that the store is to be told, now in the hands of the caller.
    pub(super) fn take_tallies(&self) -> Vec<Tally> {
        self.state().tallies.take()
    }

    /// Takes back what could not be told.
    pub(super) fn keep(&self, untold: Tally) {
        self.state().tallies.add(untold);
    }

    /// Whether nothing is lost with it.
    pub(super) fn is_blank(&self) -> bool {
        let state = self.state();
        state.block.is_none() && state.tallies.is_empty()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn retire(&mut self) {
        if let Some(block) = self.block.take() {
            let left_over = Moved::left_over(block.left);
            self.tallies.move_calls(block.period, left_over);
        }
    }
}
