//! New tokens on PostgreSQL: many callers beside pgbench, a lone one beside one INSERT a request.

use crate::{
    Outcome, bare,
    bench::{Bench, require_like_answers},
    durability,
    generator::Load,
    measure::Contender,
    pgbench::Pgbench,
    report::Goal,
    requests::{self, Endpoint},
    server::Server,
};

pub async fn measure(bench: &mut Bench) -> Outcome<()> {
    // Both peers write into a table that the service has made.
    let tables = bench.on_postgres().await;
    tables.migrate()?;
    durability::require(&tables.database_url).await?;
    let service = bench.on_postgres().await;
    let server = service.start(&bench.cores).await?;
    let sites = service.make_sites(bench.options.sites)?;
    let requests = requests::generate(&sites, bench.options.tokens);
    let load = bench.load(&server, Endpoint::Generate, requests);
    with_company(bench, &tables.database_url, &server, &load).await?;
    without_company(bench, &tables.database_url).await
}

async fn with_company(
    bench: &mut Bench,
    tables: &str,
    server: &Server,
    load: &Load,
) -> Outcome<()> {
    let pgbench = Pgbench::new(bench, tables)?;
    let contenders = [
        Contender::pgbench("pgbench, one-row INSERT", pgbench).on_postgres()?,
        Contender::new("generate", server, load.clone()).on_postgres()?,
    ];
    let [pgbench, generate] = bench.compare("Generate, PostgreSQL", &contenders).await?;
    let report = &mut bench.report;
    let name = "2. generate, of pgbench's one-row INSERT";
    report.add_rate(&generate, &pgbench, name, 1.8);
    let p99 = generate.middle().p99;
    report.add("2. generate, p99", p99, Goal::Millis(4.0));
    Ok(())
}

/// Both servers are new: one that had company goes on using all of its connections in turn.
async fn without_company(bench: &mut Bench, tables: &str) -> Outcome<()> {
    let service = bench.on_postgres().await;
    let server = service.start(&bench.cores).await?;
    let sites = service.make_sites(bench.options.sites)?;
    let requests = requests::generate(&sites, bench.options.tokens);
    let load = Load {
        connections: 1,
        ..bench.load(&server, Endpoint::Generate, requests)
    };
    let inserting = bare::spawn(&bench.cores, Some(tables))?;
    let to_inserting = load.to(inserting.address);
    require_like_answers(&load, &to_inserting).await?;
    let contenders = [
        Contender::new("axum, one INSERT", &inserting, to_inserting).on_postgres()?,
        Contender::new("generate", &server, load).on_postgres()?,
    ];
    let title = "Generate at one connection, PostgreSQL";
    let [inserting, generate] = bench.compare(title, &contenders).await?;
    let time = inserting.ratio_to(&generate, |sample| sample.rate);
    let name = "2. generate at one connection, time of one INSERT a request";
    bench.report.add_of(&generate, name, time, Goal::Most(1.1));
    Ok(())
}
