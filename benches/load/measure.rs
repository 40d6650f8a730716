//! Measures: every server once a round, so that what the machine does meanwhile meets them all.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    Outcome, generator::Tally, options::Options, scenario::Scenario, target::Target, usage,
};

/// How long and how often.
#[derive(Clone, Copy)]
pub struct Plan {
    pub duration: Duration,
    pub rounds: u32,
    pub connections: u32,
}

impl From<&Options> for Plan {
    fn from(options: &Options) -> Self {
        Self {
            duration: Duration::from_secs(options.seconds),
            rounds: options.rounds,
            connections: options.connections,
        }
    }
}

/// One server in one round.
#[derive(Clone, Copy)]
pub struct Sample {
    /// Answers a second.
    pub rate: f64,
    /// Server CPU time an answer, in microseconds.
    pub cpu: f64,
    /// PostgreSQL's CPU time an answer, in microseconds.
    pub database_cpu: f64,
    /// Latency that half of the requests, and 99 of 100, do not exceed; in milliseconds.
    pub p50: f64,
    pub p99: f64,
}

/// One server in all rounds.
#[derive(Default)]
pub struct Series {
    pub samples: Vec<Sample>,
    /// Also of the round that is not counted.
    pub sent: u64,
    pub expected: u64,
    pub statuses: BTreeMap<u16, u64>,
}

impl Series {
    /// Whether every request was answered with a 200 that says what it should.
    pub fn is_right(&self) -> bool {
        self.expected == self.sent && self.statuses.get(&200) == Some(&self.sent)
    }

    fn count(&mut self, tally: &Tally) {
        self.sent += u64::from(tally.sent);
        self.expected += u64::from(tally.expected);
        for (status, count) in &tally.statuses {
            *self.statuses.entry(*status).or_default() += u64::from(*count);
        }
    }
}

/// Sends a scenario's requests to every target in turn, each round beginning with another one.
pub async fn interleaved(
    plan: &Plan,
    scenario: Scenario,
    targets: &[Target],
) -> Outcome<Vec<Series>> {
    let mut results: Vec<Series> = targets.iter().map(|_| Series::default()).collect();
    for round in 0..=plan.rounds as usize {
        for turn in 0..targets.len() {
            let place = (round + turn) % targets.len();
            let (sample, tally) = once(plan, scenario, &targets[place]).await?;
            let series = &mut results[place];
            series.count(&tally);
            // The first round finds cold caches and grows the heap.
            if round > 0 {
                series.samples.push(sample);
            }
        }
    }
    Ok(results)
}

async fn once(plan: &Plan, scenario: Scenario, target: &Target) -> Outcome<(Sample, Tally)> {
    let load = target.load(scenario, plan.connections);
    let before = cpu(target)?;
    let mut tally = load.run_for(plan.duration).await?;
    let after = cpu(target)?;
    tally.latencies.sort_unstable();
    let micros = |spent: Duration| spent.as_secs_f64() * 1e6 / tally.answers();
    let sample = Sample {
        rate: tally.rate(),
        cpu: micros(after.server.saturating_sub(before.server)),
        database_cpu: micros(after.database.saturating_sub(before.database)),
        p50: quantile(&tally.latencies, 50),
        p99: quantile(&tally.latencies, 99),
    };
    Ok((sample, tally))
}

struct Cpu {
    server: Duration,
    database: Duration,
}

fn cpu(target: &Target) -> Outcome<Cpu> {
    let database = target.database.map(usage::cpu_of_family).transpose()?;
    Ok(Cpu {
        server: usage::cpu_of(target.server.process_id())?,
        database: database.unwrap_or_default(),
    })
}

/// In milliseconds, of sorted microseconds.
fn quantile(sorted: &[u32], percent: usize) -> f64 {
    let place = sorted.len() * percent / 100;
    let micros = sorted.get(place).or(sorted.last());
    micros.copied().map_or(0.0, f64::from) / 1000.0
}

/// The middle one; of an even number, the mean of the two in the middle.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}
