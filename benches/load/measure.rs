//! Measures: every contender once a round, so that what the machine does meanwhile meets them all.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    Outcome,
    generator::{Load, Tally},
    options::Options,
    paced::Paced,
    pgbench::Pgbench,
    removal::Removal,
    server::Server,
    usage,
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

/// One of those that are compared: what it is made to do, and whose CPU time that takes.
pub struct Contender {
    pub name: String,
    work: Work,
    servers: Vec<u32>,
    /// PostgreSQL's first process.
    database: Option<u32>,
}

/// What is done in a turn.
enum Work {
    /// These loads at the same time, for as long as the plan says.
    Loads(Vec<Load>),
    /// In each round the next of these, each of its requests once.
    Rounds(Vec<Load>),
    /// A load while other requests come at a pace.
    Beside(Load, Paced),
    /// The same while old records are removed.
    Removing(Load, Paced, Removal),
    Pgbench(Pgbench),
}

impl Contender {
    pub fn new(name: &str, server: &Server, load: Load) -> Self {
        Self::with(name, &[server], Work::Loads(vec![load]))
    }

    /// Several servers, each with a load of its own.
    pub fn of_many(name: &str, loads: Vec<(&Server, Load)>) -> Self {
        let (servers, loads): (Vec<&Server>, Vec<Load>) = loads.into_iter().unzip();
        Self::with(name, &servers, Work::Loads(loads))
    }

    /// One load a round, the one that is not counted included.
    pub fn of_rounds(name: &str, server: &Server, loads: Vec<Load>) -> Self {
        Self::with(name, &[server], Work::Rounds(loads))
    }

    /// A load whose server is sent other requests meanwhile, which are not measured.
    pub fn beside(name: &str, server: &Server, load: Load, paced: Paced) -> Self {
        Self::with(name, &[server], Work::Beside(load, paced))
    }

    /// As [`Contender::beside`], while old records are removed from the store.
    pub fn removing(
        name: &str,
        server: &Server,
        load: Load,
        paced: Paced,
        removal: Removal,
    ) -> Self {
        Self::with(name, &[server], Work::Removing(load, paced, removal))
    }

    pub fn pgbench(name: &str, pgbench: Pgbench) -> Self {
        Self::with(name, &[], Work::Pgbench(pgbench))
    }

    /// PostgreSQL's CPU time is told, too.
    pub fn on_postgres(self) -> Outcome<Self> {
        let database = usage::child_named("postgres")?;
        Ok(Self { database, ..self })
    }

    fn with(name: &str, servers: &[&Server], work: Work) -> Self {
        Self {
            name: name.to_owned(),
            work,
            servers: servers.iter().map(|server| server.process_id()).collect(),
            database: None,
        }
    }

    async fn take_turn(&self, plan: &Plan, round: usize) -> Outcome<(Sample, Tally)> {
        let before = self.cpu()?;
        let mut tally = self.work.run(plan, round).await?;
        let after = self.cpu()?;
        tally.latencies.sort_unstable();
        let spent = |before: Option<Duration>, after: Option<Duration>| {
            let spent = before
                .zip(after)
                .map(|(before, after)| after.saturating_sub(before));
            spent.map_or(f64::NAN, |spent| {
                spent.as_secs_f64() * 1e6 / f64::from(tally.sent)
            })
        };
        let sample = Sample {
            rate: tally.rate(),
            cpu: spent(before.servers, after.servers),
            database_cpu: spent(before.database, after.database),
            p50: quantile(&tally.latencies, 50),
            p99: quantile(&tally.latencies, 99),
        };
        Ok((sample, tally))
    }

    fn cpu(&self) -> Outcome<Cpu> {
        let servers = self.servers.iter().map(|process| usage::cpu_of(*process));
        let servers = servers.collect::<Outcome<Vec<Duration>>>()?;
        Ok(Cpu {
            servers: servers.into_iter().reduce(|sum, cpu| sum + cpu),
            database: self.database.map(usage::cpu_of_family).transpose()?,
        })
    }
}

