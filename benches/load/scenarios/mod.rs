//! What is measured: one file a goal, and each can be measured alone.

mod accounts;
mod algorithms;
mod attack;
mod embedded;
mod first_sight;
mod footprint;
mod generate;
mod generator;
mod instances;
mod large;
mod propagation;
mod retention;
mod retention_embedded;
mod telemetry;
mod validate;

use clap::ValueEnum;

use crate::{Outcome, bench::Bench};

/// What can be measured, in the order of a whole run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// The load generator beside `wrk`.
    Generator,
    /// Known tokens on PostgreSQL, beside bare axum.
    Validate,
    /// Tokens that are seen and bound for the first time, beside bare axum.
    FirstSight,
    /// New tokens on PostgreSQL, beside pgbench and beside one INSERT a request.
    Generate,
    /// The embedded store, beside bare axum.
    Embedded,
    /// Known tokens of each algorithm, beside HS256.
    Algorithms,
    /// Right calls while others attack.
    Attack,
    /// Known tokens while people sign in, and how long a failed sign-in takes.
    Accounts,
    /// Two instances beside one.
    Instances,
    /// How long a revocation takes to reach another instance.
    Propagation,
    /// Known tokens with metrics and with traces, beside neither.
    Telemetry,
    /// Memory, the start, the binary.
    Footprint,
    /// Stores with many records beside empty ones.
    Large,
    /// Old records and idempotency keys removed from a large store under load.
    Retention,
    /// Old records removed from a large embedded store under load.
    RetentionEmbedded,
}

impl Scenario {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Generator => "generator",
            Self::Validate => "validate",
            Self::FirstSight => "first-sight",
            Self::Generate => "generate",
            Self::Embedded => "embedded",
            Self::Algorithms => "algorithms",
            Self::Attack => "attack",
            Self::Accounts => "accounts",
            Self::Instances => "instances",
            Self::Propagation => "propagation",
            Self::Telemetry => "telemetry",
            Self::Footprint => "footprint",
            Self::Large => "large",
            Self::Retention => "retention",
            Self::RetentionEmbedded => "retention-embedded",
        }
    }

    /// Starts what it needs, measures it, and ends it.
    pub async fn measure(self, bench: &mut Bench) -> Outcome<()> {
        match self {
            Self::Generator => generator::measure(bench).await,
            Self::Validate => validate::measure(bench).await,
            Self::FirstSight => first_sight::measure(bench).await,
            Self::Generate => generate::measure(bench).await,
            Self::Embedded => embedded::measure(bench).await,
            Self::Algorithms => algorithms::measure(bench).await,
            Self::Attack => attack::measure(bench).await,
            Self::Accounts => accounts::measure(bench).await,
            Self::Instances => instances::measure(bench).await,
            Self::Propagation => propagation::measure(bench).await,
            Self::Telemetry => telemetry::measure(bench).await,
            Self::Footprint => footprint::measure(bench).await,
            Self::Large => large::measure(bench).await,
            Self::Retention => retention::measure(bench).await,
            Self::RetentionEmbedded => retention_embedded::measure(bench).await,
        }
    }
}
