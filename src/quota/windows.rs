//! Calendar windows and what is left of them: pure arithmetic.

use std::time::Duration;

use jiff::{civil::Date, tz::Offset};

use super::tally::Period;
use crate::{config::Plan, types::clock::Timestamp};

pub(super) const SECONDS_PER_DAY: i64 = 86_400;

/// How far ahead of ours the clock of whoever began a window may be: more than two right clocks differ
/// by, and a statement is on its way. A window that begins later was begun by a wrong clock.
pub(super) const AHEAD: Duration = Duration::from_mins(1);

/// The calendar day and month, in UTC, that a moment lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// Days since 1970-01-01.
    pub day: i64,
    /// Months since January of the year 0.
    pub month: i64,
    /// The first moment of the next day.
    pub day_ends: Timestamp,
    /// The first moment of the next month.
    pub month_ends: Timestamp,
    /// How long the month is, in seconds.
    pub month_seconds: u64,
    /// The last day and month that a right clock may be in.
    pub(super) latest: (i64, i64),
}

impl Windows {
    /// The windows around `now`.
    #[must_use]
    pub fn at(now: Timestamp) -> Self {
        let ahead = Self::around(now.after(AHEAD));
        Self {
            latest: (ahead.day, ahead.month),
            ..Self::around(now)
        }
    }

    fn around(now: Timestamp) -> Self {
        let day = now.as_seconds().div_euclid(SECONDS_PER_DAY);
        let date = jiff::Timestamp::from_second(now.as_seconds())
            .map_or(Date::ZERO, |moment| Offset::UTC.to_datetime(moment).date());
        let month_days = i64::from(date.days_in_month());
        let first_of_month = day - i64::from(date.day()) + 1;
        let month = i64::from(date.year()) * 12 + i64::from(date.month()) - 1;
        Self {
            day,
            month,
            day_ends: Timestamp::from_seconds((day + 1) * SECONDS_PER_DAY),
            month_ends: Timestamp::from_seconds((first_of_month + month_days) * SECONDS_PER_DAY),
            month_seconds: (month_days * SECONDS_PER_DAY).unsigned_abs(),
            latest: (day, month),
        }
    }
}

/// What a site has used, as the store has it: of the windows in which it last made a call. What is
/// reserved is a part of what is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, sqlx::FromRow)]
pub struct StoredUsage {
    pub(super) day: i64,
    pub(super) day_used: i64,
    pub(super) day_reserved: i64,
    pub(super) month: i64,
    pub(super) month_used: i64,
    pub(super) month_reserved: i64,
    pub(super) resets: i64,
}

impl StoredUsage {
    pub(super) const fn period(&self) -> Period {
        Period {
            day: self.day,
            month: self.month,
            resets: self.resets,
        }
    }

    /// Without the windows that a wrong clock began, as the next call will find it.
    const fn mended(mut self, windows: &Windows) -> Self {
        let (day, month) = windows.latest;
        if self.day > day {
            (self.day, self.day_used, self.day_reserved) = (windows.day, 0, 0);
        }
        if self.month > month {
            (self.month, self.month_used, self.month_reserved) = (windows.month, 0, 0);
        }
        self
    }
}

/// One window of a site's quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowUsage {
    /// How many calls the plan allows in it.
    pub limit: u64,
    /// How many were made.
    pub used: u64,
    /// How many instances hold, and may still make.
    pub reserved: u64,
    /// When it ends.
    pub resets_at: Timestamp,
}

impl WindowUsage {
    /// How many calls are left.
    #[must_use]
    pub const fn remaining(&self) -> u64 {
        self.limit
            .saturating_sub(self.used)
            .saturating_sub(self.reserved)
    }
}

/// Where a site stands: both windows, as of a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The calendar day.
    pub day: WindowUsage,
    /// The calendar month.
    pub month: WindowUsage,
    /// How long the month is, in seconds.
    pub month_seconds: u64,
}

impl Standing {
    /// Reads what is stored under the eyes of `windows`: a window that is over counts nothing. One
    /// that lies just ahead was begun by an instance whose clock runs before ours, and counts; one
    /// that lies further ahead was begun by a wrong clock, and does not.
    #[must_use]
    pub fn new(plan: &Plan, windows: &Windows, usage: Option<StoredUsage>) -> Self {
        Self::of_row(plan, windows, usage.map(|usage| usage.mended(windows)))
    }

