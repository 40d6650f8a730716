//! Right calls while wrong secrets and forged tokens come from many addresses.

use crate::{
    Outcome,
    attack::attack,
    bench::Bench,
    measure::Contender,
    report::Goal,
    requests::{self, Endpoint},
};

pub async fn measure(bench: &mut Bench) -> Outcome<()> {
    let service = bench.on_postgres().await;
    let instance = bench.start(&service).await?;
    let server = &instance.server;
    let attack = attack(server.address, &instance.sites[0], &instance.tokens[0])?;
    let validate = requests::validate(&instance.tokens);
    let generate = requests::generate(&instance.sites, bench.options.tokens);
    for (endpoint, requests, name) in [
        (Endpoint::Validate, validate, "validate"),
        (Endpoint::Generate, generate, "generate"),
    ] {
        let load = bench.load(server, endpoint, requests);
        let contenders = [
            Contender::new("quiet", server, load.clone()).on_postgres()?,
            Contender::beside("under attack", server, load, attack.clone()).on_postgres()?,
        ];
        let title = format!("Under attack: {name}, PostgreSQL");
        let [quiet, attacked] = bench.compare(&title, &contenders).await?;
        println!("{attack}");
        let ratio = attacked.ratio_to(&quiet, |sample| sample.p99);
        let name = format!("5. {name} under attack, of its quiet p99");
        bench.report.add_of(&attacked, name, ratio, Goal::Most(2.0));
    }
    Ok(())
}
