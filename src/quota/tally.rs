//! What an instance has yet to tell the store: calls to move, and what calls came to.

use super::layer::Outcome;

/// The day and the month that calls were taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Period {
    /// Days since 1970-01-01.
    pub(super) day: i64,
    /// Months since January of the year 0.
    pub(super) month: i64,
    /// How often the site's usage had been set to nothing.
    pub(super) resets: i64,
}

/// By how many calls the store's counters are to change.
///
/// Told never, or told twice where nothing is given back, they let through no call too many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Moved {
    /// By how many more count towards the limits.
    pub(super) used: i64,
    /// By how many more of these are not spent yet.
    pub(super) reserved: i64,
}

impl Moved {
    /// Reserved calls that were made.
    pub(super) const fn spent(calls: u64) -> Self {
        Self {
            used: 0,
            reserved: -calls.cast_signed(),
        }
    }

    /// Calls that were not made after all, and are reserved again.
    pub(super) const fn unspent(calls: u64) -> Self {
        Self {
            used: 0,
            reserved: calls.cast_signed(),
        }
    }

    /// Calls that count as spent, and are given back.
    pub(super) const fn returned(calls: u64) -> Self {
        Self {
            used: -calls.cast_signed(),
            reserved: 0,
        }
    }

    /// Reserved calls that nobody made, and that are given back.
    pub(super) const fn left_over(calls: u64) -> Self {
        Self {
            used: -calls.cast_signed(),
            reserved: -calls.cast_signed(),
        }
    }

    const fn is_nothing(self) -> bool {
        self.used == 0 && self.reserved == 0
    }
}

/// What is to be told of one day and month.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) period: Period,
    pub(super) moved: Moved,
    pub(super) issued: i64,
    pub(super) validated: i64,
}

impl Tally {
    pub(super) const fn of_moved(period: Period, moved: Moved) -> Self {
        Self {
            period,
            moved,
            issued: 0,
            validated: 0,
        }
    }

    pub(super) const fn moves_calls(&self) -> bool {
        !self.moved.is_nothing()
    }

    pub(super) const fn counts_outcomes(&self) -> bool {
        self.issued != 0 || self.validated != 0
    }
}

/// The tallies of a site: of its current period, and for a moment after midnight of the last one.
#[derive(Default)]
pub(super) struct Tallies(Vec<Tally>);

impl Tallies {
    pub(super) fn move_calls(&mut self, period: Period, moved: Moved) {
        let tally = self.of(period);
        tally.moved.used += moved.used;
        tally.moved.reserved += moved.reserved;
    }

    pub(super) fn count(&mut self, period: Period, outcome: Outcome) {
        let tally = self.of(period);
        match outcome {
            Outcome::Issued => tally.issued += 1,
            Outcome::Validated => tally.validated += 1,
            Outcome::Unknown => {}
        }
    }

    /// Takes back what could not be told.
    pub(super) fn add(&mut self, untold: Tally) {
        self.move_calls(untold.period, untold.moved);
        let tally = self.of(untold.period);
        tally.issued += untold.issued;
        tally.validated += untold.validated;
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All that is to be told, now in the hands of the caller.
    pub(super) fn take(&mut self) -> Vec<Tally> {
        std::mem::take(&mut self.0)
    }

    fn of(&mut self, period: Period) -> &mut Tally {
        let known = self.0.iter().position(|tally| tally.period == period);
        let index = known.unwrap_or(self.0.len());
        if known.is_none() {
            self.0.push(Tally::of_moved(period, Moved::default()));
        }
        &mut self.0[index]
    }
}
