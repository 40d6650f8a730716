//! The embedded store beside bare axum, which stores nothing.

use crate::{
    Outcome,
    bench::{Bench, require_like_answers},
    measure::Contender,
    options::Issuing,
    report::Goal,
    requests::{self, Endpoint},
};

pub async fn measure(bench: &mut Bench) -> Outcome<()> {
    let service = bench.on_sqlite("embedded");
    let instance = bench.start(&service).await?;

    let bare = bench.bare(Issuing::Nothing)?;
    let requests = requests::validate(&instance.tokens);
    let load = bench.load(&instance.server, Endpoint::Validate, requests);
    let contenders = [
        Contender::new("bare axum", &bare, load.to(bare.address)),
        Contender::new("validate", &instance.server, load),
    ];
    let [bare, validate] = bench
        .compare("Validate, embedded store", &contenders)
        .await?;
    let ratio = validate.ratio_to(&bare, |sample| sample.rate);
    let name = "3. embedded store: validate, of bare axum";
    bench
        .report
        .add_of(&validate, name, ratio, Goal::Least(0.65));

    let signing = bench.bare(Issuing::Signed)?;
    let requests = requests::generate(&instance.sites, bench.options.tokens);
    let load = bench.load(&instance.server, Endpoint::Generate, requests);
    require_like_answers(&load, &load.to(signing.address)).await?;
    let contenders = [
        Contender::new("axum that signs", &signing, load.to(signing.address)),
        Contender::new("generate", &instance.server, load),
    ];
    let [signing, generate] = bench
        .compare("Generate, embedded store", &contenders)
        .await?;
    let ratio = generate.ratio_to(&signing, |sample| sample.rate);
    let name = "3. embedded store: generate, of axum that signs and stores nothing";
    bench
        .report
        .add_of(&generate, name, ratio, Goal::Least(0.45));
    Ok(())
}
