//! The embedded store beside bare axum, which stores nothing.

use crate::{
    Outcome,
    bench::{Bench, require_like_answers},
    measure::Contender,
    requests::{self, Endpoint},
};

pub async fn measure(bench: &mut Bench) -> Outcome<()> {
    let service = bench.on_sqlite("embedded");
    let instance = bench.start(&service).await?;

    let bare = bench.bare()?;
    let requests = requests::validate(&instance.tokens);
    let load = bench.load(&instance.server, Endpoint::Validate, requests);
    let contenders = [
        Contender::new("bare axum", &bare, load.to(bare.address)),
        Contender::new("validate", &instance.server, load),
    ];
    let [plain, validate] = bench
        .compare("Validate, embedded store", &contenders)
        .await?;
    let name = "3. embedded store: validate, of bare axum";
    bench.report.add_rate(&validate, &plain, name, 0.65);

    let requests = requests::generate(&instance.sites, bench.options.tokens);
    let load = bench.load(&instance.server, Endpoint::Generate, requests);
    require_like_answers(&load, &load.to(bare.address)).await?;
    let contenders = [
        Contender::new("bare axum, which signs", &bare, load.to(bare.address)),
        Contender::new("generate", &instance.server, load),
    ];
    let [signing, generate] = bench
        .compare("Generate, embedded store", &contenders)
        .await?;
    let name = "3. embedded store: generate, of axum that signs and stores nothing";
    bench.report.add_rate(&generate, &signing, name, 0.45);
    Ok(())
}
