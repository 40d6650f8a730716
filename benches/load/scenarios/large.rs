//! Stores with many records beside empty ones.

use crate::{
    Outcome,
    bench::Bench,
    fill,
    measure::Contender,
    requests::{self, Endpoint},
    retained,
    service::Service,
};

const LEAST_SHARE: f64 = 0.85;

/// What is filled in is bound already, and leaves room on each page that a binding would have taken:
/// new records go to a partition of their own, as after the turn of a week, and not into those rooms.
const WEEKS: u32 = 4;

pub async fn measure(bench: &mut Bench) -> Outcome<()> {
    let records = bench.options.records();
    let empty = bench.on_postgres().await;
    let large = bench.on_postgres().await;
    large.migrate()?;
    retained::partitions(&large.database_url, WEEKS, 0).await?;
    fill::postgres(&large.database_url, records).await?;
    compare(bench, "PostgreSQL", &empty, &large).await?;

    let empty = bench.on_sqlite("empty");
    let large = bench.on_sqlite("large");
    large.migrate()?;
    fill::sqlite(&large.database_url, records).await?;
    compare(bench, "embedded store", &empty, &large).await
}

async fn compare(bench: &mut Bench, store: &str, empty: &Service, large: &Service) -> Outcome<()> {
    let records = bench.options.records();
    let empty = bench.start(empty).await?;
    let large = bench.start(large).await?;
    for (endpoint, name) in [
        (Endpoint::Validate, "validate"),
        (Endpoint::Generate, "generate"),
    ] {
        let contenders = [("empty", &empty), ("large", &large)].map(|(name, instance)| {
            let requests = match endpoint {
                Endpoint::Validate => requests::validate(&instance.tokens),
                _ => requests::generate(&instance.sites, bench.options.tokens),
            };
            let load = bench.load(&instance.server, endpoint, requests);
            Contender::new(name, &instance.server, load)
        });
        let title = format!("{records} records: {name}, {store}");
        let [empty, large] = bench.compare(&title, &contenders).await?;
        let name = format!("6. {name} with {records} records, of an empty store, {store}");
        bench.report.add_rate(&large, &empty, name, LEAST_SHARE);
    }
    Ok(())
}
