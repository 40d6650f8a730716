//! What is printed: Markdown, so that it can be kept as it is.

use crate::{
    Outcome,
    machine::{self, Cores, Folder},
    measure::{Sample, Series, median},
    options::Options,
    scenario::Scenario,
    service::PROGRAM,
    start_up::Starts,
    target::Target,
    usage::{self, Memory},
    wrk::Share,
};

/// How everything below was measured.
pub fn print_conditions(options: &Options, cores: &Cores, folder: &Folder) {
    let Options {
        seconds,
        rounds,
        connections,
        tokens,
        sites,
        ..
    } = options;
    println!(
        "`cargo bench --bench load -- --seconds {seconds} --rounds {rounds} --connections \
         {connections} --tokens {tokens} --sites {sites}`\n"
    );
    println!("- Machine: {}; {}", machine::describe(), cores.describe());
    println!(
        "- Stores on {}, SQLite with synchronous = FULL, PostgreSQL with fsync on; RUST_LOG=warn",
        folder.file_system()
    );
    println!("- Ratios: median of the rounds' ratios; all else: median of the rounds");
}

pub fn print_generator(share: Option<Share>) {
    match share {
        Some(share) => println!(
            "- Load generator: {:.2} of wrk's rate on bare axum",
            share.0
        ),
        None => println!("- Load generator: not compared, wrk is not installed"),
    }
}

pub fn print_header() {
    println!(
        "\n| request | server | requests/s | of bare | server CPU µs | PostgreSQL CPU µs | p50 ms \
         | p99 ms | sent | statuses |\n|---|---|--:|--:|--:|--:|--:|--:|--:|---|"
    );
}

/// One line a server; `bare` is the first of the results.
pub fn print_results(scenario: Scenario, targets: &[Target], results: &[Series]) {
    for (target, series) in targets.iter().zip(results) {
        let middle = |value: fn(&Sample) -> f64| median(series.samples.iter().map(value));
        let pairs = series.samples.iter().zip(&results[0].samples);
        let ratio = median(pairs.map(|(sample, bare)| sample.rate / bare.rate));
        let database = match target.database {
            Some(_) => format!("{:.1}", middle(|sample| sample.database_cpu)),
            None => String::new(),
        };
        println!(
            "| {} | {} | {:.0} | {ratio:.3} | {:.1} | {database} | {:.2} | {:.2} | {} | {} |",
            scenario.name(),
            target.name,
            middle(|sample| sample.rate),
            middle(|sample| sample.cpu),
            middle(|sample| sample.p50),
            middle(|sample| sample.p99),
            series.sent,
            statuses(series),
        );
    }
}

fn statuses(series: &Series) -> String {
    let counts = series.statuses.iter();
    let mut text: Vec<String> = counts
        .map(|(status, count)| format!("{status}: {count}"))
        .collect();
    if !series.is_right() {
        text.push(format!("AS EXPECTED ONLY {}", series.expected));
    }
    text.join(", ")
}

pub fn print_footprint(targets: &[Target], idle: &[Memory], starts: &[Starts]) -> Outcome<()> {
    println!("\n| server | idle MiB | after the load MiB | at most MiB |\n|---|--:|--:|--:|");
    for (target, idle) in targets.iter().zip(idle) {
        let loaded = usage::memory_of(target.server.process_id())?;
        println!(
            "| {} | {:.1} | {:.1} | {:.1} |",
            target.name, idle.resident, loaded.resident, loaded.peak
        );
    }
    println!("\n| store | ready on a fresh one, ms | on an existing one, ms |\n|---|--:|--:|");
    for starts in starts {
        println!(
            "| {} | {:.0} | {:.0} |",
            starts.store, starts.fresh, starts.existing
        );
    }
    let kibibytes = u32::try_from(std::fs::metadata(PROGRAM)?.len() / 1024)?;
    println!("\nRelease binary: {:.1} MiB", f64::from(kibibytes) / 1024.0);
    Ok(())
}
