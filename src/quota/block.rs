//! Blocks of calls that an instance holds and spends from memory: pure arithmetic.

use std::{sync::Arc, time::Duration};

use super::{
    tally::Period,
    windows::{AHEAD, SECONDS_PER_DAY, Standing},
};
use crate::types::clock::{Monotonic, Timestamp};

/// Plans of up to so many calls a day are counted in the store, call by call.
const COUNTED_ONE_BY_ONE: u64 = 1_000;

/// No block holds more, however fast it is spent; a crash loses no more.
const LARGEST: u64 = 65_536;

/// A block that was spent faster is followed by a larger one.
const SHORT: Duration = Duration::from_secs(1);

/// A block that lasted longer is followed by a smaller one.
const LONG: Duration = Duration::from_secs(2);

/// A block that nobody took a call from for so long is given back.
const IDLE: Duration = Duration::from_secs(5);

/// The part of what is left that one block may hold: others want some, and the last calls are taken
/// one by one.
const SHARE: u64 = 8;

/// Whether a plan is large enough for blocks.
pub(super) const fn is_taken_in_blocks(calls_per_day: u64) -> bool {
    calls_per_day > COUNTED_ONE_BY_ONE
}

/// How many calls to take at once. The first block is a single call, so that a quiet site is counted
/// exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size(u64);

impl Default for Size {
    fn default() -> Self {
        Self(1)
    }
}

impl Size {
    /// The next one, after a block of this size lasted for `lasted`.
    pub(super) fn after(self, lasted: Duration) -> Self {
        if lasted < SHORT {
            Self(LARGEST.min(self.0 * 2))
        } else if lasted > LONG {
            Self(self.0.div_ceil(2))
        } else {
            self
        }
    }

    /// How many calls to take beyond the `calls` that are needed now, when so many are left.
    pub(super) fn beyond(self, calls: u64, remaining: u64) -> u64 {
        self.0.min(remaining / SHARE).saturating_sub(calls)
    }
}

/// Calls that are reserved in the store for this instance.
pub(super) struct Block {
    /// Which one it is of those that the site had.
    pub(super) number: u64,
    pub(super) plan: Arc<str>,
    pub(super) period: Period,
    pub(super) left: u64,
    /// Where the site stands, as far as this instance knows.
    pub(super) standing: Standing,
    pub(super) taken_at: Monotonic,
    /// When it was first seen that nobody takes a call from it.
    quiet_since: Option<Monotonic>,
}

impl Block {
    pub(super) const fn new(
        number: u64,
        plan: Arc<str>,
        period: Period,
        left: u64,
        standing: Standing,
        taken_at: Monotonic,
    ) -> Self {
        Self {
            number,
            plan,
            period,
            left,
            standing,
            taken_at,
            quiet_since: None,
        }
    }

    /// Whether its calls may be made on this plan at this time.
    pub(super) fn is_for(&self, plan: &str, now: Timestamp) -> bool {
        !self.is_over(now) && *self.plan == *plan
    }

    /// Whether its day has passed, and perhaps its month; or the clock was wrong when it was taken, and
    /// its day is yet to come.
    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        let begins = Timestamp::from_seconds(self.period.day.saturating_mul(SECONDS_PER_DAY));
        now >= self.standing.day.resets_at || now.after(AHEAD) < begins
    }

    /// Takes calls out of it, or none.
    pub(super) fn spend(&mut self, calls: u64) -> bool {
        let Some(left) = self.left.checked_sub(calls) else {
            return false;
        };
        self.left = left;
        self.standing = self.standing.more(calls);
        self.quiet_since = None;
        true
    }

    /// Puts calls back into it.
    pub(super) const fn unspend(&mut self, calls: u64) {
        self.left += calls;
        self.standing = self.standing.less(calls);
    }

    /// Looks whether anybody took a call from it since the last look; true when nobody has for long.
    pub(super) fn is_idle(&mut self, now: Monotonic) -> bool {
        let since = *self.quiet_since.get_or_insert(now);
        now.since(since) >= IDLE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(lasted: Duration, count: usize) -> Vec<u64> {
        let mut size = Size::default();
        let mut sizes = Vec::new();
        for _ in 0..count {
            sizes.push(size.0);
            size = size.after(lasted);
        }
        sizes
    }

    #[test]
    fn a_site_that_calls_seldom_is_counted_call_by_call() {
        assert_eq!(sizes(SHORT, 4), [1, 1, 1, 1]);
        assert_eq!(sizes(Duration::from_mins(1), 4), [1, 1, 1, 1]);
        assert_eq!(Size::default().beyond(1, u64::MAX), 0);
    }

    #[test]
    fn blocks_grow_while_they_are_spent_within_a_second_and_no_further() {
        assert_eq!(sizes(Duration::from_millis(999), 5), [1, 2, 4, 8, 16]);
        assert_eq!(sizes(Duration::ZERO, 40).last(), Some(&LARGEST));
    }

    #[test]
    fn blocks_that_last_are_followed_by_smaller_ones() {
        let size = Size(100);
        assert_eq!(size.after(SHORT), size);
        assert_eq!(size.after(LONG), size);
        let long = LONG + Duration::from_micros(1);
        assert_eq!(size.after(long), Size(50));
        assert_eq!(Size(1).after(long), Size(1));
    }

    #[test]
    fn a_steady_site_settles_on_blocks_of_one_to_two_seconds() {
        for rate in [1_u32, 3, 50, 7_000, 60_000] {
            let mut size = Size::default();
            for _ in 0..30 {
                let lasted = Duration::from_secs(size.0) / rate;
                size = size.after(lasted);
            }
            let lasted = Duration::from_secs(size.0) / rate;
            assert!(lasted >= SHORT && lasted <= LONG, "{rate}: {lasted:?}");
        }
    }

    #[test]
    fn a_block_is_a_small_part_of_what_is_left_and_the_last_calls_are_taken_one_by_one() {
        let size = Size(1_000);
        assert_eq!(size.beyond(1, 100_000), 999);
        assert_eq!(size.beyond(1, 800), 99);
        assert_eq!(size.beyond(3, 800), 97);
        assert_eq!(size.beyond(1, 16), 1);
        for remaining in 0..16 {
            assert_eq!(size.beyond(1, remaining), 0);
        }
    }
}
