//! Plans: a name, and how many calls it stands for.

use std::{borrow::Borrow, collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::values;

/// The name of a plan: 1 to 64 lower-case letters, digits, `-` and `_`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, sqlx::Type)]
#[sqlx(transparent)]
pub struct PlanName(String);

/// Why a text is no plan's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a plan's name is 1 to 64 lower-case letters, digits, `-` and `_`")]
pub struct InvalidPlanName;

impl PlanName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PlanName {
    type Err = InvalidPlanName;

    fn from_str(text: &str) -> Result<Self, InvalidPlanName> {
        let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
        if text.is_empty() || text.len() > 64 || !text.bytes().all(allowed) {
            return Err(InvalidPlanName);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for PlanName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Borrow<str> for PlanName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for PlanName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

impl Serialize for PlanName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// The plans that a site can be on.
pub type Plans = BTreeMap<PlanName, Plan>;

/// The most calls that a plan can stand for: it fits a signed 64-bit column, with room for the
/// calls that are asked for on top.
pub const MAX_CALLS: u64 = 9_000_000_000_000_000_000;

/// How many calls a site may make: issued tokens and `valid: true` verdicts together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "PlanSettings")]
pub struct Plan {
    /// Calls a calendar day (UTC), 0 to [`MAX_CALLS`].
    pub calls_per_day: u64,
    /// Calls a calendar month (UTC), 0 to [`MAX_CALLS`].
    pub calls_per_month: u64,
}

/// What stands under `[plans.<name>]`; of a new plan a part may be missing.
#[derive(Deserialize)]
struct PlanSettings {
    #[serde(default, deserialize_with = "calls")]
    calls_per_day: Option<u64>,
    #[serde(default, deserialize_with = "calls")]
    calls_per_month: Option<u64>,
}

fn calls<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    values::whole_number::<0, { MAX_CALLS.cast_signed() }, _, _>(deserializer).map(Some)
}

impl TryFrom<PlanSettings> for Plan {
    type Error = &'static str;

    fn try_from(settings: PlanSettings) -> Result<Self, &'static str> {
        match (settings.calls_per_day, settings.calls_per_month) {
            (Some(calls_per_day), Some(calls_per_month)) => Ok(Self {
                calls_per_day,
                calls_per_month,
            }),
            _ => Err("needs both calls_per_day and calls_per_month"),
        }
    }
}