    /// Reads a row that the store has just charged a call to, which its statement has mended where it
    /// was to be.
    pub(super) fn of_row(plan: &Plan, windows: &Windows, usage: Option<StoredUsage>) -> Self {
        // Where the store is ahead of our clock, its windows are the ones that must end.
        let ahead = usage.filter(|usage| usage.day > windows.day);
        let windows = &ahead.map_or(*windows, |usage| {
            Windows::at(Timestamp::from_seconds(usage.day * SECONDS_PER_DAY))
        });
        let parts = |is_over: bool, used: i64, reserved: i64| {
            if is_over {
                return (0, 0);
            }
            let all = used.max(0).unsigned_abs();
            // An instance of a version that knows of none does not end them with their window.
            let reserved = reserved.max(0).unsigned_abs().min(all);
            (all - reserved, reserved)
        };
        let day_is_over = usage.is_none_or(|usage| usage.day < windows.day);
        let month_is_over = usage.is_none_or(|usage| usage.month < windows.month);
        let usage = usage.unwrap_or_default();
        let (day_used, day_reserved) = parts(day_is_over, usage.day_used, usage.day_reserved);
        let (month_used, month_reserved) =
            parts(month_is_over, usage.month_used, usage.month_reserved);
        Self {
            day: WindowUsage {
                limit: plan.calls_per_day,
                used: day_used,
                reserved: day_reserved,
                resets_at: windows.day_ends,
            },
            month: WindowUsage {
                limit: plan.calls_per_month,
                used: month_used,
                reserved: month_reserved,
                resets_at: windows.month_ends,
            },
            month_seconds: windows.month_seconds,
        }
    }

    /// Where the site stands when so many calls more were made.
    #[must_use]
    pub const fn more(mut self, calls: u64) -> Self {
        self.day.used = self.day.used.saturating_add(calls);
        self.month.used = self.month.used.saturating_add(calls);
        self
    }

    /// Where the site stands for one who holds so many of the reserved calls.
    #[must_use]
    pub const fn holding(mut self, calls: u64) -> Self {
        self.day.reserved = self.day.reserved.saturating_sub(calls);
        self.month.reserved = self.month.reserved.saturating_sub(calls);
        self
    }

    /// How many calls both windows have left.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.day.remaining().min(self.month.remaining())
    }

    /// Where the site stands when so many calls were given back.
    #[must_use]
    pub const fn less(mut self, calls: u64) -> Self {
        self.day.used = self.day.used.saturating_sub(calls);
        self.month.used = self.month.used.saturating_sub(calls);
        self
    }

    /// Which windows have fewer than `calls` left.
    #[must_use]
    pub const fn violated_by(&self, calls: u64) -> Violated {
        Violated {
            day: self.day.remaining() < calls,
            month: self.month.remaining() < calls,
        }
    }

    /// The violated windows, by their names.
    pub(super) fn violated(
        &self,
        violated: Violated,
    ) -> impl Iterator<Item = (&'static str, WindowUsage)> {
        let windows = [
            (violated.day, ("day", self.day)),
            (violated.month, ("month", self.month)),
        ];
        windows
            .into_iter()
            .filter_map(|(is_violated, window)| is_violated.then_some(window))
    }

    /// How long a site that is refused must wait: until the last of the violated windows is over.
    #[must_use]
    pub fn retry_after(&self, violated: Violated, now: Timestamp) -> Duration {
        let ends = if violated.month {
            self.month.resets_at
        } else {
            self.day.resets_at
        };
        Duration::from_secs(now.seconds_until(ends))
    }
}

/// The windows that a call would overrun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violated {
    /// The day is used up.
    pub day: bool,
    /// The month is used up.
    pub month: bool,
}

impl Violated {
    /// Whether any is.
    #[must_use]
    pub const fn any(self) -> bool {
        self.day || self.month
    }

