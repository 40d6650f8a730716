//! How long after one instance has acknowledged a revocation another one still says `valid: true`.

use std::time::Duration;

use mirrory::types::clock::Clock;
use tokio::sync::watch;

use crate::{
    Outcome,
    bench::Bench,
    connection::Connection,
    generator::{Load, Tally},
    measure::median,
    report::Goal,
    requests::{self, Endpoint},
    server::Server,
    service::Service,
    tokens::{self, Birth},
};

/// Fewer than a site may ask for in a minute.
const REVOCATIONS: u32 = 50;

/// Pauses of many lengths come between them, so that they do not keep step with what an instance
/// does every so often.
const PAUSES: [u64; 7] = [0, 37, 74, 111, 148, 185, 222];

/// Far beyond the second after which an instance must be sure.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long the load goes on after it is told to end, at most.
const SLICE: Duration = Duration::from_millis(500);

pub async fn measure(bench: &mut Bench) -> Outcome<()> {
    let service = bench.on_postgres().await;
    let acting = bench.start(&service).await?;
    let obeying = service.start(&bench.cores).await?;

    let delays = revoke_all(&service, &acting.server, &obeying).await?;
    report(bench, "idle", &delays);

    let requests = requests::validate(&acting.tokens);
    let load = bench.load(&obeying, Endpoint::Validate, requests);
    let (busy, over) = watch::channel(());
    let loading = tokio::spawn(keep_busy(load, over));
    let delays = revoke_all(&service, &acting.server, &obeying).await?;
    drop(busy);
    let Tally { sent, right, .. } = loading.await??;
    if sent != right {
        let fault = format!("under the revocations only {right} of {sent} answers were right");
        bench.report.fault(fault);
    }
    report(bench, "at full load", &delays);
    Ok(())
}

fn report(bench: &mut Bench, state: &str, delays: &[f64]) {
    let worst = delays.iter().copied().fold(0.0, f64::max);
    let name = format!("a revocation reaches another instance, {state}");
    let middle = median(delays.iter().copied());
    bench
        .report
        .add(format!("{name}, median"), middle, Goal::Millis(100.0));
    bench
        .report
        .add(format!("{name}, worst"), worst, Goal::Millis(1000.0));
}

/// Revokes tokens of a new site at one instance; how many milliseconds after each acknowledgement
/// the other one first refused the token, which it knew.
async fn revoke_all(service: &Service, acting: &Server, obeying: &Server) -> Outcome<Vec<f64>> {
    let sites = service.make_sites(1)?;
    let tokens = tokens::issue(acting.address, &sites, REVOCATIONS, Birth::Bound).await?;
    let mut to_acting = Connection::open(acting.address).await?;
    let mut to_obeying = Connection::open(obeying.address).await?;
    let clock = Clock::system();
    let mut delays = Vec::new();
    for (token, pause) in tokens.iter().zip(PAUSES.iter().cycle()) {
        let validate = requests::validate_one(token);
        if !is_valid(&mut to_obeying, &validate).await? {
            return Err("a token was not valid before it was revoked".into());
        }
        tokio::time::sleep(Duration::from_millis(*pause)).await;
        let revoke = requests::revoke(&token.id, &sites[0]);
        let answer = to_acting.exchange(&revoke).await?;
        if answer.status != 200 {
            return Err(format!("a revocation was answered {}", answer.status).into());
        }
        let acknowledged = clock.monotonic();
        while is_valid(&mut to_obeying, &validate).await? {
            if clock.monotonic().since(acknowledged) > PATIENCE {
                return Err("a revoked token stays valid".into());
            }
        }
        let delay = clock.monotonic().since(acknowledged);
        delays.push(delay.as_secs_f64() * 1000.0);
    }
    Ok(delays)
}

async fn is_valid(connection: &mut Connection, request: &[u8]) -> Outcome<bool> {
    let answer = connection.exchange(request).await?;
    Ok(answer.contains(Endpoint::Validate.expects()))
}

/// Keeps up a load until the other end of the channel is gone.
async fn keep_busy(load: Load, over: watch::Receiver<()>) -> Outcome<Tally> {
    let mut tally = Tally::default();
    while over.has_changed().is_ok() {
        tally = tally.with(load.run_for(SLICE).await?);
    }
    Ok(tally)
}
