//! `mirrory serve`

use std::{net::SocketAddr, num::NonZeroUsize, sync::Arc, time::Duration};

use tokio::{
    net::TcpListener,
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    Context, introduction,
    output::{Answer, Failure, Format},
    signals::Signals,
};
use crate::{
    app::{
        Background, Gate, Limits, METRICS_CONNECTIONS, Room, Running, StartError, claim_store,
        is_set_up, make_room, make_store, open_state, require_master_key, serve_until,
        warn_of_unknown_plans,
    },
    config::Config,
    error::Chain,
    health::{self, Health},
    middleware::edge::EdgeLayer,
    router,
    state::AppState,
    store::{Database, database::SERVING_DEADLINE, follower::POLL_INTERVAL, freshness::Freshness},
    telemetry::metrics::exposition,
    types::clock::Clock,
};

const LISTEN: &str = "server.listen (MIRRORY__SERVER__LISTEN)";
const METRICS_LISTEN: &str = "telemetry.metrics_listen (MIRRORY__TELEMETRY__METRICS_LISTEN)";

/// How long the last writes may take when the requests have ended.
const WRAP_UP: Duration = Duration::from_secs(7);

/// How much of that the calls have whose callers hung up, and the work in the background to finish
/// its round.
const LAST_ROUND: Duration = Duration::from_secs(2);

pub(super) async fn run(context: Context, format: Format) -> Result<Answer, Failure> {
    let Context {
        config,
        clock,
        randomness,
        ..
    } = context;
    let mut signals = Signals::new()?;
    // Also while the store is down: it is what the operator can mend first.
    require_master_key(&config)?;
    // Until the last write.
    let _claim = claim_store(&config.database)?;
    let (listener, address) = listen(config.server.listen, LISTEN).await?;
    let metrics_listener = match config.telemetry.metrics_listen {
        Some(address) => Some(listen(address, METRICS_LISTEN).await?.0),
        None => None,
    };
    let request_timeout = Duration::from_secs(config.server.request_timeout_seconds.into());
    let edge = EdgeLayer::new(clock.clone(), randomness.clone(), request_timeout);
    let mut servers = Servers::new(Duration::from_secs(config.server.drain_seconds.into()));
    let gate = Gate::new(health::starting_router(edge.clone()), request_timeout);
    servers.start(listener, &gate, limits(&config));
    let metrics_gate = metrics_listener.map(|listener| {
        let gate = Gate::new(exposition::starting_router(), request_timeout);
        servers.start(listener, &gate, Limits::of(METRICS_CONNECTIONS));
        gate
    });

    let starting = async {
        let database = make_store(&config.database, SERVING_DEADLINE).await?;
        wait_for_right_clock(&config, &database, &clock, |health| {
            gate.hold(health::waiting_router(edge, health));
        })
        .await?;
        warn_of_unknown_plans(&config, &database).await;
        let freshness = Freshness::new(clock.clone());
        let state = open_state(config, database, clock, randomness, freshness.clone()).await?;
        let background = Background::new(&state, freshness);
        background.follower.tick().await?;
        Ok::<_, Failure>((state, background))
    };
    // Another process may hold the store's lock for long, as for a migration.
    let (state, background) = tokio::select! {
        started = starting => started?,
        () = signals.told_to_end() => return Ok(Answer::Nothing),
    };
    let introduction = introduction::prepare(&state, address).await?;
    gate.open(router::router(&state));
    if let Some(gate) = metrics_gate {
        gate.open(exposition::router(&state));
    }
    let work = background.spawn();
    tracing::info!(%address, store = state.config.database.redacted(), "serving");
    if introduction.print(format).is_err() {
        tracing::warn!(
            "nobody reads the standard output: a first site's secret is lost, rotate it"
        );
    }

    signals.told_to_end().await;
    tracing::info!("draining; a second signal ends it at once");
    state.health.drain();
    tokio::select! {
        outcome = servers.drain() => outcome?,
        () = signals.told_again() => tracing::warn!("told a second time: not waiting for requests"),
    }
    let wrapping_up = timeout(WRAP_UP, wrap_up(&state, work));
    let (wrapped_up, ()) = tokio::join!(wrapping_up, state.traces.close());
    if wrapped_up.is_err() {
        tracing::warn!("stopped without waiting longer for the store");
    }
    tracing::info!("stopped");
    Ok(Answer::Nothing)
}

