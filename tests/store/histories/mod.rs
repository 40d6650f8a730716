//! Histories of racing calls, held against a plain model in memory.
//!
//! Each call is noted with the order in which calls began and ended. A history is linearizable when
//! some order of its calls, in which none stands before one that had ended when it began, is one
//! that the model would answer in the same way.

mod binding;
mod quota;

use std::{
    collections::HashSet,
    fmt::Debug,
    hash::Hash,
    sync::atomic::{AtomicU64, Ordering},
};

/// The one clock of a history: it orders the beginnings and the ends of calls.
#[derive(Default)]
pub struct Order(AtomicU64);

impl Order {
    fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst)
    }

    /// Makes a call and notes it with what it answered.
    pub async fn note<E>(&self, call: impl Future<Output = E>) -> Noted<E> {
        let began = self.next();
        let event = call.await;
        Noted {
            began,
            ended: self.next(),
            event,
        }
    }
}

/// A call with its answer, and when it was made.
#[derive(Clone, Debug)]
pub struct Noted<E> {
    pub began: u64,
    pub ended: u64,
    pub event: E,
}

/// What a call would do to the state, or nothing if it would not have answered so.
pub type Step<S, E> = fn(&S, &E) -> Option<S>;

/// Panics unless the history is linearizable.
pub fn check<S, E>(seed: u64, initial: S, mut history: Vec<Noted<E>>, step: Step<S, E>)
where
    S: Clone + Eq + Hash,
    E: Debug,
{
    history.sort_by_key(|call| call.began);
    if !is_linearizable(initial, &history, step) {
        let lines: Vec<String> = history.iter().map(|call| format!("{call:?}")).collect();
        panic!(
            "seed {seed}: no order of these calls explains them:\n{}",
            lines.join("\n")
        );
    }
}

/// Searches for an order that the model agrees with (Wing and Gong, 1993), and remembers which
/// calls in which state have led to none (Lowe, 2017).
fn is_linearizable<S, E>(initial: S, history: &[Noted<E>], step: Step<S, E>) -> bool
where
    S: Clone + Eq + Hash,
{
    assert!(
        history.len() <= 128,
        "a history of {} calls is too long",
        history.len()
    );
    let all = u128::MAX
        .checked_shr(128 - u32::try_from(history.len()).unwrap())
        .unwrap_or(0);
    let mut seen = HashSet::new();
    let mut open = vec![(0_u128, initial)];
    while let Some((done, state)) = open.pop() {
        if done == all {
            return true;
        }
        let left = || (0..history.len()).filter(|index| done & (1 << index) == 0);
        let first_end = left().map(|index| history[index].ended).min().unwrap();
        for index in left().filter(|index| history[*index].began < first_end) {
            let Some(next) = step(&state, &history[index].event) else {
                continue;
            };
            let next = (done | (1 << index), next);
            if seen.insert(next.clone()) {
                open.push(next);
            }
        }
    }
    false
}

mod checker {
    use super::{Noted, is_linearizable};

    /// A register that is written to and read.
    #[derive(Clone, Copy, Debug)]
    enum Event {
        Write(u8),
        Read(u8),
    }
    use Event::{Read, Write};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the form of a step")]
    fn step(state: &u8, event: &Event) -> Option<u8> {
        match event {
            Write(value) => Some(*value),
            Read(value) => (value == state).then_some(*state),
        }
    }

    fn judge(calls: &[(u64, u64, Event)]) -> bool {
        let note = |(began, ended, event): &(u64, u64, Event)| Noted {
            began: *began,
            ended: *ended,
            event: *event,
        };
        let history: Vec<_> = calls.iter().map(note).collect();
        is_linearizable(0, &history, step)
    }

    #[test]
    fn racing_calls_may_have_happened_in_any_order() {
        assert!(judge(&[]));
        assert!(judge(&[(0, 3, Write(1)), (1, 2, Read(0)), (4, 5, Read(1))]));
        assert!(judge(&[(0, 3, Write(1)), (1, 2, Read(1)), (4, 5, Read(1))]));
        assert!(judge(&[
            (0, 5, Write(1)),
            (1, 4, Write(2)),
            (2, 3, Read(2)),
            (6, 7, Read(1))
        ]));
    }

    #[test]
    fn calls_that_follow_each_other_happened_in_their_order() {
        assert!(!judge(&[(0, 1, Write(1)), (2, 3, Read(0))]));
        assert!(!judge(&[
            (0, 5, Write(1)),
            (1, 2, Read(1)),
            (3, 4, Read(0))
        ]));
        assert!(!judge(&[
            (0, 1, Write(1)),
            (2, 3, Write(2)),
            (4, 7, Read(1)),
            (5, 6, Read(1))
        ]));
    }
}
