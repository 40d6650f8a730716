//! Whole-service figures: requests a second, server CPU a request and latency of the service, beside
//! servers that do less, in one run on one machine; and what else it promises to be: small, soon
//! ready, of one mind.
//!
//! `cargo bench --bench load` starts everything that it needs and ends with one table of goals;
//! options come after `--`, as in `cargo bench --bench load -- --only validate,generate`, and
//! `--help` tells them. A goal that is missed is said to be. It fails when an answer is not the one
//! that is measured, when a store does not flush what it commits, and when the load generator is
//! slower than `wrk`.
//!
//! A file of [`scenarios`] measures one thing with what a [`bench::Bench`] has; [`measure`] gives the
//! contenders of a comparison their turns, [`generator`] sends, [`report`] prints.

mod attack;
mod bare;
mod bench;
mod connection;
mod durability;
mod fill;
mod generator;
mod machine;
mod measure;
mod options;
mod paced;
mod pgbench;
mod removal;
mod report;
mod requests;
mod retained;
mod scenarios;
mod server;
mod service;
mod start_up;
mod tokens;
mod usage;
mod wrk;

#[path = "../../tests/support/postgres.rs"]
mod postgres;

use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use self::{
    bench::Bench,
    machine::{Cores, Folder},
    measure::Plan,
    options::Options,
    postgres::Cluster,
    report::Report,
    scenarios::Scenario,
};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> ExitCode {
    let options = Options::parse();
    let outcome = match options.serve_bare {
        Some(address) => bare::serve(address, options.database_url.as_deref()),
        None if options.bench => run(options),
        // `cargo test --all-targets` starts it too.
        None => {
            println!("measures nothing but by `cargo bench --bench load`");
            Ok(())
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("load: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> Outcome<()> {
    let cores = Cores::share_out()?;
    let folder = Folder::durable()?;
    report::print_conditions(&options, &cores, &folder);
    let mut bench = Bench {
        plan: Plan::from(&options),
        options,
        cores,
        cluster: Cluster::start_durable(),
        report: Report::default(),
        folder,
    };
    // On this thread alone, which is kept off the server's core.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    for scenario in Scenario::value_variants() {
        if bench.options.includes(*scenario) {
            runtime.block_on(scenario.measure(&mut bench))?;
        }
    }
    bench.report.finish()
}
