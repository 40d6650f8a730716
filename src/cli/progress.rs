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
        let now = self.clock.monotonic();
        if self.bar.is_hidden() && now.since(self.told) >= BETWEEN_LINES {
            self.told = now;
            self.tell(position);
        }
    }

    fn tell(&self, position: u64) {
        let verb = self.verb;
        let show = |amount: u64| match self.unit {
            Unit::Rows => format!("{} rows", HumanCount(amount)),
            Unit::Bytes => HumanBytes(amount).to_string(),
        };
        match self.bar.length() {
            Some(length) => eprintln!("mirrory: {verb} {} of {}", show(position), show(length)),
            None => eprintln!("mirrory: {verb} {}", show(position)),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