/// How many connections are kept, as far as there are files for them.
fn limits(config: &Config) -> Limits {
    let Room {
        limit,
        connections,
        needed,
    } = make_room(config);
    if let Some(needed) = needed {
        tracing::warn!(
            limit,
            needed,
            connections,
            "the limit of open files is too low for what is configured, fewer connections are kept: \
             raise it (`ulimit -n`, or LimitNOFILE= in systemd)"
        );
    }
    Limits {
        per_address: NonZeroUsize::new(config.limits.connections_per_address as usize),
        trusted_proxies: Arc::from(config.server.trusted_proxies.as_slice()),
        ..Limits::of(connections)
    }
}

/// Where a start is to make something, as the first keys, waits until the clock is right; `hold` is
/// called if that is not at once. What is there already is served from the start, as far as it can be.
async fn wait_for_right_clock(
    config: &Config,
    database: &Database,
    clock: &Clock,
    hold: impl FnOnce(Health),
) -> Result<(), StartError> {
    database.check_clock(clock).await?;
    if !database.time().is_wrong() || is_set_up(config, database).await? {
        return Ok(());
    }
    hold(Health::new(database.clone(), clock.clone()));
    while database.time().is_wrong() {
        sleep(POLL_INTERVAL).await;
        let look = async {
            database.choose_server().await?;
            database.check_clock(clock).await
        };
        if let Err(error) = look.await {
            tracing::warn!(error = %Chain(&error), "the store did not tell its time");
        }
    }
    Ok(())
}

/// What listens: for requests, and for those who look at the metrics.
struct Servers {
    running: JoinSet<()>,
    stop: watch::Sender<()>,
    patience: Duration,
}

impl Servers {
    fn new(patience: Duration) -> Self {
        Self {
            running: JoinSet::new(),
            stop: watch::Sender::default(),
            patience,
        }
    }

    /// Serves what is behind the gate.
    fn start(&mut self, listener: TcpListener, gate: &Gate, limits: Limits) {
        let mut stopped = self.stop.subscribe();
        let shutdown = async move {
            let _sender_is_gone = stopped.changed().await;
        };
        let serving = serve_until(listener, gate.clone(), limits, shutdown, self.patience);
        self.running.spawn(serving);
    }

    /// Lets each of them finish what it has.
    async fn drain(mut self) -> Result<(), Failure> {
        drop(self.stop);
        while let Some(ended) = self.running.join_next().await {
            ended.map_err(|error| Failure::new(error.to_string()))?;
        }
        Ok(())
    }
}

/// Writes what is still in memory, also when a long clean-up must be cut off for it. Calls go on whose
/// callers have hung up: they come first.
async fn wrap_up(state: &AppState, work: Running) {
    if timeout(LAST_ROUND, state.admission.close()).await.is_err() {
        tracing::warn!("some calls were cut off: the store did not answer them in time");
    }
    if timeout(LAST_ROUND, work.stop()).await.is_err() {
        tracing::info!("a clean-up was cut off; another one will go on with it");
    }
    if let Err(error) = state.ledger.close().await {
        tracing::warn!(error = %Chain(&error), "the last usage counts could not be written");
    }
    if let Err(error) = state.tokens.flush_uses().await {
        tracing::warn!(error = %Chain(&error), "the last uses of tokens could not be written");
    }
    if let Err(error) = state.tally.flush().await {
        tracing::warn!(error = %Chain(&error), "the last refusals are not in the audit log");
    }
    state.database.close().await;
}

async fn listen(
    address: SocketAddr,
    setting: &'static str,
) -> Result<(TcpListener, SocketAddr), StartError> {
    let refused = |source| StartError::Listen {
        setting,
        address,
        source,
    };
    let listener = TcpListener::bind(address).await.map_err(refused)?;
    let bound = listener.local_addr().map_err(refused)?;
    Ok((listener, bound))
}
