//! Whether this machine's clock may be judged by: it is held against the store's time, which is not
//! its own.
//!
//! PostgreSQL has a clock. The embedded store has none beside this one, and remembers the greatest
//! time that it has seen.

use std::{
    fmt,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use super::clock::{Clock, Moment, Monotonic, Timestamp};

/// How far the clock may be off PostgreSQL's.
pub const MAX_SKEW: Duration = Duration::from_secs(5);

/// How far the clock may be before what the embedded store has seen: a time daemon may set it back a
/// little.
pub const MAX_BEHIND: Duration = Duration::from_mins(5);

/// How far the clock may be after what the embedded store has seen last. Beyond, either the machine
/// was off for long or the clock is wrong.
pub const MAX_PAUSE: Duration = Duration::from_hours(30 * 24);

/// How far the wall clock may go otherwise than the monotonic one between two looks at the store.
const MAX_LEAP: Duration = Duration::from_secs(1);

/// How long an instance whose clock is so far ahead says that it is not ready: an operator, and
/// whatever balances the load, then has the time to find out.
const DOUBTED_FOR: Duration = Duration::from_hours(1);

/// In place of how far the wall clock leads: it is wrong.
const WRONG: i64 = i64::MIN;

/// In place of how far the wall clock leads: nobody has looked.
const UNKNOWN: i64 = i64::MAX;

/// A clock by which nothing can be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WrongClock {
    /// It is off the store's.
    #[error("the clock says {ours} and the store's {stores}: let both machines set theirs by NTP")]
    OffTheStores {
        /// What our clock says.
        ours: Timestamp,
        /// What the store's says.
        stores: Timestamp,
    },
    /// It is before what the store has seen.
    #[error(
        "the clock says {ours}, but the store was used until {seen}: set the clock or, if it is \
         right now and was wrong then, run `mirrory clock accept`"
    )]
    Behind {
        /// What our clock says.
        ours: Timestamp,
        /// The greatest time that the store has seen, or the least that can be.
        seen: Timestamp,
    },
    /// It was set, or the machine was suspended, a moment ago.
    #[error("the clock was set, or the machine suspended: the store's time is yet to be asked for")]
    Leapt,
}

/// How the clock was found at the last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockState {
    /// It may be judged by.
    Right,
    /// Nothing may be judged by it.
    Wrong(WrongClock),
    /// It is so far after what the store has seen that this may be wrong: nothing may be deleted by
    /// it, and the store must not remember it.
    Ahead {
        /// What our clock says.
        ours: Timestamp,
        /// The greatest time that the store has seen.
        seen: Timestamp,
    },
}

impl ClockState {
    /// How a clock compares with that of a store that was asked between two moments. An answer that
    /// was long on its way may be from any time between them.
    #[must_use]
    pub fn beside(stores: Timestamp, began: Timestamp, ended: Timestamp) -> Self {
        let earliest = began.min(ended).before(MAX_SKEW);
        let latest = began.max(ended).after(MAX_SKEW);
        if stores < earliest || stores > latest {
            let ours = ended;
            return Self::Wrong(WrongClock::OffTheStores { ours, stores });
        }
        Self::Right
    }

    /// How a clock compares with the greatest time that a store has seen, if it has seen any, and
    /// with the least that can be.
    #[must_use]
    pub fn since(seen: Option<Timestamp>, least: Timestamp, now: Timestamp) -> Self {
        let bound = seen.unwrap_or(least);
        if now.after(MAX_BEHIND) < bound {
            let (ours, seen) = (now, bound);
            return Self::Wrong(WrongClock::Behind { ours, seen });
        }
        match seen {
            Some(seen) if now > seen.after(MAX_PAUSE) => Self::Ahead { ours: now, seen },
            _ => Self::Right,
        }
    }

