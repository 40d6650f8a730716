//! What a site has used, as it is shown.

use std::collections::HashMap;

use serde::Serialize;
use utoipa::ToSchema;

use super::{
    ledger::HISTORY_DAYS,
    store::DayCounts,
    windows::{Standing, WindowUsage, Windows},
};
use crate::types::clock::Timestamp;

/// What a site has used of its plan.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct UsageReport {
    /// Today's calls, by the calendar of UTC.
    pub day: WindowReport,
    /// This month's.
    pub month: WindowReport,
    /// A row a day, today's first.
    pub history: Vec<DayReport>,
}

/// What is used of a window, and what is left.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct WindowReport {
    /// How many calls the plan allows in it.
    #[schema(examples(20))]
    pub limit: u64,
    /// How many were made.
    #[schema(examples(8))]
    pub used: u64,
    /// How many instances hold, and may still make.
    #[schema(examples(0))]
    pub reserved: u64,
    /// How many are left.
    #[schema(examples(12))]
    pub remaining: u64,
    /// When it ends.
    pub resets_at: Timestamp,
}

/// What a site was charged for on one day.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct DayReport {
    /// The day, by the calendar of UTC.
    #[schema(examples("2026-11-22"), format = Date)]
    pub date: String,
    /// Tokens issued.
    #[schema(examples(3))]
    pub issued: i64,
    /// Verdicts of `valid: true`.
    #[schema(examples(5))]
    pub validated: i64,
}

impl UsageReport {
    /// What is shown of these figures: the days that there are counts of.
    #[must_use]
    pub fn new(standing: &Standing, history: &[DayCounts]) -> Self {
        Self {
            day: WindowReport::from(&standing.day),
            month: WindowReport::from(&standing.month),
            history: history.iter().map(DayReport::from).collect(),
        }
    }

    /// The same with a row for each of the last 90 days.
    #[must_use]
    pub fn of_every_day(standing: &Standing, history: &[DayCounts], now: Timestamp) -> Self {
        let known: HashMap<i64, &DayCounts> =
            history.iter().map(|counts| (counts.day, counts)).collect();
        let today = Windows::at(now).day;
        let days = (0..HISTORY_DAYS).map(|ago| {
            let day = today - ago;
            let none = DayCounts {
                day,
                issued: 0,
                validated: 0,
            };
            known.get(&day).map_or(none, |counts| **counts)
        });
        Self::new(standing, &days.collect::<Vec<_>>())
    }
}

impl From<&WindowUsage> for WindowReport {
    fn from(usage: &WindowUsage) -> Self {
        Self {
            limit: usage.limit,
            used: usage.used,
            reserved: usage.reserved,
            remaining: usage.remaining(),
            resets_at: usage.resets_at,
        }
    }
}

impl From<&DayCounts> for DayReport {
    fn from(counts: &DayCounts) -> Self {
        let mut date = Timestamp::from_seconds(counts.day * 86_400).to_string();
        date.truncate("2026-11-22".len());
        Self {
            date,
            issued: counts.issued,
            validated: counts.validated,
        }
    }
}
