//! Whether this instance may answer from memory: only while it follows the change log.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::types::clock::{Clock, Monotonic};

/// How long what is in memory is good for after the log was read to its end.
const GOOD_FOR: Duration = Duration::from_secs(1);

/// The moment until which memory may be trusted. Clones share it.
#[derive(Clone, Debug)]
pub struct Freshness {
    until: Arc<AtomicU64>,
    clock: Clock,
}

impl Freshness {
    /// Nothing may be trusted yet.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self {
            until: Arc::default(),
            clock,
        }
    }

    /// Says that the log was read to its end by a look that began at `began`: what others
    /// committed before it is known here.
    pub fn extend_from(&self, began: Monotonic) {
        self.until
            .fetch_max(began.after(GOOD_FOR).as_micros(), Ordering::AcqRel);
    }

    /// How long ago the log was read to its end, or the clock was made if it was never.
    #[must_use]
    pub fn age(&self) -> Duration {
        let until = Monotonic::from_micros(self.until.load(Ordering::Acquire));
        let read = Monotonic::default().after(until.since(Monotonic::default().after(GOOD_FOR)));
        self.clock.monotonic().since(read)
    }

    /// Whether what is in memory may answer a call now.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.holds_at(self.clock.monotonic())
    }

    /// Whether what is in memory may answer a call that looks at it now: a moment since which it has
    /// waited for nothing.
    #[must_use]
    pub fn holds_at(&self, now: Monotonic) -> bool {
        now.as_micros() < self.until.load(Ordering::Acquire)
    }
}
