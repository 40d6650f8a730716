//! The `RateLimit` fields of draft-ietf-httpapi-ratelimit-headers-11.

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use super::windows::Standing;
use crate::types::clock::Timestamp;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const SECONDS_PER_DAY: u64 = 86_400;

/// Writes `RateLimit-Policy` and `RateLimit`: per window its quota `q` and length `w`, and the
/// calls that remain `r` and the seconds `t` until it ends.
pub(super) fn write(headers: &mut HeaderMap, standing: &Standing, now: Timestamp) {
    let Standing {
        day,
        month,
        month_seconds,
    } = standing;
    let policy = format!(
        "\"day\";q={};w={SECONDS_PER_DAY}, \"month\";q={};w={month_seconds}",
        day.limit, month.limit
    );
    let limit = format!(
        "\"day\";r={};t={}, \"month\";r={};t={}",
        day.remaining(),
        now.seconds_until(day.resets_at),
        month.remaining(),
        now.seconds_until(month.resets_at)
    );
    for (name, value) in [(POLICY, policy), (LIMIT, limit)] {
        if let Ok(value) = HeaderValue::from_maybe_shared(value) {
            headers.insert(name, value);
        }
    }
}
