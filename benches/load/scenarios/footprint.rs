//! What an instance holds in memory, how soon it is ready, and how large its program is.

use crate::{
    Outcome,
    bench::Bench,
    generator::Tally,
    report::Goal,
    requests::{self, Endpoint},
    service::{Lines, PROGRAM, Service},
    start_up,
    tokens::Birth,
    usage,
};

const MOST_IDLE: Goal = Goal::Mebibytes(20.0);
const MOST_LOADED: Goal = Goal::Mebibytes(80.0);
const LATEST: Goal = Goal::Millis(60.0);
const LARGEST: Goal = Goal::Mebibytes(25.0);

pub async fn measure(bench: &mut Bench) -> Outcome<()> {
    let on_postgres = bench.on_postgres().await;
    let on_sqlite = bench.on_sqlite("footprint");
    for (service, store) in [(on_postgres, "PostgreSQL"), (on_sqlite, "embedded store")] {
        let idle = usage::idle_memory(&mut service.spawn(&bench.cores, &Lines::None)?).await?;
        let name = format!("7. idle memory, {store}");
        bench.report.add(name, idle.resident, MOST_IDLE);
        let loaded = loaded_memory(bench, &service, store).await?;
        let name = format!(
            "7. most memory at full load, {} tokens known, {store}",
            bench.options.known
        );
        bench.report.add(name, loaded, MOST_LOADED);
        let ready = start_up::measure(&bench.cores, &service)?;
        let name = format!("7. ready on an existing store, {store}");
        bench.report.add(name, ready, LATEST);
    }
    let kibibytes = u32::try_from(std::fs::metadata(PROGRAM)?.len() / 1024)?;
    let size = f64::from(kibibytes) / 1024.0;
    bench.report.add("7. release binary", size, LARGEST);
    Ok(())
}

/// The most that an instance ever held which has validated many tokens, under load, and then
/// issued some.
async fn loaded_memory(bench: &mut Bench, service: &Service, store: &str) -> Outcome<f64> {
    let instance = bench
        .start_afresh(service, bench.options.known, Birth::Bound)
        .await?;
    let requests = requests::validate(&instance.tokens);
    let validate = bench.load(&instance.server, Endpoint::Validate, requests);
    let requests = requests::generate(&instance.sites, bench.options.known);
    let generate = bench.load(&instance.server, Endpoint::Generate, requests);
    let tallies = [
        validate.run_once().await?,
        validate.run_for(bench.plan.duration).await?,
        generate.run_for(bench.plan.duration).await?,
    ];
    let Tally { sent, right, .. } = tallies.into_iter().fold(Tally::default(), Tally::with);
    if sent != right {
        let fault = format!("full load, {store}: only {right} of {sent} answers were right");
        bench.report.fault(fault);
    }
    Ok(usage::memory_of(instance.server.process_id())?.peak)
}
