//! Whole-service figures: requests a second, server CPU a request and latency of the service on
//! each store, beside a bare axum server that parses the same bodies and answers the same JSON, in
//! one run on one machine.
//!
//! `cargo bench --bench load` starts everything that it needs and prints its tables; options come
//! after `--`, as in `cargo bench --bench load -- --seconds 10 --rounds 7`. It fails when an answer
//! is not the one that is measured, when a store does not flush what it commits, and when the load
//! generator is slower than `wrk`.
//!
//! A [`scenario`] is a kind of request, a [`target`] a server that answers it; [`generator`] sends,
//! [`measure`] sums up, [`report`] prints.

mod bare;
mod durability;
mod generator;
mod machine;
mod measure;
mod options;
mod report;
mod scenario;
mod server;
mod service;
mod start_up;
mod target;
mod usage;
mod wrk;

#[path = "../../tests/support/postgres.rs"]
mod postgres;

use std::process::ExitCode;

use clap::Parser;

use self::{
    machine::{Cores, Folder},
    measure::{Plan, Series},
    options::Options,
    postgres::Cluster,
    scenario::Scenario,
    service::Service,
    target::Target,
};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> ExitCode {
    let options = Options::parse();
    let outcome = match options.serve_bare {
        Some(address) => bare::serve(address),
        None if options.bench => run(&options),
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

fn run(options: &Options) -> Outcome<()> {
    let cores = Cores::share_out()?;
    let folder = Folder::durable()?;
    // On this thread alone, which is kept off the server's core.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let cluster = Cluster::start_durable();
    runtime.block_on(measure_all(options, &cores, &folder, &cluster))
}

async fn measure_all(
    options: &Options,
    cores: &Cores,
    folder: &Folder,
    cluster: &Cluster,
) -> Outcome<()> {
    let plan = Plan::from(options);
    report::print_conditions(options, cores, folder);
    let starts = start_up::measure(cores, folder, cluster).await?;
    let on_sqlite = Service::on_sqlite(&folder.path().join("load"));
    let on_postgres = Service::on_postgres(cluster.create_database().await);
    let idle = [
        usage::idle_memory(&mut on_sqlite.spawn(cores)?).await?,
        usage::idle_memory(&mut on_postgres.spawn(cores)?).await?,
    ];
    let targets = [
        Target::bare(cores, options)?,
        Target::sqlite(cores, &on_sqlite, options).await?,
        Target::postgres(cores, &on_postgres, options).await?,
    ];

    let share = wrk::compare(&plan, folder, &targets[0]).await?;
    report::print_generator(share);
    report::print_header();
    let mut all_right = true;
    for scenario in Scenario::ALL {
        let results = measure::interleaved(&plan, scenario, &targets).await?;
        report::print_results(scenario, &targets, &results);
        all_right &= results.iter().all(Series::is_right);
    }
    report::print_footprint(&targets[1..], &idle, &starts)?;
    if !all_right {
        return Err("not every answer was the one that is measured".into());
    }
    if share.is_some_and(|share| !share.is_enough()) {
        return Err("the load generator is slower than wrk".into());
    }
    Ok(())
}
