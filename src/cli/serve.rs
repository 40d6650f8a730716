//! `mirrory serve`

use std::{net::SocketAddr, time::Duration};

use serde_json::json;
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    time::timeout,
};

use super::{
    Context,
    output::{Answer, Failure, Format},
    site::with_secret,
};
use crate::{
    app::{
        Background, Gate, Running, StartError, open_state, open_store, require_master_key,
        serve_until,
    },
    config::DatabaseKind,
    error::Chain,
    health,
    middleware::edge::EdgeLayer,
    router,
    sites::{NewSite, Site},
    state::AppState,
    store::{database::SERVING_DEADLINE, freshness::Freshness},
    types::secret::ProxySecret,
};

/// The plan of the site that is made on the first start of an embedded store.
const FIRST_PLAN: &str = "enterprise";

/// How long the last writes may take when the requests have ended.
const WRAP_UP: Duration = Duration::from_secs(5);

/// How much of that the work in the background has to finish its round.
const LAST_ROUND: Duration = Duration::from_secs(2);

pub(super) async fn run(context: Context, format: Format) -> Result<Answer, Failure> {
    let Context {
        config,
        clock,
        randomness,
    } = context;
    // Also while the store is down: it is what the operator can mend first.
    require_master_key(&config)?;
    let patience = Duration::from_secs(config.server.drain_seconds.into());
    let (listener, address) = listen(config.server.listen).await?;
    let request_timeout = Duration::from_secs(config.server.request_timeout_seconds.into());
    let edge = EdgeLayer::new(clock.clone(), randomness.clone(), request_timeout);
    let gate = Gate::new(health::starting_router(edge));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let shutdown = async {
        let _sender_is_gone = stopped.await;
    };
    let mut signals = Signals::new()?;
    let server = tokio::spawn(serve_until(listener, gate.clone(), shutdown, patience));

    let starting = async {
        let database = open_store(&config.database, SERVING_DEADLINE).await?;
        let freshness = Freshness::new(clock.clone());
        let state = open_state(config, database, clock, randomness, freshness.clone()).await?;
        let background = Background::new(&state, freshness);
        background.follower.tick().await?;
        Ok::<_, Failure>((state, background))
    };
    // Another process may hold the store's lock for long, as for a migration.
    let (state, background) = tokio::select! {
        started = starting => started?,
        () = signals.received() => return Ok(Answer::Nothing),
    };
    let first_site = make_first_site(&state).await?;
    gate.open(router::router(&state));
    let work = background.spawn();
    tracing::info!(%address, store = state.config.database.url.redacted(), "serving");
    introduce(address, first_site, format)?;

    signals.received().await;
    state.health.drain();
    drop(stop);
    server
        .await
        .map_err(|error| Failure::new(error.to_string()))?;
    if timeout(WRAP_UP, wrap_up(&state, work)).await.is_err() {
        tracing::warn!("stopped without waiting longer for the store");
    }
    tracing::info!("stopped");
    Ok(Answer::Nothing)
}

/// What tells the service to end.
struct Signals {
    terminated: Signal,
    interrupted: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminated: signal(SignalKind::terminate())?,
            interrupted: signal(SignalKind::interrupt())?,
        })
    }

    async fn received(&mut self) {
        tokio::select! {
            _ = self.terminated.recv() => tracing::info!("SIGTERM: draining"),
            _ = self.interrupted.recv() => tracing::info!("SIGINT: draining"),
        }
    }
}

/// Writes what is still in memory, also when a long clean-up must be cut off for it.
async fn wrap_up(state: &AppState, work: Running) {
    if timeout(LAST_ROUND, work.stop()).await.is_err() {
        tracing::info!("a clean-up was cut off; another one will go on with it");
    }
    if let Err(error) = state.ledger.flush().await {
        tracing::warn!(error = %Chain(&error), "the last usage counts could not be written");
    }
    state.database.close().await;
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let refused = |source| StartError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(refused)?;
    let bound = listener.local_addr().map_err(refused)?;
    Ok((listener, bound))
}

/// An embedded store that is empty gets a site, so that its service can be tried at once; but not
/// one that has a secret of its own in the configuration.
async fn make_first_site(state: &AppState) -> Result<Option<(Site, ProxySecret)>, Failure> {
    let config = &state.config;
    let is_wanted = config.database.url.kind() == DatabaseKind::Sqlite
        && config.bootstrap.proxy_secret.is_none()
        && config.plans.contains_key(FIRST_PLAN);
    if !is_wanted {
        return Ok(None);
    }
    let site = NewSite::parse("First site", None, FIRST_PLAN)
        .map_err(|invalid| Failure::new(invalid.to_string()))?;
    let mut tx = state.database.begin().await?;
    let created = state.sites.create_first(&mut tx, &site).await?;
    tx.commit().await?;
    Ok(created)
}

/// Says on stdout where the service is, and how to try it when there is a first site.
fn introduce(
    address: SocketAddr,
    first_site: Option<(Site, ProxySecret)>,
    format: Format,
) -> Result<(), Failure> {
    let mut local = address;
    if address.ip().is_unspecified() {
        local.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    let url = format!("http://{local}");
    let Some((site, secret)) = first_site else {
        let text = format!("Mirrory is at {url}, its documentation at {url}/docs.");
        return Answer::Text(text, json!({ "url": url })).print(format);
    };
    let commands = [generate_command(&url, &secret), validate_command(&url)];
    let text = format!(
        "Mirrory is at {url}, its documentation at {url}/docs.\n\n\
         This store was empty, so there is a first site now, on the plan {plan}: {id}\n\
         Its proxy secret, which is shown this once:\n\n  {secret}\n\n\
         Issue a token, as the site's proxy would, and validate it, as the app would:\n\n\
         {generate}\n\n{validate}\n",
        plan = site.plan,
        id = site.id,
        secret = secret.reveal(),
        generate = commands[0],
        validate = commands[1],
    );
    let shown = with_secret(&site, &secret)?;
    let document = json!({ "url": url, "site": shown, "commands": commands });
    Answer::Text(text, document).print(format)
}

/// The answer is shown and kept, for the second command to take the token from.
fn generate_command(url: &str, secret: &ProxySecret) -> String {
    format!(
        "curl -sS {url}/mirrory/generate-token -H 'Content-Type: application/json' \
         -d '{{\"wp_user_id\": 12345, \"proxy_secret\": \"{}\"}}' | tee token.json",
        secret.reveal()
    )
}

fn validate_command(url: &str) -> String {
    format!(
        "curl -sS {url}/mirrory/validate-token -H 'Content-Type: application/json' \
         -d \"{{\\\"token\\\": \\\"$(sed 's/.*\"token\":\"\\([^\"]*\\)\".*/\\1/' token.json)\\\", \
         \\\"machine_id\\\": \\\"desktop-machine-uuid-1234567890\\\"}}\""
    )
}
