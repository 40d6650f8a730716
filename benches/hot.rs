//! The functions that every call runs, one by one: `cargo bench --bench hot`.

use std::{error::Error, hint::black_box, net::SocketAddr};

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Request},
    http::header,
};
use criterion::Criterion;
use futures_util::FutureExt;
use mirrory::{
    app::{open_state, open_store},
    attempts::Attempts,
    config::Config,
    keys::{
        Algorithm, Kid, TokenClaims,
        signer::{PrivateKey, SigningKey, UnverifiedToken},
    },
    quota::{Ledger, Outcome},
    router::router,
    store::{database::SERVING_DEADLINE, freshness::Freshness},
    types::{
        clock::{Clock, Timestamp},
        ids::{MachineId, SecretId, SiteId, TokenId, WpUserId},
        randomness::Randomness,
        secret::ProxySecret,
    },
};
use tokio::runtime::Runtime;
use tower::ServiceExt;

const MACHINE_ID: &str = "desktop-machine-uuid-1234567890";
const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
const PEER: SocketAddr = SocketAddr::new(
    std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)),
    50_000,
);

fn main() -> Result<(), Box<dyn Error>> {
    let mut criterion = Criterion::default().configure_from_args();
    keys(&mut criterion)?;
    secrets(&mut criterion)?;
    ids(&mut criterion);
    attempts(&mut criterion)?;
    charges(&mut criterion)?;
    requests(&mut criterion)?;
    criterion.final_summary();
    Ok(())
}

fn keys(criterion: &mut Criterion) -> Result<(), Box<dyn Error>> {
    let randomness = Randomness::seeded(1);
    let claims = TokenClaims {
        site_id: SiteId::new(NOW, &randomness),
        token_id: TokenId::new(NOW, &randomness),
        user_id: WpUserId::parse("12345")?,
        issued_at: NOW,
        expires_at: Timestamp::from_seconds(NOW.as_seconds() + 86_400),
    };
    for algorithm in Algorithm::ALL {
        let private_key = PrivateKey::generate(algorithm, &randomness)?;
        let kid = Kid::generate(&randomness);
        let key = SigningKey::new(kid, &private_key, "mirrory", "mirrory-desktop")?;
        let token = key.sign(&claims)?;
        criterion.bench_function(&format!("sign {algorithm}"), |bencher| {
            bencher.iter(|| key.sign(black_box(&claims)));
        });
        criterion.bench_function(&format!("parse and verify {algorithm}"), |bencher| {
            bencher.iter(|| {
                let token = UnverifiedToken::parse(black_box(&token));
                token.map(|token| key.verify(&token))
            });
        });
    }
    Ok(())
}

fn secrets(criterion: &mut Criterion) -> Result<(), Box<dyn Error>> {
    let randomness = Randomness::seeded(1);
    let secret = ProxySecret::generate(SecretId::new(NOW, &randomness), &randomness);
    let digest = secret.digest();
    let same = ProxySecret::parse(secret.reveal().to_owned())?.digest();
    criterion.bench_function("secret: parse", |bencher| {
        bencher.iter(|| ProxySecret::parse(black_box(secret.reveal()).to_owned()));
    });
    criterion.bench_function("secret: read its id, checksum and all", |bencher| {
        bencher.iter(|| black_box(&secret).id());
    });
    criterion.bench_function("secret: digest", |bencher| {
        bencher.iter(|| black_box(&secret).digest());
    });
    criterion.bench_function("secret: compare", |bencher| {
        bencher.iter(|| black_box(&digest).matches(black_box(&same)));
    });
    Ok(())
}

fn ids(criterion: &mut Criterion) {
    criterion.bench_function("machine id: parse", |bencher| {
        bencher.iter(|| MachineId::parse(black_box(MACHINE_ID)));
    });
    let randomness = Randomness::system();
    criterion.bench_function("token id: make", |bencher| {
        bencher.iter(|| TokenId::new(black_box(NOW), &randomness));
    });
}

