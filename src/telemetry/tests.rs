mod floods;

use std::{
    io::{self, Write},
    panic,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use serde_json::Value;
use tracing::subscriber::with_default;

use super::{
    LogFormat, TelemetryError, filter,
    floods::Floods,
    lines::{Guard, Lines, MOST_BYTES, background},
    log_panic, subscriber,
};
use crate::types::clock::Clock;

#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl Output {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is written when `log` runs under `RUST_LOG=directives`.
fn logged(format: LogFormat, directives: &str, log: impl FnOnce()) -> String {
    let floods = Floods::new(Clock::system());
    logged_through(&floods, format, directives, log)
}

fn logged_through(
    floods: &Floods,
    format: LogFormat,
    directives: &str,
    log: impl FnOnce(),
) -> String {
    let output = Output::default();
    let (writer, guard) = background(output.clone(), floods.clone()).unwrap();
    let filter = filter(directives).unwrap();
    with_default(
        subscriber(format, false, filter, writer, floods.clone()),
        || {
            log();
            drop(guard);
        },
    );
    output.text()
}

/// Writes JSON lines to an output while `log` runs.
fn write_to(output: impl Write + Send + 'static, log: impl FnOnce(Guard)) {
    let floods = Floods::new(Clock::system());
    let (writer, guard): (Lines, Guard) = background(output, floods.clone()).unwrap();
    let filter = filter("").unwrap();
    with_default(
        subscriber(LogFormat::Json, false, filter, writer, floods),
        || log(guard),
    );
}

#[test]
fn json_line_is_flat() {
    let text = logged(LogFormat::Json, "", || {
        tracing::info!(site.id = "site_1", status = 200, "request");
    });
    let line: Value = serde_json::from_str(&text).unwrap();
    let mut keys: Vec<_> = line.as_object().unwrap().keys().cloned().collect();
    keys.sort();
    assert_eq!(
        keys,
        [
            "level",
            "message",
            "site.id",
            "status",
            "target",
            "timestamp"
        ]
    );
    assert_eq!(line["message"], "request");
    assert_eq!(line["level"], "INFO");
    assert_eq!(line["site.id"], "site_1");
    assert_eq!(line["status"], 200);
    assert!(text.ends_with("}\n"));
}

#[test]
fn json_line_is_json_whatever_is_in_it() {
    let text = "\u{0}\t\n\u{1f}\"\\ é \u{1f600} \u{7f}";
    let line = logged(LogFormat::Json, "", || {
        tracing::info!(
            text,
            shown = %text,
            debugged = ?text,
            number = 1.5,
            none = f64::NAN,
            large = u64::MAX,
            small = i64::MIN,
            right = true,
            "{text}"
        );
    });
    assert_eq!(line.lines().count(), 1);
    let line: Value = serde_json::from_str(&line).unwrap();
    for field in ["text", "shown", "message"] {
        assert_eq!(line[field], text, "{field}");
    }
    assert_eq!(line["debugged"], format!("{text:?}"));
    assert_eq!(line["number"], 1.5);
    assert!(line["none"].is_null());
    assert_eq!(line["large"], u64::MAX);
    assert_eq!(line["small"], i64::MIN);
    assert_eq!(line["right"], true);
}

#[test]
fn json_line_tells_the_moment_in_microseconds_of_utc() {
    let clock = Clock::system();
    let earlier = clock.now();
    let line = logged(LogFormat::Json, "", || tracing::info!("now"));
    let line: Value = serde_json::from_str(&line).unwrap();
    let written = line["timestamp"].as_str().unwrap();
    assert_eq!(written.len(), "2026-12-31T23:59:59.123456Z".len());
    let moment: jiff::Timestamp = written.parse().unwrap();
    let range = earlier.as_micros()..=clock.now().as_micros();
    assert!(range.contains(&moment.as_microsecond()), "{written}");
}

#[test]
fn a_panic_is_one_line_that_says_where() {
    let text = logged(LogFormat::Json, "", || {
        // The other tests of this process keep the hook that they have.
        let (other_hook, here) = (panic::take_hook(), thread::current().id());
        panic::set_hook(Box::new(move |panic| {
            if thread::current().id() == here {
                log_panic(panic);
            } else {
                other_hook(panic);
            }
        }));
        panic::catch_unwind(|| panic!("on {}", "purpose")).unwrap_err();
    });
    let line: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(line["level"], "ERROR");
    assert_eq!(line["panic"], "on purpose");
    let place = line["place"].as_str().unwrap();
    assert!(place.starts_with(concat!(file!(), ":")), "{place}");
}

#[test]
fn pretty_line_is_one_line_without_escapes_for_no_terminal() {
    let text = logged(LogFormat::Pretty, "", || {
        tracing::warn!(site.id = "site_1", "request");
    });
    assert_eq!(text.lines().count(), 1);
    assert!(
        text.contains("WARN") && text.contains("site.id=\"site_1\""),
        "{text}"
    );
    assert!(!text.contains('\u{1b}'), "{text}");
}

#[test]
fn info_is_the_default_and_rust_log_changes_it() {
    let log = || {
        tracing::debug!(target: "mirrory::tokens", "fine");
        tracing::info!(target: "mirrory::tokens", "coarse");
    };
    let default = logged(LogFormat::Json, "", log);
    assert!(
        default.contains("coarse") && !default.contains("fine"),
        "{default}"
    );
    let detailed = logged(LogFormat::Json, "warn,mirrory=debug", log);
    assert!(
        detailed.contains("coarse") && detailed.contains("fine"),
        "{detailed}"
    );
    assert_eq!(logged(LogFormat::Json, "error", log), "");
}

#[test]
fn a_word_that_is_no_level_and_no_target_of_ours_is_refused() {
    for (directives, word) in [
        ("warning", "warning"),
        ("info, eror", "eror"),
        ("mirrory=debug,verbose", "verbose"),
        ("mirroryx", "mirroryx"),
        ("infor\u{7}", "infor\\u{7}"),
    ] {
        let error = filter(directives).unwrap_err().to_string();
        let expected = format!("bad RUST_LOG: `{word}` is no level ");
        assert!(error.starts_with(&expected), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn no_filter_but_off_silences_what_goes_wrong_here() {
    let log = || {
        tracing::error!("an error");
        tracing::info!("an info");
        tracing::debug!("a debug");
    };
    let has = |directives: &str, line: &str| {
        logged(LogFormat::Json, directives, log).contains(&format!("\"{line}\""))
    };
    for directives in [
        "",
        " ",
        ",",
        "info\r",
        "INFO",
        "3",
        "sqlx=warn",
        "hyper=debug,sqlx=warn",
        "mirrory=info",
        "mirrory::store=debug",
        "mirrory::store",
        "[request]=debug",
        "warn,mirrory=info",
    ] {
        assert!(has(directives, "an error"), "{directives:?}");
        assert!(has(directives, "an info"), "{directives:?}");
        assert!(!has(directives, "a debug"), "{directives:?}");
    }
    for directives in [
        "mirrory",
        "mirrory=debug,sqlx=warn",
        "debug",
        "sqlx=warn,trace",
    ] {
        assert!(has(directives, "a debug"), "{directives:?}");
    }
    for directives in ["error", "mirrory=error,info", "error,sqlx=info"] {
        assert!(has(directives, "an error"), "{directives:?}");
        assert!(!has(directives, "an info"), "{directives:?}");
    }
    assert!(!has("off", "an error"));
}

#[test]
fn bad_filter_is_named() {
    let error = filter("mirrory=loud").unwrap_err();
    assert!(matches!(error, TelemetryError::Filter(_)));
    assert!(error.to_string().starts_with("bad RUST_LOG: "), "{error}");
    assert_eq!(error.to_string().lines().count(), 1);
}

#[test]
fn other_crates_stay_capped_at_trace() {
    let log = || {
        tracing::trace!(target: "axum::rejection", "secret");
        tracing::debug!(target: "h2::codec::framed_read", "secret");
        tracing::debug!(target: "sqlx::postgres::notice", "secret");
        tracing::debug!(target: "rustls::client::hs", "secret");
        tracing::debug!(target: "a_crate_of_next_year", "secret");
        tracing::trace!(target: "sqlx::query", "secret");
        tracing::trace!(target: "hyper::proto::h1::io", "secret");
        tracing::debug!(target: "sqlx::query", "statement");
        tracing::debug!(target: "hyper::proto::h1::io", "lengths");
        tracing::trace!(target: "mirrory::tokens", "ours");
        tracing::warn!(target: "h2::server", "warning");
    };
    for directives in [
        "trace",
        "h2=trace,sqlx=trace,axum=trace,hyper=trace,a_crate_of_next_year=trace,rustls=,mirrory",
    ] {
        let text = logged(LogFormat::Json, directives, log);
        assert!(!text.contains("secret"), "{text}");
        for line in ["statement", "lengths", "ours", "warning"] {
            assert!(text.contains(line), "{line} is missing in {text}");
        }
    }
}

#[test]
fn line_is_written_within_a_second_when_nothing_follows() {
    let output = Output::default();
    write_to(output.clone(), |_guard| {
        tracing::info!("alone");
        let written = (0..100).any(|_| {
            thread::sleep(Duration::from_millis(10));
            output.text().contains("alone")
        });
        assert!(written);
    });
}

#[test]
fn every_line_is_written_when_the_guard_is_dropped() {
    let text = logged(LogFormat::Json, "", || {
        for number in 0..5000 {
            tracing::info!(number);
        }
    });
    assert_eq!(text.lines().count(), 5000);
    assert!(
        text.lines()
            .all(|line| serde_json::from_str::<Value>(line).is_ok())
    );
}

/// An output that takes nothing until it is released.
struct Stuck(Arc<Mutex<()>>, Output);

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _released = self.0.lock().unwrap();
        self.1.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn blocked_output_costs_lines_and_no_time_and_the_loss_is_told() {
    let output = Output::default();
    let gate = Arc::new(Mutex::new(()));
    let blocked = gate.lock().unwrap();
    // More than may wait, and what the writer has taken before.
    let lines = 2 * MOST_BYTES / 64;
    write_to(Stuck(Arc::clone(&gate), output.clone()), |guard| {
        for number in 0..lines {
            tracing::info!(number);
        }
        drop(blocked);
        // The queue has to have room for the last line.
        let drained = (0..500).any(|_| {
            thread::sleep(Duration::from_millis(10));
            output.text().lines().count() > 1000
        });
        assert!(drained);
        drop(guard);
    });
    let text = output.text();
    assert!(text.lines().count() < lines);
    assert!(
        text.lines()
            .last()
            .unwrap()
            .contains("log lines were dropped")
    );
}
