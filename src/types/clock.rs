//! Time: what the wall says, what has passed, and the one type that is stored.
//!
//! Nothing else in the crate reads the system's clock; a [`Clock`] is handed in, so that a test
//! moves time by hand.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use jiff::{SignedDuration, civil::DateTime};
use serde::{Serialize, Serializer};

/// A moment in UTC, in microseconds since the Unix epoch; stored as a `BIGINT` in both databases.
///
/// Shown and serialised as RFC 3339 in whole seconds: `2026-12-31T23:59:59Z`. What lies before the
/// year 0 or after 9999, which that cannot say, is shown as the first or the last second that it can.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, sqlx::Type)]
#[sqlx(transparent)]
pub struct Timestamp(i64);

const MICROS_PER_SECOND: i64 = 1_000_000;

const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

/// 0000-01-01T00:00:00Z.
const FIRST_SECOND: i64 = -62_167_219_200;

/// 9999-12-31T23:59:59Z.
const LAST_SECOND: i64 = 253_402_300_799;

/// How far the last use of a token or session may lie behind: it is written at most as often,
/// whichever instances it is used at.
pub const LAST_USE_STEP: Duration = Duration::from_mins(1);

impl Timestamp {
    /// The moment `micros` microseconds after the Unix epoch.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// The moment `seconds` seconds after the Unix epoch; what is out of range saturates.
    #[must_use]
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(MICROS_PER_SECOND))
    }

    /// The moment that a text in RFC 3339 names, in UTC: `2026-12-31T23:59:59Z`, or with a fraction
    /// of a second.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        // What reads it takes more forms than this one.
        let whole = text.strip_suffix('Z')?;
        let (whole, fraction) = whole.split_once('.').unwrap_or((whole, "0"));
        let is_of_form = |pattern: &str, text: &str| {
            pattern.len() == text.len()
                && pattern
                    .bytes()
                    .zip(text.bytes())
                    .all(|(place, byte)| match place {
                        b'0' => byte.is_ascii_digit(),
                        sign => byte == sign,
                    })
        };
        let is_fraction =
            !fraction.is_empty() && fraction.bytes().all(|byte| byte.is_ascii_digit());
        if !is_fraction || !is_of_form("0000-00-00T00:00:00", whole) {
            return None;
        }
        let parsed: DateTime = text.strip_suffix('Z')?.parse().ok()?;
        let since = parsed.duration_since(EPOCH);
        Some(Self(i64::try_from(since.as_micros()).ok()?))
    }

    /// Microseconds since the Unix epoch.
    #[must_use]
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down.
    #[must_use]
    pub const fn as_seconds(self) -> i64 {
        self.0.div_euclid(MICROS_PER_SECOND)
    }

    /// Microseconds since the last whole second.
    #[must_use]
    pub const fn subsecond_micros(self) -> i64 {
        self.0.rem_euclid(MICROS_PER_SECOND)
    }

    /// This moment with its fraction of a second cut off.
    #[must_use]
    pub const fn whole_second(self) -> Self {
        Self::from_seconds(self.as_seconds())
    }

    /// The moment `duration` later; saturates.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(micros(duration)))
    }

    /// The moment `duration` earlier; saturates.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(micros(duration)))
    }

    /// How far apart two moments are, whichever is the earlier.
    #[must_use]
    pub const fn distance(self, other: Self) -> Duration {
        Duration::from_micros(self.0.abs_diff(other.0))
    }

    /// Seconds from `self` until `later`, rounded up; 0 when `later` has passed.
    #[must_use]
    pub fn seconds_until(self, later: Self) -> u64 {
        let micros = later.0.saturating_sub(self.0).max(0).unsigned_abs();
        micros.div_ceil(MICROS_PER_SECOND.unsigned_abs())
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

impl fmt::Display for Timestamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.as_seconds().clamp(FIRST_SECOND, LAST_SECOND);
        if let Ok(timestamp) = jiff::Timestamp::from_second(seconds) {
            return write!(formatter, "{timestamp}");
        }
        // Its last moment is of that year in every time zone, and so comes before the last of UTC.
        let date_time = EPOCH.saturating_add(SignedDuration::from_secs(seconds));
        write!(formatter, "{date_time}Z")
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Time that only moves forward, counted from the making of its [`Clock`]; for intervals inside
/// one process, which a change of the wall clock must not stretch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Monotonic(u64);

impl Monotonic {
    /// Microseconds since the clock was made.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// The moment `micros` microseconds after the clock was made.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// The moment `duration` later; saturates.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(unsigned_micros(duration)))
    }

    /// How long ago `earlier` was; zero when it lies ahead.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

fn unsigned_micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// One look at both clocks, for all that is decided by it: a look costs more than many a decision.
/// It is good until something is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// What the wall clock says.
    pub wall: Timestamp,
    /// How far the monotonic clock has come.
    pub monotonic: Monotonic,
}

