//! Tokens that the instance has never seen, each validated once and bound by that, durably; beside
//! bare axum.

use crate::{
    Outcome,
    bench::Bench,
    generator::Load,
    measure::Contender,
    requests::{self, Endpoint},
    tokens::Birth,
};

pub async fn measure(bench: &mut Bench) -> Outcome<()> {
    let tokens_a_round = bench.options.tokens;
    let count = tokens_a_round * (bench.plan.rounds + 1);
    let service = bench.on_postgres().await;
    let instance = bench.start_afresh(&service, count, Birth::Unbound).await?;
    let rounds = instance.tokens.chunks(tokens_a_round as usize);
    let loads = rounds.map(|tokens| {
        let requests = requests::validate(tokens);
        bench.load(&instance.server, Endpoint::Validate, requests)
    });
    let loads: Vec<Load> = loads.collect();
    let bare = bench.bare()?;

    let contenders = [
        Contender::new("bare axum", &bare, loads[0].to(bare.address)),
        Contender::of_rounds("each token once", &instance.server, loads).on_postgres()?,
    ];
    let title = "First sight and binding, PostgreSQL";
    let [bare, first] = bench.compare(title, &contenders).await?;
    let name = "1. first sight and binding, of bare axum";
    bench.report.add_rate(&first, &bare, name, 0.25);
    Ok(())
}
