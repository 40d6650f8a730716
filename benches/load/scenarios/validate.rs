//! Known tokens on PostgreSQL, with and without a line of the log a request, beside bare axum.

use std::{fs, path::Path, time::Duration};

use crate::{
    Outcome,
    bench::{Bench, require_like_answers},
    measure::{Contender, Series},
    report::Goal,
    requests::{self, Endpoint},
    service::Lines,
};

/// The service promises a line within a second.
const LOG_PATIENCE: Duration = Duration::from_secs(1);

pub async fn measure(bench: &mut Bench) -> Outcome<()> {
    let service = bench.on_postgres().await;
    let instance = bench.start(&service).await?;
    let log = bench.folder.path().join("requests.log");
    let lines = Lines::JsonTo(log.clone());
    let logging = service.start_with(&bench.cores, &lines).await?;
    let bare = bench.bare()?;
    let requests = requests::validate(&instance.tokens);
    let load = bench.load(&instance.server, Endpoint::Validate, requests);
    require_like_answers(&load, &load.to(bare.address)).await?;

    let contenders = [
        Contender::new("bare axum", &bare, load.to(bare.address)),
        Contender::new("no lines", &instance.server, load.clone()).on_postgres()?,
        Contender::new(
            "a line of JSON a request",
            &logging,
            load.to(logging.address),
        )
        .on_postgres()?,
    ];
    let results = bench.compare("Validate, PostgreSQL", &contenders).await?;
    let [bare, quiet, logged] = &results;
    let report = &mut bench.report;
    report.add_rate(quiet, bare, "1. validate, of bare axum", 0.65);
    let p99 = quiet.middle().p99;
    report.add("1. validate, p99", p99, Goal::Millis(2.0));
    let name = "1. validate with a line a request, of bare axum";
    report.add_rate(logged, bare, name, 0.55);
    if let Some(fault) = missing_lines(&log, logged).await? {
        report.fault(fault);
    }
    fs::remove_file(log)?;
    Ok(())
}

/// Lines may be dropped when the log is too slow; then they were not paid for.
async fn missing_lines(log: &Path, series: &Series) -> Outcome<Option<String>> {
    tokio::time::sleep(LOG_PATIENCE).await;
    let text = fs::read(log)?;
    let lines = text.split(|byte| *byte == b'\n');
    let lines = lines
        .filter(|line| contains(line, Endpoint::Validate.path()))
        .count();
    let is_whole = lines as u64 == series.sent;
    Ok((!is_whole).then(|| format!("{lines} lines of the log for {} requests", series.sent)))
}

fn contains(line: &[u8], text: &str) -> bool {
    line.windows(text.len())
        .any(|window| window == text.as_bytes())
}
