//! Known tokens of each algorithm on one instance: they should cost the same.

use std::{net::SocketAddr, time::Duration};

use data_encoding::BASE64URL_NOPAD;
use mirrory::{keys::Algorithm, types::clock::Clock};
use serde::Deserialize;

use crate::{
    Outcome,
    bench::Bench,
    measure::Contender,
    requests::{self, Endpoint},
    service::Site,
    tokens::{self, Birth, Token},
};

/// What is compared with the first of them, whose key is the store's first one.
const ALGORITHMS: [Algorithm; 4] = [
    Algorithm::HS256,
    Algorithm::ES256,
    Algorithm::EdDSA,
    Algorithm::RS256,
];

/// Their tokens are longer, at most by half, and have to be read.
const LEAST_SHARE: f64 = 0.95;

/// Far beyond the two seconds that a new key waits.
const PATIENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);

pub async fn measure(bench: &mut Bench) -> Outcome<()> {
    let service = bench.on_postgres().await;
    let server = service.start(&bench.cores).await?;
    let sites = service.make_sites(bench.options.sites)?;
    let share = u32::try_from(ALGORITHMS.len())?;
    let count = (bench.options.tokens / share).max(bench.plan.connections);
    let mut contenders = Vec::new();
    for algorithm in ALGORITHMS {
        if algorithm != ALGORITHMS[0] {
            service.rotate_key(algorithm)?;
        }
        await_signer(server.address, &sites, algorithm).await?;
        let tokens = tokens::issue(server.address, &sites, count, Birth::Bound).await?;
        let requests = requests::validate(&tokens);
        let load = bench.load(&server, Endpoint::Validate, requests);
        contenders.push(Contender::new(algorithm.name(), &server, load).on_postgres()?);
    }
    let Ok(contenders) = <[Contender; ALGORITHMS.len()]>::try_from(contenders) else {
        return Err("a contender for each algorithm".into());
    };
    let results = bench
        .compare("Validate by algorithm, PostgreSQL", &contenders)
        .await?;
    for (algorithm, series) in ALGORITHMS.iter().zip(&results).skip(1) {
        let name = format!("4. validate {algorithm}, of HS256");
        bench
            .report
            .add_rate(series, &results[0], name, LEAST_SHARE);
    }
    Ok(())
}

#[derive(Deserialize)]
struct Header {
    alg: String,
}

/// Waits until new tokens are signed with an algorithm.
async fn await_signer(address: SocketAddr, sites: &[Site], algorithm: Algorithm) -> Outcome<()> {
    let clock = Clock::system();
    let begin = clock.monotonic();
    while clock.monotonic().since(begin) < PATIENCE {
        let tokens = tokens::issue(address, sites, 1, Birth::Bound).await?;
        if algorithm_of(&tokens[0])? == algorithm.name() {
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
    }
    Err(format!("no token is signed with {algorithm}").into())
}

fn algorithm_of(token: &Token) -> Outcome<String> {
    let (header, _) = token.text.split_once('.').ok_or("no JWT")?;
    let header: Header = serde_json::from_slice(&BASE64URL_NOPAD.decode(header.as_bytes())?)?;
    Ok(header.alg)
}
