//! So many events in a window that begins with the first of them.

use std::{num::NonZeroU32, time::Duration};

use super::{TooManyAttempts, limiter::Rule};
use crate::types::clock::Monotonic;

/// `limit` events in a window of `length`; further ones are refused until it ends, and do not make
/// it longer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    limit: NonZeroU32,
    length: Duration,
}

impl Window {
    pub(super) const fn new(limit: NonZeroU32, length: Duration) -> Self {
        Self { limit, length }
    }
}

/// The events of a window that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Count {
    events: NonZeroU32,
    ends: Monotonic,
}

impl Rule for Window {
    type State = Count;

    fn take(&self, count: Option<Count>, now: Monotonic) -> Result<Count, TooManyAttempts> {
        match count {
            None => Ok(Count {
                events: NonZeroU32::MIN,
                ends: now.after(self.length),
            }),
            Some(count) if count.events < self.limit => Ok(Count {
                events: count.events.saturating_add(1),
                ..count
            }),
            Some(count) => Err(TooManyAttempts {
                retry_after: count.ends.since(now),
            }),
        }
    }

    fn ends(&self, count: Count) -> Monotonic {
        count.ends
    }
}