fn attempts(criterion: &mut Criterion) -> Result<(), Box<dyn Error>> {
    let mut limits = Config::load(None, [])?.limits;
    limits.validations_per_token_per_hour = 1_000_000_000;
    let clock = Clock::system();
    let known = Attempts::new(&limits);
    let randomness = Randomness::seeded(1);
    let token_id = TokenId::new(NOW, &randomness);
    criterion.bench_function("attempts: verdict of a known token", |bencher| {
        bencher.iter(|| known.verdict(black_box(token_id), clock.monotonic()));
    });
    // More tokens than are remembered, so that room must be made.
    let crowded = Attempts::new(&limits);
    criterion.bench_function("attempts: verdict of a new token, no room", |bencher| {
        bencher.iter(|| {
            let token_id = TokenId::new(NOW, &randomness);
            crowded.verdict(token_id, clock.monotonic())
        });
    });
    limits.failures_per_minute = u32::MAX;
    let failing = Attempts::new(&limits);
    criterion.bench_function("attempts: failure of a known address", |bencher| {
        bencher.iter(|| failing.failure(black_box(PEER.ip()), clock.monotonic()));
    });
    Ok(())
}

/// Requests that never come to the store, through the whole router: what is left is the frame and
/// the reading of the request.
/// A call that is charged in memory, with the store's share of it: one statement in thousands.
fn charges(criterion: &mut Criterion) -> Result<(), Box<dyn Error>> {
    let folder = std::env::temp_dir().join(format!("mirrory-charges-{}", std::process::id()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let settings = [
        (
            "MIRRORY__DATABASE__URL",
            &*format!("sqlite://{}/mirrory.db", folder.display()),
        ),
        ("MIRRORY__PLANS__UNBOUNDED__CALLS_PER_DAY", "1000000000000"),
        (
            "MIRRORY__PLANS__UNBOUNDED__CALLS_PER_MONTH",
            "1000000000000",
        ),
    ];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let config = Config::load(None, settings)?;
    let database = runtime.block_on(open_store(&config.database, SERVING_DEADLINE))?;
    let ledger = Ledger::new(database, config.plans, Clock::system());
    let site_id = SiteId::new(NOW, &Randomness::seeded(1));
    criterion.bench_function("quota: charge and settle", |bencher| {
        bencher.iter(|| {
            let permit = match ledger.try_spend(site_id, "unbounded") {
                Some(permit) => permit,
                None => runtime
                    .block_on(ledger.reserve(site_id, "unbounded", 1))
                    .ok()?,
            };
            permit.settle(Some(Outcome::Validated)).now_or_never()
        });
    });
    std::fs::remove_dir_all(folder)?;
    Ok(())
}

fn requests(criterion: &mut Criterion) -> Result<(), Box<dyn Error>> {
    let folder = std::env::temp_dir().join(format!("mirrory-hot-{}", std::process::id()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let url = format!("sqlite://{}/mirrory.db", folder.display());
    let service = runtime.block_on(service(url))?;
    criterion.bench_function("request: livez", |bencher| {
        bencher.iter(|| ask(&runtime, &service, Request::get("/livez"), Body::empty()));
    });
    let body = format!(
        r#"{{"token": "{}", "machine_id": "{MACHINE_ID}"}}"#,
        "a".repeat(320)
    );
    criterion.bench_function("request: validate what is no token", |bencher| {
        bencher.iter(|| {
            let request = Request::post("/mirrory/validate-token")
                .header(header::CONTENT_TYPE, "application/json");
            ask(&runtime, &service, request, Body::from(body.clone()))
        });
    });
    drop(service);
    std::fs::remove_dir_all(folder)?;
    Ok(())
}

/// The service on an empty embedded store, with no limit that a bench would meet.
async fn service(database_url: String) -> Result<Router, Box<dyn Error>> {
    let settings = [
        ("MIRRORY__DATABASE__URL", database_url.as_str()),
        ("MIRRORY__LIMITS__FAILURES_PER_MINUTE", "0"),
    ];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let config = Config::load(None, settings)?;
    let clock = Clock::system();
    let freshness = Freshness::new(clock.clone());
    let database = open_store(&config.database, SERVING_DEADLINE).await?;
    let state = open_state(config, database, clock, Randomness::system(), freshness).await?;
    Ok(router(&state))
}

fn ask(
    runtime: &Runtime,
    service: &Router,
    request: axum::http::request::Builder,
    body: Body,
) -> Option<axum::http::StatusCode> {
    let request = request.extension(ConnectInfo(PEER)).body(body).ok()?;
    let answered = runtime.block_on(service.clone().oneshot(request));
    answered.ok().map(|response| response.status())
}
