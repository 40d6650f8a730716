//! So many events at once, and as many more in every period: a token bucket, which is the generic
//! cell rate algorithm (ITU-T I.371).

use std::{num::NonZeroU32, time::Duration};

use super::{
    TooManyAttempts,
    limiter::{Limiter, Rule},
};
use crate::types::clock::Monotonic;

/// A bucket of `limit` events that drains by as many in a `period`, evenly.
///
/// The level is counted in units of which the bucket drains `limit` a microsecond, so an event is
/// as many as the period has microseconds: whole numbers, in which nothing is lost to rounding
/// however large the limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    units_per_micro: u64,
    units_per_event: u64,
}

impl Allowance {
    /// `period` is an hour at most, so that a full bucket of any limit fits into 64 bits.
    pub(super) fn new(limit: NonZeroU32, period: Duration) -> Self {
        let micros = u64::try_from(period.min(super::HOUR).as_micros());
        Self {
            units_per_micro: u64::from(limit.get()),
            units_per_event: micros.unwrap_or(u64::MAX),
        }
    }

    const fn capacity(&self) -> u64 {
        self.units_per_event.saturating_mul(self.units_per_micro)
    }

    /// The level at `now`, drained since it was written.
    fn drained(&self, bucket: Bucket, now: Monotonic) -> Bucket {
        let elapsed = now.as_micros().saturating_sub(bucket.at.as_micros());
        Bucket {
            level: bucket
                .level
                .saturating_sub(elapsed.saturating_mul(self.units_per_micro)),
            at: bucket.at.max(now),
        }
    }

    fn micros_to_drain(&self, units: u64) -> Duration {
        Duration::from_micros(units.div_ceil(self.units_per_micro))
    }
}

/// How full a bucket was, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bucket {
    level: u64,
    at: Monotonic,
}

impl Rule for Allowance {
    type State = Bucket;

    fn take(&self, bucket: Option<Bucket>, now: Monotonic) -> Result<Bucket, TooManyAttempts> {
        let Bucket { level, at } = match bucket {
            Some(bucket) => self.drained(bucket, now),
            None => Bucket { level: 0, at: now },
        };
        let room = self.capacity() - self.units_per_event;
        match level.checked_sub(room) {
            None | Some(0) => Ok(Bucket {
                level: level + self.units_per_event,
                at,
            }),
            Some(surplus) => Err(TooManyAttempts {
                retry_after: at.after(self.micros_to_drain(surplus)).since(now),
            }),
        }
    }

    fn ends(&self, bucket: Bucket) -> Monotonic {
        bucket.at.after(self.micros_to_drain(bucket.level))
    }

    /// Without the division that tells when.
    fn has_ended(&self, bucket: Bucket, now: Monotonic) -> bool {
        self.drained(bucket, now).level == 0
    }
}

impl<Key: Eq + std::hash::Hash> Limiter<Key, Allowance> {
    /// Takes one event out of the key's bucket again.
    pub(super) fn give_back(&self, key: &Key, now: Monotonic) {
        self.change(key, |allowance, bucket| {
            *bucket = allowance.drained(*bucket, now);
            bucket.level = bucket.level.saturating_sub(allowance.units_per_event);
        });
    }
}
