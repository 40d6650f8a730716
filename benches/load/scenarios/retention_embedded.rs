//! Old records removed from an embedded store by the instance's own janitor, while others are
//! validated and issued.

use std::net::Ipv4Addr;

use crate::{
    Outcome,
    bench::{Bench, Instance},
    fill,
    measure::Contender,
    paced::{Pace, Paced},
    report::Goal,
    requests::{self, Endpoint},
    retained,
};

const MOST_P99: f64 = 1.15;

/// Many for one disk that is flushed for each; as in the other scenario, they are not measured.
const ISSUING: Pace = Pace {
    rate: 100,
    first: Ipv4Addr::new(127, 0, 5, 1),
    addresses: 20,
};

const ISSUED: &[&[u8]] = &[Endpoint::Generate.expects()];

/// The janitor begins when the instance is ready, and has enough to do until the end.
pub async fn measure(bench: &mut Bench) -> Outcome<()> {
    let records = bench.options.records();
    let [keeping, removing] = ["keeping", "removing"].map(|name| bench.on_sqlite(name));
    for service in [&keeping, &removing] {
        service.migrate()?;
        fill::sqlite(&service.database_url, records).await?;
    }
    retained::end_all(&removing.database_url).await?;
    let keeping = bench.start(&keeping).await?;
    let url = removing.database_url.clone();
    let removing = bench.start(&removing).await?;

    let before = retained::ended(&url).await?;
    let contenders = [
        contender(bench, "keeping", &keeping)?,
        contender(bench, "removing", &removing)?,
    ];
    let title = format!("{records} records: validate, embedded store");
    let [keeping, removing] = bench.compare(&title, &contenders).await?;
    let left = retained::ended(&url).await?;
    println!(
        "{} old records were removed meanwhile, {left} are left\n",
        before - left
    );
    let ratio = removing.ratio_to(&keeping, |sample| sample.p99);
    let name = "validate while the janitor removes records of an embedded store, of its p99";
    bench
        .report
        .add_of(&removing, name, ratio, Goal::Most(MOST_P99));
    if left == 0 || left == before {
        bench.report.fault(format!(
            "the janitor removed {before} - {left} records, then none"
        ));
    }
    Ok(())
}

fn contender(bench: &Bench, name: &str, instance: &Instance) -> Outcome<Contender> {
    let Instance {
        server,
        sites,
        tokens,
    } = instance;
    let seconds = u32::try_from(bench.plan.duration.as_secs() + 2)?;
    let count = (bench.plan.rounds + 1) * seconds * ISSUING.rate;
    let issuing = requests::generate_with_keys(sites, count);
    let issuing = Paced::new(server.address, ISSUING, issuing, ISSUED);
    let load = bench.load(server, Endpoint::Validate, requests::validate(tokens));
    Ok(Contender::beside(name, server, load, issuing))
}