    fn is_like(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

/// How the clock is, as it was found at the last look at the store. Until the first look nothing is
/// known, and nothing refused: whoever opens a store looks before anything else.
#[derive(Debug)]
pub struct StoreTime {
    /// How far the wall clock led the monotonic one at the last look, or [`WRONG`] or [`UNKNOWN`].
    lead: AtomicI64,
    found: Mutex<Found>,
}

#[derive(Clone, Copy, Debug)]
struct Found {
    state: ClockState,
    /// Since when it has been like this.
    since: Monotonic,
}

impl Default for StoreTime {
    fn default() -> Self {
        Self {
            lead: AtomicI64::new(UNKNOWN),
            found: Mutex::new(Found {
                state: ClockState::Right,
                since: Monotonic::default(),
            }),
        }
    }
}

impl StoreTime {
    /// Notes how the clock was found by a look that began at `at`, and tells a change of it.
    pub fn note(&self, clock: &Clock, at: Moment, state: ClockState) {
        let mut found = self.found();
        let before = found.state;
        if !state.is_like(&before) {
            found.since = at.monotonic;
            tell(&state);
        }
        found.state = state;
        let lead = match state {
            ClockState::Wrong(_) => WRONG,
            ClockState::Right | ClockState::Ahead { .. } => clock.lead_at(at),
        };
        self.lead.store(lead, Ordering::Release);
    }

    /// How the clock was found at the last look.
    #[must_use]
    pub fn state(&self) -> ClockState {
        self.found().state
    }

    /// Whether nothing may be judged by the clock.
    #[must_use]
    pub fn is_wrong(&self) -> bool {
        self.lead.load(Ordering::Acquire) == WRONG
    }

    /// Whether it is known for certain that the clock is right.
    #[must_use]
    pub fn is_trusted(&self) -> bool {
        self.state() == ClockState::Right && !self.is_wrong()
    }

    /// Lets pass what is judged by a moment: with a clock that was right at the last look, and has
    /// not been set since.
    ///
    /// # Errors
    /// When the clock is wrong.
    pub fn require_at(&self, clock: &Clock, moment: Moment) -> Result<(), WrongClock> {
        let lead = self.lead.load(Ordering::Acquire);
        let leapt = clock.lead_at(moment).abs_diff(lead);
        if lead == UNKNOWN || u128::from(leapt) <= MAX_LEAP.as_micros() {
            return Ok(());
        }
        match self.state() {
            ClockState::Wrong(wrong) if lead == WRONG => Err(wrong),
            _ => Err(WrongClock::Leapt),
        }
    }

    /// The same for what is judged now.
    ///
    /// # Errors
    /// When the clock is wrong.
    pub fn require(&self, clock: &Clock) -> Result<(), WrongClock> {
        self.require_at(clock, clock.moment())
    }

    /// Whether the instance can be relied on, or why not.
    ///
    /// # Errors
    /// When the clock is wrong, or so far ahead that it was not known before for an hour.
    pub fn readiness(&self, now: Monotonic) -> Result<(), &'static str> {
        let Found { state, since } = *self.found();
        match state {
            ClockState::Wrong(_) => Err("clock is off the store's"),
            ClockState::Ahead { .. } if now.since(since) < DOUBTED_FOR => {
                Err("clock is far ahead of the store's")
            }
            ClockState::Right | ClockState::Ahead { .. } => Ok(()),
        }
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says once that the clock is wrong, and once that it is right again.
fn tell(state: &ClockState) {
    match state {
        ClockState::Right => tracing::info!("the clock is right again"),
        ClockState::Wrong(wrong) => tracing::warn!(
            problem = %wrong,
            "the clock is wrong: nothing is issued, charged, validated or cleaned up"
        ),
        ClockState::Ahead { ours, seen } => tracing::warn!(
            %ours,
            %seen,
            "the clock is more than 30 days after the greatest time that the store has seen: nothing \
             is cleaned up, and /readyz is 503 for an hour; if the clock is right, run `mirrory clock \
             accept`"
        ),
    }
}

impl fmt::Display for ClockState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Right => formatter.write_str("the clock is right"),
            Self::Wrong(wrong) => wrong.fmt(formatter),
            Self::Ahead { ours, seen } => write!(
                formatter,
                "the clock says {ours}, and the store has seen no time after {seen}"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::clock::ManualClock;

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
    const MICRO: Duration = Duration::from_micros(1);

    fn is_wrong(state: ClockState) -> bool {
        matches!(state, ClockState::Wrong(_))
    }

    #[test]
    fn a_clock_may_be_five_seconds_off_the_stores() {
        for off in [Duration::ZERO, MAX_SKEW] {
            assert_eq!(
                ClockState::beside(NOW.after(off), NOW, NOW),
                ClockState::Right
            );
            assert_eq!(
                ClockState::beside(NOW.before(off), NOW, NOW),
                ClockState::Right
            );
        }
        let off = MAX_SKEW + MICRO;
        assert!(is_wrong(ClockState::beside(NOW.after(off), NOW, NOW)));
        assert!(is_wrong(ClockState::beside(NOW.before(off), NOW, NOW)));
    }

    #[test]
    fn a_slow_answer_is_no_wrong_clock() {
        let slow = Duration::from_secs(8);
        let ended = NOW.after(slow);
        for stores in [NOW, NOW.after(slow / 2), ended] {
            assert_eq!(ClockState::beside(stores, NOW, ended), ClockState::Right);
        }
        let early = NOW.before(MAX_SKEW + MICRO);
        let late = ended.after(MAX_SKEW + MICRO);
        assert!(is_wrong(ClockState::beside(early, NOW, ended)));
        assert!(is_wrong(ClockState::beside(late, NOW, ended)));
    }

    #[test]
    fn a_clock_may_be_five_minutes_before_what_was_seen_and_thirty_days_after_it() {
        let state = |seen: Timestamp| ClockState::since(Some(seen), Timestamp::from_micros(0), NOW);
        assert_eq!(state(NOW.after(MAX_BEHIND)), ClockState::Right);
        assert!(is_wrong(state(NOW.after(MAX_BEHIND + MICRO))));
        assert_eq!(state(NOW.before(MAX_PAUSE)), ClockState::Right);
        let seen = NOW.before(MAX_PAUSE + MICRO);
        assert_eq!(state(seen), ClockState::Ahead { ours: NOW, seen });
    }

    #[test]
    fn an_empty_store_knows_the_least_time_and_no_greatest() {
        let state = |least| ClockState::since(None, least, NOW);
        assert_eq!(state(NOW.before(4000 * MAX_PAUSE)), ClockState::Right);
        assert!(is_wrong(state(NOW.after(MAX_BEHIND + MICRO))));
        let accepted = NOW.before(Duration::from_hours(1));
        let state = ClockState::since(Some(accepted), NOW.after(MAX_PAUSE), NOW);
        assert_eq!(state, ClockState::Right, "an operator knows better");
    }

    #[test]
    fn a_clock_that_leaps_between_two_looks_is_not_judged_by() {
        let hand = ManualClock::starting_at(NOW);
        let clock = hand.clock();
        let time = StoreTime::default();
        assert_eq!(time.require(&clock), Ok(()), "nobody has looked");
        time.note(&clock, clock.moment(), ClockState::Right);
        hand.advance(MAX_PAUSE);
        hand.set_off(1_000_000);
        assert_eq!(time.require(&clock), Ok(()));
        for off in [1_000_001, -1_000_001, i64::from(u32::MAX) * 1_000_000] {
            hand.set_off(off);
            assert_eq!(time.require(&clock), Err(WrongClock::Leapt), "{off}");
        }
        time.note(&clock, clock.moment(), ClockState::Right);
        assert_eq!(time.require(&clock), Ok(()), "somebody has looked since");
    }

    #[test]
    fn a_clock_that_leads_by_a_lot_is_measured_by_the_system_as_well() {
        let clock = Clock::system();
        let time = StoreTime::default();
        let now = clock.moment();
        time.note(&clock, now, ClockState::Right);
        let later = |wall: u64, monotonic: u64| Moment {
            wall: now.wall.after(Duration::from_secs(wall)),
            monotonic: now.monotonic.after(Duration::from_secs(monotonic)),
        };
        assert_eq!(time.require_at(&clock, later(60, 60)), Ok(()));
        let suspended = time.require_at(&clock, later(3600, 1));
        assert_eq!(suspended, Err(WrongClock::Leapt));
    }

    #[test]
    fn a_wrong_clock_is_told_by_its_two_times() {
        let hand = ManualClock::starting_at(NOW);
        let clock = hand.clock();
        let time = StoreTime::default();
        let stores = NOW.after(MAX_PAUSE);
        let wrong = WrongClock::OffTheStores { ours: NOW, stores };
        time.note(&clock, clock.moment(), ClockState::Wrong(wrong));
        assert!(time.is_wrong());
        assert_eq!(time.require(&clock), Err(wrong));
        let text = wrong.to_string();
        assert!(text.contains("2027-01-15T08:00:00Z"), "{text}");
        assert!(text.contains("2027-02-14T08:00:00Z"), "{text}");
        time.note(&clock, clock.moment(), ClockState::Right);
        assert!(!time.is_wrong() && time.is_trusted());
    }

    #[test]
    fn a_clock_far_ahead_is_doubted_for_an_hour_from_when_that_was_seen() {
        let hand = ManualClock::starting_at(NOW);
        let clock = hand.clock();
        let time = StoreTime::default();
        let ahead = || ClockState::Ahead {
            ours: clock.now(),
            seen: NOW.before(2 * MAX_PAUSE),
        };
        let look = |state| time.note(&clock, clock.moment(), state);
        let is_ready = || time.readiness(clock.monotonic()).is_ok();
        hand.advance(DOUBTED_FOR);
        look(ahead());
        assert!(!is_ready() && !time.is_wrong() && !time.is_trusted());
        hand.advance(DOUBTED_FOR.saturating_sub(MICRO));
        look(ahead());
        assert!(!is_ready());
        hand.advance(MICRO);
        look(ahead());
        assert!(is_ready() && !time.is_trusted(), "but nothing is deleted");
        look(ClockState::Right);
        assert!(is_ready() && time.is_trusted());
        look(ahead());
        assert!(!is_ready(), "that is another leap");
    }
}
