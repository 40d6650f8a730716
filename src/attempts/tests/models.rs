//! The limits beside plain models of them.

use std::{collections::HashMap, time::Duration};

use proptest::prelude::*;

use super::{address, attempts, token};
use crate::{attempts::TooManyAttempts, types::clock::Monotonic};

#[derive(Clone, Copy, Debug)]
enum Step {
    Wait(u64),
    Take(u8),
    GiveBack(u8),
}

fn steps(longest_wait_micros: u64) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        1 => (0..longest_wait_micros).prop_map(Step::Wait),
        4 => (0..3_u8).prop_map(Step::Take),
        1 => (0..3_u8).prop_map(Step::GiveBack),
    ];
    prop::collection::vec(step, 0..300)
}

proptest! {
    /// The model keeps every attempt since the beginning and counts anew each time.
    #[test]
    fn window_agrees_with_a_plain_model(limit in 1..6_u32, steps in steps(50_000_000)) {
        let attempts = attempts(limit, 0);
        let mut history: HashMap<u8, Vec<u64>> = HashMap::new();
        let mut now = 0;
        for step in steps {
            match step {
                Step::Wait(micros) => now += micros,
                Step::GiveBack(_) => {}
                Step::Take(key) => {
                    let past = history.entry(key).or_default();
                    past.push(now);
                    let mut start = past[0];
                    let mut events = 0;
                    for moment in past.iter() {
                        if *moment >= start + 60_000_000 {
                            (start, events) = (*moment, 0);
                        }
                        events += 1;
                    }
                    let expected = if events <= limit {
                        Ok(())
                    } else {
                        let retry_after = Duration::from_micros(start + 60_000_000 - now);
                        Err(TooManyAttempts { retry_after })
                    };
                    let answer = attempts.failure(address(u32::from(key)), Monotonic::from_micros(now));
                    prop_assert_eq!(answer, expected);
                }
            }
        }
    }

    /// A token bucket in its textbook form, in fractions of an event: `limit` events of room, which
    /// come back evenly over an hour.
    #[test]
    fn allowance_agrees_with_a_token_bucket(limit in 1..50_u32, steps in steps(600_000_000)) {
        const EVENT: u128 = 3_600_000_000;
        let attempts = attempts(0, limit);
        let full = u128::from(limit) * EVENT;
        let mut rooms: HashMap<u8, u128> = HashMap::new();
        let mut now = 0;
        for step in steps {
            let moment = Monotonic::from_micros(now);
            match step {
                Step::Wait(micros) => {
                    now += micros;
                    for room in rooms.values_mut() {
                        *room = full.min(*room + u128::from(micros) * u128::from(limit));
                    }
                }
                Step::GiveBack(key) => {
                    attempts.verdict_unused(token(u128::from(key)), moment);
                    let room = rooms.entry(key).or_insert(full);
                    *room = full.min(*room + EVENT);
                }
                Step::Take(key) => {
                    let room = rooms.entry(key).or_insert(full);
                    let answer = attempts.verdict(token(u128::from(key)), moment);
                    if let Some(rest) = room.checked_sub(EVENT) {
                        *room = rest;
                        prop_assert_eq!(answer, Ok(()));
                    } else {
                        let wait = (EVENT - *room).div_ceil(u128::from(limit));
                        let retry_after = Duration::from_micros(u64::try_from(wait).unwrap());
                        prop_assert_eq!(answer, Err(TooManyAttempts { retry_after }));
                    }
                }
            }
        }
    }

    /// What the contract says, without a bucket: no stretch of time of any length has more verdicts
    /// in it than the limit and as many an hour, and no verdict is refused that keeps to this.
    #[test]
    fn allowance_is_as_generous_as_the_contract(limit in 1..20_u32, waits in prop::collection::vec(0..400_000_000_u64, 1..150)) {
        let attempts = attempts(0, limit);
        let mut told: Vec<u64> = Vec::new();
        let mut now = 0;
        for wait in waits {
            // Bursts and pauses.
            now += wait.saturating_sub(200_000_000);
            let fits = told.iter().chain([&now]).enumerate().all(|(earlier, since)| {
                let events = (told.len() + 1 - earlier) as u128 * 3_600_000_000;
                let allowed = u128::from(limit) * u128::from(3_600_000_000 + now - since);
                events <= allowed
            });
            let answer = attempts.verdict(token(1), Monotonic::from_micros(now));
            prop_assert_eq!(answer.is_ok(), fits);
            if fits {
                told.push(now);
            }
        }
    }

    /// Whoever waits as long as told succeeds, and not a microsecond earlier.
    #[test]
    fn retry_after_is_exact(limit in 1..1000_u32, tries in 1..1200_u32, pause in 0..1_000_000_u64) {
        let attempts = attempts(limit, limit);
        let (mut now, mut refused) = (0, None);
        for _ in 0..tries {
            now += pause;
            refused = attempts.verdict(token(1), Monotonic::from_micros(now)).err();
        }
        if let Some(TooManyAttempts { retry_after }) = refused {
            let wait = u64::try_from(retry_after.as_micros()).unwrap();
            prop_assert!(wait > 0);
            let early = Monotonic::from_micros(now + wait - 1);
            prop_assert!(attempts.verdict(token(1), early).is_err());
            prop_assert!(attempts.verdict(token(1), Monotonic::from_micros(now + wait)).is_ok());
        }
    }
}
