//! The functions that every call runs, one by one: `cargo bench --bench hot`.

use std::{error::Error, hint::black_box, net::SocketAddr};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{ConnectInfo, Request},
    http::{StatusCode, header, request},
};
use criterion::Criterion;
use http_body_util::BodyExt;
use mirrory::{
    app::{open_state, open_store},
    attempts::Attempts,
    config::Config,
    keys::{
        Algorithm, Kid, TokenClaims,
        signer::{PrivateKey, SigningKey, UnverifiedToken},
    },
    quota::{Outcome, QuotaError},
    router::router,
    state::AppState,
    store::{database::SERVING_DEADLINE, freshness::Freshness},
    tokens::{Binding, judge},
    types::{
        clock::{Clock, Monotonic, Timestamp},
        ids::{MachineId, SecretId, SiteId, TokenId, WpUserId},
        randomness::Randomness,
        secret::ProxySecret,
    },
};
use tokio::runtime::Runtime;
use tower::ServiceExt;

const MACHINE_ID: &str = "desktop-machine-uuid-1234567890";
const SECRET: &str = "a secret of one's own choosing";
const PLAN: &str = "enterprise";
const VALIDATE: &str = "/mirrory/validate-token";
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
    service(&mut criterion)?;
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

/// What the rooms do for a token that they know, with the embedded store behind them, and whole
/// requests through the router. The log is off: `load` measures it.
fn service(criterion: &mut Criterion) -> Result<(), Box<dyn Error>> {
    let folder = std::env::temp_dir().join(format!("mirrory-hot-{}", std::process::id()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let url = format!("sqlite://{}/mirrory.db", folder.display());
    let state = runtime.block_on(open(&url))?;
    let asking = Asking {
        router: router(&state),
        runtime,
    };
    let body = format!(r#"{{"wp_user_id": 12345, "proxy_secret": "{SECRET}"}}"#);
    let (_, answer) = asking
        .post("/mirrory/generate-token", body.into())
        .ok_or("no answer")?;
    let answer: serde_json::Value = serde_json::from_slice(&answer)?;
    let token = answer["token"].as_str().ok_or("no token")?;
    requests(criterion, &asking, token)?;
    rooms(criterion, &state, &asking.runtime, token)?;
    drop((asking, state));
    std::fs::remove_dir_all(folder)?;
    Ok(())
}

fn rooms(
    criterion: &mut Criterion,
    state: &AppState,
    runtime: &Runtime,
    token: &str,
) -> Result<(), Box<dyn Error>> {
    criterion.bench_function("keys: verify a token of ours", |bencher| {
        bencher.iter(|| runtime.block_on(state.keys.verify(black_box(token))));
    });
    let Ok(claims) = runtime.block_on(state.keys.verify(token))? else {
        return Err("the token is not ours".into());
    };
    criterion.bench_function("tokens: find a record", |bencher| {
        bencher.iter(|| runtime.block_on(state.tokens.find(black_box(claims.token_id))));
    });
    let held = runtime.block_on(state.tokens.find(claims.token_id))?;
    let machine_id = MachineId::parse(MACHINE_ID)?;
    let now = state.clock.now();
    if judge(&claims, held.as_ref(), &machine_id, now) != Ok(Binding::Bound) {
        return Err("the token is not bound".into());
    }
    criterion.bench_function("tokens: judge", |bencher| {
        bencher.iter(|| {
            let held = black_box(held.as_ref());
            judge(black_box(&claims), held, black_box(&machine_id), now)
        });
    });
    criterion.bench_function("quota: take a call and settle it", |bencher| {
        bencher.iter(|| {
            runtime.block_on(async {
                let permit = state.ledger.reserve(claims.site_id, PLAN, 1).await?;
                Ok::<_, QuotaError>(permit.settle(Some(Outcome::Validated)).await)
            })
        });
    });
    Ok(())
}

fn requests(criterion: &mut Criterion, asking: &Asking, token: &str) -> Result<(), Box<dyn Error>> {
    criterion.bench_function("request: livez", |bencher| {
        bencher.iter(|| asking.get("/livez"));
    });
    let known = validation_of(token);
    let answer = asking.post(VALIDATE, known.clone());
    if !answer.is_some_and(|(_, body)| body.starts_with(br#"{"valid":true"#)) {
        return Err("the token is not valid".into());
    }
    for (name, body) in [
        ("a known token", known),
        ("what is no token", validation_of(&"a".repeat(token.len()))),
        ("without its fields", Bytes::from_static(b"{}")),
    ] {
        criterion.bench_function(&format!("request: validate {name}"), |bencher| {
            bencher.iter(|| asking.post(VALIDATE, body.clone()));
        });
    }
    Ok(())
}

fn validation_of(token: &str) -> Bytes {
    format!(r#"{{"token": "{token}", "machine_id": "{MACHINE_ID}"}}"#).into()
}

/// The service on an empty embedded store, with no limit that a bench would meet.
async fn open(database_url: &str) -> Result<AppState, Box<dyn Error>> {
    let settings = [
        ("MIRRORY__DATABASE__URL", database_url),
        ("MIRRORY__BOOTSTRAP__PROXY_SECRET", SECRET),
        ("MIRRORY__BOOTSTRAP__PLAN", PLAN),
        ("MIRRORY__PLANS__ENTERPRISE__CALLS_PER_DAY", "1000000000000"),
        (
            "MIRRORY__PLANS__ENTERPRISE__CALLS_PER_MONTH",
            "1000000000000",
        ),
        ("MIRRORY__LIMITS__FAILURES_PER_MINUTE", "0"),
        (
            "MIRRORY__LIMITS__VALIDATIONS_PER_TOKEN_PER_HOUR",
            "1000000000",
        ),
    ];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let config = Config::load(None, settings)?;
    let clock = Clock::system();
    let freshness = Freshness::new(clock.clone());
    // Nobody else changes this store, so what is in memory stays good.
    freshness.extend_from(Monotonic::from_micros(u64::MAX / 2));
    let database = open_store(&config.database, SERVING_DEADLINE).await?;
    Ok(open_state(config, database, clock, Randomness::system(), freshness).await?)
}

/// Asks the service, without a socket.
struct Asking {
    router: Router,
    runtime: Runtime,
}

impl Asking {
    fn get(&self, path: &str) -> Option<(StatusCode, Bytes)> {
        self.send(Request::get(path), Body::empty())
    }

    fn post(&self, path: &str, body: Bytes) -> Option<(StatusCode, Bytes)> {
        let request = Request::post(path).header(header::CONTENT_TYPE, "application/json");
        self.send(request, Body::from(body))
    }

    /// None when what was asked or answered is no HTTP.
    fn send(&self, request: request::Builder, body: Body) -> Option<(StatusCode, Bytes)> {
        let request = request
            .header(header::HOST, "here")
            .extension(ConnectInfo(PEER))
            .body(body)
            .ok()?;
        self.runtime.block_on(async {
            let Ok(response) = self.router.clone().oneshot(request).await;
            let status = response.status();
            let body = response.into_body().collect().await.ok()?;
            Some((status, body.to_bytes()))
        })
    }
}
