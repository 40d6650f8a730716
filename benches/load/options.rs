//! What can be chosen.

use std::net::SocketAddr;

use clap::{Parser, builder::RangedU64ValueParser};

use crate::scenarios::Scenario;

const MANY_RECORDS: u32 = 10_000_000;

/// Measures the service beside a bare axum server, pgbench and itself.
#[derive(Debug, Parser)]
#[command(name = "cargo bench --bench load --")]
pub struct Options {
    /// Only these scenarios, separated by commas; all but the large ones unless told.
    #[arg(long, value_delimiter = ',', value_enum)]
    pub only: Vec<Scenario>,
    /// Seconds of each turn.
    #[arg(long, default_value_t = 2, value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    pub seconds: u64,
    /// Rounds in which every contender has one turn; a first one is not counted.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// Connections that each send one request after another.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    pub connections: u32,
    /// Live bound tokens that are validated in turn, and new ones that are each validated once.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub tokens: u32,
    /// Sites that the tokens are of and the calls are charged to.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub sites: u32,
    /// Tokens that are known while the memory at full load is measured.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub known: u32,
    /// Also measure stores with this many token records and 10,000 sites beside empty ones; filling
    /// them takes minutes.
    #[arg(long, value_name = "RECORDS", num_args = 0..=1, default_missing_value = "10000000",
        value_parser = clap::value_parser!(u32).range(1..))]
    pub large: Option<u32>,
    /// Serve as the bare axum server.
    #[arg(long, hide = true, value_name = "ADDRESS")]
    pub serve_bare: Option<SocketAddr>,
    /// Where the bare server inserts what it issues.
    #[arg(long, hide = true, value_name = "URL")]
    pub database_url: Option<String>,
    /// What `cargo bench` says to every bench, and `cargo test` does not.
    #[arg(long, hide = true)]
    pub bench: bool,
}

impl Options {
    /// Whether a scenario is to be measured.
    pub fn includes(&self, scenario: Scenario) -> bool {
        let is_large = matches!(
            scenario,
            Scenario::Large | Scenario::Retention | Scenario::RetentionEmbedded
        );
        let is_usual = !is_large || self.large.is_some();
        self.only.contains(&scenario) || (self.only.is_empty() && is_usual)
    }

    /// How many records a large store has.
    pub fn records(&self) -> u32 {
        self.large.unwrap_or(MANY_RECORDS)
    }

    /// The command line that chooses the same.
    pub fn command_line(&self) -> String {
        let Self {
            seconds,
            rounds,
            connections,
            tokens,
            sites,
            known,
            ..
        } = self;
        let only = self.only.iter().map(|scenario| scenario.name());
        let only: Vec<&str> = only.collect();
        let only = match only.as_slice() {
            [] => String::new(),
            some => format!(" --only {}", some.join(",")),
        };
        let large = self
            .large
            .map_or(String::new(), |large| format!(" --large {large}"));
        format!(
            "cargo bench --bench load -- --seconds {seconds} --rounds {rounds} \
             --connections {connections} --tokens {tokens} --sites {sites} --known {known}{only}\
             {large}"
        )
    }
}
