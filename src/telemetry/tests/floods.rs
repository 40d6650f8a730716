//! Lines that come by the hundred.

use std::{thread, time::Duration};

use serde_json::Value;

use super::{logged, logged_through};
use crate::{
    telemetry::{
        LogFormat,
        floods::{Floods, KINDS},
    },
    types::clock::{Clock, ManualClock, Timestamp},
};

/// The lines of a log, parsed.
fn parsed(text: &str) -> Vec<Value> {
    let lines = text.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().unwrap()
}

/// How many lines a log tells of, those that were left out as well.
fn told(lines: &[Value]) -> u64 {
    let told = lines
        .iter()
        .map(|line| line["left_out"].as_u64().unwrap_or(1));
    told.sum()
}

/// A request that fails, as the edge tells it.
fn fail(request: u64, error: &str) {
    tracing::error!(request.id = %request, error, took = request, "a request failed");
}

#[test]
fn of_a_flood_the_first_line_is_written_and_then_one_a_second_with_a_count() {
    let time = ManualClock::starting_at(Timestamp::from_seconds(1_795_262_400));
    let floods = Floods::new(time.clock());
    let pass = |milliseconds| {
        time.advance(Duration::from_millis(milliseconds));
        floods.tell();
    };
    let text = logged_through(&floods, LogFormat::Json, "", || {
        (0..1000).for_each(|request| fail(request, "the store is away"));
        pass(999);
        pass(1);
        (0..7).for_each(|request| fail(request, "the store is away"));
        pass(999);
        pass(1);
        // Over: the next one is the first of another.
        pass(1000);
        fail(1, "the store is away");
        pass(1000);
        fail(2, "the store is away");
        fail(3, "the store is away");
    });
    let lines = parsed(&text);
    let counts: Vec<_> = lines.iter().map(|line| line["left_out"].as_u64()).collect();
    // The last one is told at the end.
    let expected = [None, Some(999), Some(7), None, None, Some(1)];
    assert_eq!(counts, expected, "{text}");
    for line in lines.iter().filter(|line| line["left_out"].is_u64()) {
        assert_eq!(line["line"], "a request failed error=\"the store is away\"");
        assert_eq!(line["level"], "ERROR");
    }
}

#[test]
fn what_is_of_another_kind_is_written_at_once() {
    let text = logged(LogFormat::Pretty, "", || {
        for error in ["the store is away", "the store is slow"] {
            (0..3).for_each(|request| fail(request, error));
        }
        (0..3).for_each(|_| tracing::warn!(error = "the store is away", "another place"));
        (0..3).for_each(|_| tracing::info!(error = "the store is away", "no warning"));
    });
    let count = |text_of: &str| text.lines().filter(|line| line.contains(text_of)).count();
    assert_eq!(count("a request failed request.id"), 2, "{text}");
    assert_eq!(count("no warning"), 3, "{text}");
    assert_eq!(count("left_out=2"), 3, "{text}");
    assert_eq!(text.lines().count(), 3 + 3 + 3, "{text}");
}

#[test]
fn kinds_without_end_are_one_and_take_no_memory() {
    let floods = Floods::new(Clock::system());
    let text = logged_through(&floods, LogFormat::Json, "", || {
        (0..10_000).for_each(|number| fail(number, &format!("cause {number}")));
        for number in 0..100 {
            tracing::warn!(target: "h2::proto", "what a stranger sent: {number}");
        }
    });
    let lines = parsed(&text);
    assert!(lines.len() <= 2 * (KINDS + 1), "{}", lines.len());
    assert_eq!(told(&lines), 10_100);
}

#[test]
fn what_others_say_is_of_one_kind_whatever_a_stranger_sent() {
    let text = logged(LogFormat::Json, "", || {
        for number in 0..100 {
            tracing::warn!(target: "h2::proto", "what a stranger sent: {number}");
        }
    });
    let lines = parsed(&text);
    assert_eq!(lines.len(), 2, "{text}");
    assert_eq!(told(&lines), 100);
}

#[test]
fn no_line_of_a_flood_is_lost_from_the_count_however_threads_race() {
    let time = ManualClock::starting_at(Timestamp::from_seconds(1_795_262_400));
    let floods = Floods::new(time.clock());
    let text = logged_through(&floods, LogFormat::Json, "", || {
        tracing::dispatcher::get_default(|dispatch| {
            thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        tracing::dispatcher::with_default(dispatch, || {
                            for request in 0..500 {
                                fail(request, "the store is away");
                                if request % 50 == 0 {
                                    time.advance(Duration::from_secs(1));
                                    floods.tell();
                                }
                            }
                        });
                    });
                }
            });
        });
    });
    assert_eq!(told(&parsed(&text)), 4 * 500);
}
