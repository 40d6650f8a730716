//! Failures that cost more and more time.

use std::time::Duration;

use super::{
    TooManyAttempts,
    limiter::{Limiter, Rule},
};
use crate::types::clock::Monotonic;

/// How long the key that fails this often must wait.
const RUNGS: [(u32, Duration); 5] = [
    (7, Duration::from_mins(1)),
    (10, Duration::from_mins(10)),
    (15, Duration::from_mins(15)),
    (20, Duration::from_hours(1)),
    (25, DAY),
];

/// How long after the last of them, and the wait that it cost, failures are forgotten.
const DAY: Duration = Duration::from_hours(24);

/// Longer and longer waits, the longest again for each failure after the last rung.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ladder;

/// How often a key has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Climb {
    failures: u32,
    last: Monotonic,
    blocked_until: Monotonic,
}

impl Climb {
    fn after(failures: u32, now: Monotonic) -> Self {
        Self {
            failures,
            last: now,
            blocked_until: now.after(wait(failures)),
        }
    }
}

fn wait(failures: u32) -> Duration {
    let (last_rung, longest) = RUNGS[RUNGS.len() - 1];
    if failures > last_rung {
        return longest;
    }
    let rung = RUNGS.iter().find(|(rung, _)| *rung == failures);
    rung.map_or(Duration::ZERO, |(_, wait)| *wait)
}

impl Rule for Ladder {
    type State = Climb;

    fn take(&self, climb: Option<Climb>, now: Monotonic) -> Result<Climb, TooManyAttempts> {
        match climb {
            None => Ok(Climb::after(1, now)),
            Some(climb) if climb.blocked_until > now => Err(TooManyAttempts {
                retry_after: climb.blocked_until.since(now),
            }),
            Some(climb) => Ok(Climb::after(climb.failures.saturating_add(1), now)),
        }
    }

    fn ends(&self, climb: Climb) -> Monotonic {
        climb.last.max(climb.blocked_until).after(DAY)
    }
}

impl<Key: Eq + std::hash::Hash> Limiter<Key, Ladder> {
    /// Takes back one attempt that was counted when it began and has not failed. The wait that it
    /// would have cost goes with it.
    pub(super) fn give_back(&self, key: &Key, now: Monotonic) {
        self.change(key, |_, climb| {
            *climb = Climb {
                failures: climb.failures.saturating_sub(1),
                blocked_until: climb.blocked_until.min(now),
                ..*climb
            };
        });
    }
}
