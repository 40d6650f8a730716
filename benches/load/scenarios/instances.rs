//! Two instances on one PostgreSQL, each with half of the connections, beside one with all of them;
//! all on the same core. Each asks for every token, as behind a load balancer.

use crate::{
    Outcome,
    bench::{Bench, Instance},
    generator::Load,
    measure::Contender,
    report::Goal,
    requests::{self, Endpoint, Requests},
};

pub async fn measure(bench: &mut Bench) -> Outcome<()> {
    let alone = bench.on_postgres().await;
    let alone = bench.start(&alone).await?;
    let shared = bench.on_postgres().await;
    let first = bench.start(&shared).await?;
    let second = shared.start(&bench.cores).await?;
    let connections = bench.plan.connections.div_ceil(2);
    let count = bench.options.tokens;
    let requests = |instance: &Instance, endpoint| -> Requests {
        match endpoint {
            Endpoint::Validate => requests::validate(&instance.tokens),
            _ => requests::generate(&instance.sites, count),
        }
    };
    for (endpoint, name) in [
        (Endpoint::Validate, "validate"),
        (Endpoint::Generate, "generate"),
    ] {
        let one = bench.load(&alone.server, endpoint, requests(&alone, endpoint));
        let half = Load {
            connections,
            ..bench.load(&first.server, endpoint, requests(&first, endpoint))
        };
        let other = half.to(second.address);
        let contenders = [
            Contender::new("one instance", &alone.server, one).on_postgres()?,
            Contender::of_many(
                "two instances",
                vec![(&first.server, half), (&second, other)],
            )
            .on_postgres()?,
        ];
        let title = format!("One instance and two: {name}");
        let [one, two] = bench.compare(&title, &contenders).await?;
        let ratio = two.ratio_to(&one, |sample| sample.cpu);
        let name = format!("6. {name} by two instances, server CPU of one's");
        bench.report.add_of(&two, name, ratio, Goal::Most(1.1));
    }
    Ok(())
}