    /// Their names, as in `RateLimit-Policy`.
    #[must_use]
    pub fn names(self) -> Vec<&'static str> {
        [(self.day, "day"), (self.month, "month")]
            .into_iter()
            .filter_map(|(violated, name)| violated.then_some(name))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        let moment: jiff::Timestamp = text.parse().unwrap();
        Timestamp::from_micros(moment.as_microsecond())
    }

    #[test]
    fn windows_end_at_midnight_and_at_the_first_of_the_month() {
        let windows = Windows::at(at("2028-02-29T23:59:59.999999Z"));
        assert_eq!(windows.day_ends.to_string(), "2028-03-01T00:00:00Z");
        assert_eq!(windows.month_ends.to_string(), "2028-03-01T00:00:00Z");
        assert_eq!(windows.month_seconds, 29 * 86_400);

        let next = Windows::at(at("2028-03-01T00:00:00Z"));
        assert_eq!(next.day, windows.day + 1);
        assert_eq!(next.month, windows.month + 1);
        assert_eq!(next.month_ends.to_string(), "2028-04-01T00:00:00Z");
    }

    #[test]
    fn december_is_followed_by_january() {
        let december = Windows::at(at("2026-12-31T12:00:00Z"));
        let january = Windows::at(at("2027-01-01T00:00:00Z"));
        assert_eq!(december.month_ends.to_string(), "2027-01-01T00:00:00Z");
        assert_eq!(january.month, december.month + 1);
    }

    #[test]
    fn a_window_that_is_over_counts_nothing_and_one_just_ahead_counts() {
        let plan = Plan {
            calls_per_day: 5,
            calls_per_month: 50,
        };
        let windows = Windows::at(at("2026-11-21T23:59:00Z"));
        let usage = |day, month| StoredUsage {
            day,
            day_used: 3,
            month,
            month_used: 7,
            ..StoredUsage::default()
        };
        let standing = |day, month| Standing::new(&plan, &windows, Some(usage(day, month)));
        assert_eq!(standing(windows.day, windows.month).day.remaining(), 2);
        assert_eq!(standing(windows.day + 1, windows.month).day.remaining(), 2);
        assert_eq!(standing(windows.day + 2, windows.month).day.remaining(), 5);
        assert_eq!(standing(windows.day, windows.month + 1).month.used, 0);
        assert_eq!(standing(windows.day - 1, windows.month).day.remaining(), 5);
        assert_eq!(standing(windows.day, windows.month - 1).month.used, 0);
        assert_eq!(Standing::new(&plan, &windows, None).month.remaining(), 50);
    }

    #[test]
    fn a_window_that_begins_more_than_a_minute_ahead_is_of_a_wrong_clock() {
        let plan = Plan {
            calls_per_day: 5,
            calls_per_month: 50,
        };
        let next = Windows::at(at("2026-12-01T00:00:00Z"));
        let usage = StoredUsage {
            day: next.day,
            day_used: 5,
            month: next.month,
            month_used: 50,
            ..StoredUsage::default()
        };
        let standing =
            |now| Standing::new(&plan, &Windows::at(at(now)), Some(usage)).violated_by(1);
        let both = |is_violated| Violated {
            day: is_violated,
            month: is_violated,
        };
        assert_eq!(standing("2026-11-30T23:59:00Z"), both(true));
        assert_eq!(standing("2026-11-30T23:58:59.999999Z"), both(false));
    }

    #[test]
    fn what_is_used_up_ahead_of_our_clock_is_waited_for_to_its_own_end() {
        let plan = Plan {
            calls_per_day: 5,
            calls_per_month: 50,
        };
        let now = at("2026-11-30T23:59:58Z");
        let tomorrow = Windows::at(at("2026-12-01T00:00:00Z"));
        let usage = StoredUsage {
            day: tomorrow.day,
            day_used: 5,
            month: tomorrow.month,
            month_used: 50,
            ..StoredUsage::default()
        };
        let standing = Standing::new(&plan, &Windows::at(now), Some(usage));
        assert_eq!(standing.day.resets_at.to_string(), "2026-12-02T00:00:00Z");
        assert_eq!(standing.month.resets_at.to_string(), "2027-01-01T00:00:00Z");
        assert_eq!(standing.month_seconds, 31 * 86_400);
        let day = Violated {
            day: true,
            month: false,
        };
        let waits = |violated| standing.retry_after(violated, now).as_secs();
        assert_eq!(waits(day), 2 + 86_400);
        assert_eq!(waits(standing.violated_by(1)), 2 + 31 * 86_400);
    }

    #[test]
    fn a_refused_site_waits_for_the_last_violated_window() {
        let plan = Plan {
            calls_per_day: 1,
            calls_per_month: 1,
        };
        let now = at("2026-11-21T22:00:00.5Z");
        let standing = Standing::new(&plan, &Windows::at(now), None);
        let day = Violated {
            day: true,
            month: false,
        };
        let both = Violated {
            day: true,
            month: true,
        };
        assert_eq!(standing.retry_after(day, now).as_secs(), 7200);
        assert_eq!(standing.retry_after(both, now).as_secs(), 7200 + 9 * 86_400);
        assert_eq!(both.names(), ["day", "month"]);
    }
}