/// Where the time comes from: the system, or a test's hand.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System { started: Instant },
    Manual(ManualClock),
}

impl Clock {
    /// The machine's own clock.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the system's clock"
    )]
    pub fn system() -> Self {
        Self(Source::System {
            started: Instant::now(),
        })
    }

    /// What the wall clock says.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the system's clock"
    )]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System { .. } => Timestamp(
                SystemTime::now()
                    .duration_since(SystemTime::UNIX_EPOCH)
                    .map_or(0, micros),
            ),
            Source::Manual(manual) => Timestamp(manual.0.wall.load(Ordering::SeqCst)),
        }
    }

    /// What both clocks say.
    #[must_use]
    pub fn moment(&self) -> Moment {
        Moment {
            wall: self.now(),
            monotonic: self.monotonic(),
        }
    }

    /// How far the wall clock is ahead of the monotonic one at a moment, in microseconds. It changes
    /// when somebody sets the wall clock, or the machine was suspended: then time has passed that
    /// the monotonic clock did not count.
    #[must_use]
    pub fn lead_at(&self, moment: Moment) -> i64 {
        match &self.0 {
            Source::System { .. } => {
                let monotonic = i64::try_from(moment.monotonic.0).unwrap_or(i64::MAX);
                moment.wall.0.saturating_sub(monotonic)
            }
            Source::Manual(manual) => manual.0.off.load(Ordering::SeqCst),
        }
    }

    /// The time that a store says it is. The time of a test is the store's, too.
    #[must_use]
    pub fn store_time(&self, told: Timestamp) -> Timestamp {
        match &self.0 {
            Source::System { .. } => told,
            Source::Manual(manual) => {
                let off = manual.0.off.load(Ordering::SeqCst);
                Timestamp(self.now().0.saturating_sub(off))
            }
        }
    }

    /// How far the monotonic clock has come.
    #[must_use]
    pub fn monotonic(&self) -> Monotonic {
        match &self.0 {
            Source::System { started } => Monotonic(unsigned_micros(started.elapsed())),
            Source::Manual(manual) => Monotonic(manual.0.monotonic.load(Ordering::SeqCst)),
        }
    }
}

/// The hand that moves a manual [`Clock`]; clones move the same one.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<ManualTime>);

#[derive(Debug)]
struct ManualTime {
    wall: AtomicI64,
    monotonic: AtomicU64,
    /// By how many microseconds the wall clock is ahead of the right time.
    off: AtomicI64,
}

impl ManualClock {
    /// A clock that stands still at `start` until it is moved.
    #[must_use]
    pub fn starting_at(start: Timestamp) -> Self {
        Self(Arc::new(ManualTime {
            wall: AtomicI64::new(start.0),
            monotonic: AtomicU64::new(0),
            off: AtomicI64::new(0),
        }))
    }

    /// The clock to hand to the code under test.
    #[must_use]
    pub fn clock(&self) -> Clock {
        Clock(Source::Manual(self.clone()))
    }

