//! What is printed: Markdown, so that it can be kept as it is.

use std::fmt;

use crate::{
    Outcome,
    machine::{self, Cores, Folder},
    measure::{Contender, Sample, Series},
    options::Options,
};

/// What was found: the rows of the last table, and what would make them worthless.
#[derive(Default)]
pub struct Report {
    rows: Vec<Row>,
    faults: Vec<String>,
}

/// One figure beside its goal.
struct Row {
    name: String,
    value: f64,
    goal: Goal,
    /// Of the service, where a load was measured.
    sample: Option<Sample>,
}

/// What a figure should be: a ratio, milliseconds or mebibytes.
#[derive(Clone, Copy)]
pub enum Goal {
    Least(f64),
    Most(f64),
    Millis(f64),
    Mebibytes(f64),
}

impl Goal {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::Least(least) => value >= least,
            Self::Most(most) | Self::Millis(most) | Self::Mebibytes(most) => value <= most,
        }
    }

    fn show(self, value: f64) -> String {
        match self {
            Self::Least(_) | Self::Most(_) => format!("{value:.3}"),
            Self::Millis(_) => format!("{value:.2} ms"),
            Self::Mebibytes(_) => format!("{value:.1} MiB"),
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Least(least) => write!(formatter, "≥ {least}"),
            Self::Most(most) => write!(formatter, "≤ {most}"),
            Self::Millis(most) => write!(formatter, "≤ {most} ms"),
            Self::Mebibytes(most) => write!(formatter, "≤ {most} MiB"),
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            value,
            goal,
            sample,
        } = self;
        let verdict = if goal.is_met(*value) {
            "holds"
        } else {
            "MISSED"
        };
        let value = goal.show(*value);
        write!(formatter, "| {name} | {value} | {goal} | {verdict} |")?;
        match sample {
            Some(Sample {
                rate,
                cpu,
                p50,
                p99,
                ..
            }) => write!(
                formatter,
                " {rate:.0} | {} | {} | {} |",
                cell(*cpu, 1),
                cell(*p50, 2),
                cell(*p99, 2)
            ),
            None => write!(formatter, " | | | |"),
        }
    }
}

impl Report {
    /// Adds a figure to the last table.
    pub fn add(&mut self, name: impl Into<String>, value: f64, goal: Goal) {
        self.rows.push(Row {
            name: name.into(),
            value,
            goal,
            sample: None,
        });
    }

    /// Adds a figure to the last table, and what else was measured under its load.
    pub fn add_of(&mut self, series: &Series, name: impl Into<String>, value: f64, goal: Goal) {
        self.rows.push(Row {
            name: name.into(),
            value,
            goal,
            sample: Some(series.middle()),
        });
    }

    /// Adds the ratio of a load's rate to a peer's.
    pub fn add_rate(
        &mut self,
        series: &Series,
        peer: &Series,
        name: impl Into<String>,
        least: f64,
    ) {
        let ratio = series.ratio_to(peer, |sample| sample.rate);
        self.add_of(series, name, ratio, Goal::Least(least));
    }

    /// Notes what makes the figures worthless.
    pub fn fault(&mut self, fault: String) {
        println!("**{fault}**\n");
        self.faults.push(fault);
    }

    /// Prints what the contenders of a comparison did, and notes wrong answers.
    pub fn compared(&mut self, title: &str, contenders: &[Contender], results: &[Series]) {
        println!(
            "\n### {title}\n\n\
             | | requests/s | server CPU µs | PostgreSQL CPU µs | p50 ms | p99 ms | sent | statuses |\n\
             |---|--:|--:|--:|--:|--:|--:|---|"
        );
        for (contender, series) in contenders.iter().zip(results) {
            let Sample {
                rate,
                cpu,
                database_cpu,
                p50,
                p99,
            } = series.middle();
            println!(
                "| {} | {rate:.0} | {} | {} | {} | {} | {} | {} |",
                contender.name,
                cell(cpu, 1),
                cell(database_cpu, 1),
                cell(p50, 2),
                cell(p99, 2),
                series.sent,
                statuses(series),
            );
        }
        println!();
        for (contender, series) in contenders.iter().zip(results) {
            if !series.is_right() {
                let Series { sent, right, .. } = series;
                self.fault(format!(
                    "{title}, {}: only {right} of {sent} answers were right",
                    contender.name
                ));
            }
        }
    }

    /// Prints the last table.
    ///
    /// # Errors
    /// When something makes it worthless. A goal that is missed does not.
    pub fn finish(self) -> Outcome<()> {
        println!(
            "\n### Goals\n\n\
             | | measured | goal | | requests/s | server CPU µs | p50 ms | p99 ms |\n\
             |---|--:|--:|---|--:|--:|--:|--:|"
        );
        for row in &self.rows {
            println!("{row}");
        }
        if self.faults.is_empty() {
            Ok(())
        } else {
            Err(self.faults.join("; ").into())
        }
    }
}

/// Empty for what was not measured.
fn cell(value: f64, decimals: usize) -> String {
    if value.is_nan() {
        String::new()
    } else {
        format!("{value:.decimals$}")
    }
}

fn statuses(series: &Series) -> String {
    let counts = series.statuses.iter();
    let counts: Vec<String> = counts
        .map(|(status, count)| format!("{status}: {count}"))
        .collect();
    counts.join(", ")
}

/// How everything below was measured.
pub fn print_conditions(options: &Options, cores: &Cores, folder: &Folder) {
    println!("`{}`\n", options.command_line());
    println!("- Machine: {}; {}", machine::describe(), cores.describe());
    println!(
        "- Stores on {}, SQLite with synchronous = FULL, PostgreSQL with fsync on",
        folder.file_system()
    );
    println!(
        "- Plans of 10¹² calls, 10⁹ validations a token and hour: evaluated, and never biting"
    );
    println!(
        "- Ratios: median of the ratios of {} rounds; all else: median of the rounds",
        options.rounds
    );
}
