//! How far a long command has come: a bar on a terminal, elsewhere a line now and then. On stderr.

use std::time::Duration;

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};

use crate::types::clock::{Clock, Monotonic};

const BETWEEN_LINES: Duration = Duration::from_secs(5);

/// What is counted.
#[derive(Clone, Copy)]
pub(super) enum Unit {
    Rows,
    Bytes,
}

/// How far it has come.
pub(super) struct Progress {
    bar: ProgressBar,
    verb: &'static str,
    unit: Unit,
    clock: Clock,
    told: Monotonic,
}

impl Progress {
    /// Nothing of `total` is done yet; without one, nobody knows how much there is.
    pub(super) fn new(verb: &'static str, unit: Unit, total: Option<u64>, clock: &Clock) -> Self {
        let bar = total.map_or_else(ProgressBar::no_length, ProgressBar::new);
        let (with_end, without) = match unit {
            Unit::Rows => (
                "{msg} [{wide_bar}] {human_pos}/{human_len} rows, {per_sec}, {eta} left",
                "{msg} {human_pos} rows, {per_sec}",
            ),
            Unit::Bytes => (
                "{msg} [{wide_bar}] {binary_bytes}/{binary_total_bytes}, {binary_bytes_per_sec}, \
                 {eta} left",
                "{msg} {binary_bytes}, {binary_bytes_per_sec}",
            ),
        };
        let template = if total.is_some() { with_end } else { without };
        // Else it is a plain bar.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(verb);
        Self {
            bar,
            verb,
            unit,
            told: clock.monotonic(),
            clock: clock.clone(),
        }
    }

    /// So much is done of the whole.
    pub(super) fn reach(&mut self, position: u64) {
        self.bar.set_position(position);
        if self.bar.is_hidden()
            && let Some(line) = self.line()
        {
            eprintln!("mirrory: {line}");
        }
    }

    /// How far it has come, if it is time to say so.
    fn line(&mut self) -> Option<String> {
        let now = self.clock.monotonic();
        if now.since(self.told) < BETWEEN_LINES {
            return None;
        }
        self.told = now;
        let show = |amount: u64| match self.unit {
            Unit::Rows => format!("{} rows", HumanCount(amount)),
            Unit::Bytes => HumanBytes(amount).to_string(),
        };
        let done = format!("{} {}", self.verb, show(self.bar.position()));
        let length = self.bar.length();
        Some(length.map_or_else(
            || done.clone(),
            |length| format!("{done} of {}", show(length)),
        ))
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::clock::{ManualClock, Timestamp};

    #[test]
    fn where_no_terminal_is_a_line_comes_every_five_seconds() {
        let hand = ManualClock::starting_at(Timestamp::from_micros(0));
        let clock = hand.clock();
        let mut rows = Progress::new("exported", Unit::Rows, Some(1_000_000), &clock);
        let mut bytes = Progress::new("imported", Unit::Bytes, None, &clock);
        rows.reach(1000);
        assert_eq!(rows.line(), None);
        hand.advance(BETWEEN_LINES);
        assert_eq!(
            rows.line().as_deref(),
            Some("exported 1,000 rows of 1,000,000 rows")
        );
        assert_eq!(rows.line(), None);
        bytes.bar.set_position(3 << 20);
        assert_eq!(bytes.line().as_deref(), Some("imported 3.00 MiB"));
    }
}