    /// Lets `duration` pass on the wall and on the monotonic clock.
    pub fn advance(&self, duration: Duration) {
        self.0.wall.fetch_add(micros(duration), Ordering::SeqCst);
        self.0
            .monotonic
            .fetch_add(unsigned_micros(duration), Ordering::SeqCst);
    }

    /// Sets the time, for the store too, without any having passed on the monotonic clock.
    pub fn set_wall(&self, wall: Timestamp) {
        self.0.wall.store(wall.0, Ordering::SeqCst);
    }

    /// Sets the wall clock alone so many microseconds ahead of the right time, which the store goes
    /// by; 0 sets it right.
    pub fn set_off(&self, micros: i64) {
        let before = self.0.off.swap(micros, Ordering::SeqCst);
        self.0.wall.fetch_add(micros - before, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamp_is_shown_in_whole_seconds_of_utc() {
        let timestamp = Timestamp::from_micros(1_798_761_599_999_999);
        assert_eq!(timestamp.to_string(), "2026-12-31T23:59:59Z");
        assert_eq!(
            Timestamp::from_micros(-1).to_string(),
            "1969-12-31T23:59:59Z"
        );
    }

    #[test]
    fn a_moment_is_read_in_rfc_3339_and_utc_alone() {
        for (text, micros) in [
            ("2026-12-31T23:59:59Z", 1_798_761_599_000_000),
            ("2026-12-31T23:59:59.5Z", 1_798_761_599_500_000),
            ("2026-12-31T23:59:59.000001Z", 1_798_761_599_000_001),
            ("0000-01-01T00:00:00Z", -62_167_219_200_000_000),
            ("9999-12-30T22:00:01Z", 253_402_207_201_000_000),
            ("9999-12-31T23:59:59Z", 253_402_300_799_000_000),
            ("9999-12-31T23:59:59.999999Z", 253_402_300_799_999_999),
        ] {
            let expected = Timestamp::from_micros(micros);
            assert_eq!(Timestamp::parse(text), Some(expected), "{text}");
        }
        for text in [
            "2026-12-31T23:59:59",
            "2026-12-31T23:59:59+00:00",
            "2026-12-31T23:59:59Z[UTC]",
            "2026-12-31t23:59:59z",
            "2026-12-31 23:59:59Z",
            "2026-12-31T23:59Z",
            "2026-12-31T23Z",
            "20261231T235959Z",
            "+002026-12-31T23:59:59Z",
            "2026-12-31T23:59:59.Z",
            "2026-12-31T23:59:59,5Z",
            "2026-12-31T23:59:59.1234567890Z",
            "2026-02-30T23:59:59Z",
            "2026-12-31T24:00:00Z",
            "10000-01-01T00:00:00Z",
            "２026-12-31T23:59:59Z",
            "",
        ] {
            assert_eq!(Timestamp::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_moment_is_shown_as_it_is_read() {
        for text in [
            "0000-01-01T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "9999-12-30T22:00:00Z",
            "9999-12-30T22:00:01Z",
            "9999-12-31T23:59:59Z",
        ] {
            let moment = Timestamp::parse(text).unwrap();
            assert_eq!(moment.to_string(), text);
        }
    }

    #[test]
    fn what_no_date_can_say_is_shown_as_the_nearest_that_one_can() {
        for (micros, shown) in [
            (i64::MIN, "0000-01-01T00:00:00Z"),
            (-62_167_219_200_000_001, "0000-01-01T00:00:00Z"),
            (253_402_300_800_000_000, "9999-12-31T23:59:59Z"),
            (i64::MAX, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(Timestamp::from_micros(micros).to_string(), shown);
        }
    }

    #[test]
    fn seconds_until_rounds_up_and_never_goes_below_zero() {
        let now = Timestamp::from_micros(500_000);
        assert_eq!(now.seconds_until(Timestamp::from_seconds(2)), 2);
        assert_eq!(now.seconds_until(Timestamp::from_seconds(0)), 0);
    }
}