impl Work {
    async fn run(&self, plan: &Plan, round: usize) -> Outcome<Tally> {
        match self {
            Self::Loads(loads) => {
                let running = loads.iter().map(|load| load.run_for(plan.duration));
                let tallies = futures_util::future::try_join_all(running).await?;
                Ok(tallies.into_iter().fold(Tally::default(), Tally::with))
            }
            Self::Rounds(loads) => {
                let load = loads.get(round).ok_or("a round without a load")?;
                load.run_once().await
            }
            Self::Beside(load, paced) => paced.during(load.run_for(plan.duration)).await,
            Self::Removing(load, paced, removal) => {
                let loading = load.run_for(plan.duration);
                paced.during(removal.during(plan.duration, loading)).await
            }
            Self::Pgbench(pgbench) => pgbench.run(plan),
        }
    }
}

/// None of what is not looked at.
struct Cpu {
    servers: Option<Duration>,
    database: Option<Duration>,
}

/// One contender in one round; what is not measured of it is no number.
#[derive(Clone, Copy)]
pub struct Sample {
    /// Right answers a second.
    pub rate: f64,
    /// CPU time of its servers a request, in microseconds.
    pub cpu: f64,
    /// PostgreSQL's CPU time a request, in microseconds.
    pub database_cpu: f64,
    /// Latency that half of the requests, and 99 of 100, do not exceed; in milliseconds.
    pub p50: f64,
    pub p99: f64,
}

/// One contender in all rounds.
#[derive(Default)]
pub struct Series {
    pub samples: Vec<Sample>,
    /// Also of the round that is not counted.
    pub sent: u64,
    pub right: u64,
    pub statuses: BTreeMap<u16, u64>,
}

impl Series {
    /// Whether every request was answered with a 200 that says what it should.
    pub fn is_right(&self) -> bool {
        self.right == self.sent && self.sent > 0
    }

    /// The middle of what was measured in the rounds.
    pub fn middle(&self) -> Sample {
        let middle = |value: fn(&Sample) -> f64| median(self.samples.iter().map(value));
        Sample {
            rate: middle(|sample| sample.rate),
            cpu: middle(|sample| sample.cpu),
            database_cpu: middle(|sample| sample.database_cpu),
            p50: middle(|sample| sample.p50),
            p99: middle(|sample| sample.p99),
        }
    }

    /// The median of the rounds' ratios to another contender.
    pub fn ratio_to(&self, other: &Self, value: fn(&Sample) -> f64) -> f64 {
        let pairs = self.samples.iter().zip(&other.samples);
        median(pairs.map(|(own, its)| value(own) / value(its)))
    }

    fn count(&mut self, tally: &Tally) {
        self.sent += u64::from(tally.sent);
        self.right += u64::from(tally.right);
        for (status, count) in &tally.statuses {
            *self.statuses.entry(*status).or_default() += u64::from(*count);
        }
    }
}

/// Gives every contender a turn a round, each round beginning with another one.
pub async fn interleaved<const N: usize>(
    plan: &Plan,
    contenders: &[Contender; N],
) -> Outcome<[Series; N]> {
    let mut results = std::array::from_fn(|_| Series::default());
    for round in 0..=plan.rounds as usize {
        for turn in 0..N {
            let place = (round + turn) % N;
            let (sample, tally) = contenders[place].take_turn(plan, round).await?;
            let series: &mut Series = &mut results[place];
            series.count(&tally);
            // The first round finds cold caches and grows the heap.
            if round > 0 {
                series.samples.push(sample);
            }
        }
    }
    Ok(results)
}

/// In milliseconds, of sorted microseconds.
fn quantile(sorted: &[u32], percent: usize) -> f64 {
    let place = sorted.len() * percent / 100;
    let micros = sorted.get(place).or(sorted.last());
    micros.copied().map_or(f64::NAN, f64::from) / 1000.0
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
