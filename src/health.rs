//! `GET /mirrory/health`, `/livez` and `/readyz`: whether the service is well, lives, and can take
//! requests.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Extension, Router,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Serialize;
use tokio::sync::Mutex;
use utoipa::ToSchema;

use crate::{
    config::DatabaseKind,
    error::{ApiError, Chain, Verbatim},
    extract::Json,
    middleware::{cors::CrossOriginLayer, edge::EdgeLayer},
    state::AppState,
    store::{Database, Share, StoreError},
    types::clock::{Clock, Monotonic},
};

/// How long what the store last said is repeated: however many probes come, it is asked once.
const REPEATED_FOR: Duration = Duration::from_secs(1);

/// How long a write proves that the store can be written. After that a small one is tried.
const WRITE_PROVES: Duration = Duration::from_secs(5);

/// The endpoints of this module.
pub fn router(state: &AppState) -> Router<AppState> {
    let health = get(get_health).layer(CrossOriginLayer::new(&state.config.server.cors_origins));
    Router::new()
        .route("/mirrory/health", health)
        .route("/livez", get(get_liveness))
        .route("/readyz", get(get_readiness))
}

/// How the service is. Clones share it.
#[derive(Clone, Debug)]
pub struct Health {
    database: Database,
    clock: Clock,
    is_draining: Arc<AtomicBool>,
    last: Arc<Mutex<Last>>,
}

#[derive(Debug, Default)]
struct Last {
    probe: Option<(Monotonic, Probe)>,
    write: Option<Written>,
}

/// How many writes there were when it was last known that the store takes them.
#[derive(Clone, Copy, Debug)]
struct Written {
    done: u64,
    known_at: Monotonic,
}

/// What asking the store came to.
#[derive(Clone, Copy, Debug)]
struct Probe {
    latency_ms: Option<f64>,
}

impl Health {
    /// The health of a service over this store.
    #[must_use]
    pub fn new(database: Database, clock: Clock) -> Self {
        Self {
            database,
            clock,
            is_draining: Arc::default(),
            last: Arc::default(),
        }
    }

    /// Notes that the process is to end: what comes yet is answered, but had better go elsewhere.
    pub fn drain(&self) {
        self.is_draining.store(true, Ordering::Release);
    }

    /// Whether requests can be taken, or what is in the way.
    pub(crate) async fn readiness(&self) -> Result<(), &'static str> {
        if self.is_draining.load(Ordering::Acquire) {
            return Err("draining");
        }
        match self.probe().await.latency_ms {
            None => Err("store is down"),
            Some(_) => self.database.time().readiness(self.clock.monotonic()),
        }
    }

    /// What the store says, or said within the last second. Who asks meanwhile waits for the one
    /// answer: the store is given a second for it.
    async fn probe(&self) -> Probe {
        // A task of its own: who hangs up while the store is silent must not make the next one ask
        // it again.
        let this = self.clone();
        let probing = tokio::spawn(async move { this.ask().await });
        probing.await.unwrap_or(Probe::DOWN)
    }

    async fn ask(&self) -> Probe {
        let mut last = self.last.lock().await;
        let began = self.clock.monotonic();
        if let Some((at, probe)) = last.probe
            && began.since(at) < REPEATED_FOR
        {
            return probe;
        }
        let probe = match Share::Upkeep
            .around(self.try_store(&mut last.write, began))
            .await
        {
            Ok(latency) => Probe {
                latency_ms: Some((latency.as_secs_f64() * 1e6).round() / 1e3),
            },
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "the store failed a health check");
                Probe::DOWN
            }
        };
        last.probe = Some((self.clock.monotonic(), probe));
        probe
    }

    /// Reads the store and the clock, which is timed; and writes, if no write has shown lately that it
    /// can be written, or the last one was refused.
    async fn try_store(
        &self,
        write: &mut Option<Written>,
        began: Monotonic,
    ) -> Result<Duration, StoreError> {
        self.database.check_clock(&self.clock).await?;
        let latency = self.clock.monotonic().since(began);
        let is_proven = |done| {
            write.is_some_and(|last| last.done != done || began.since(last.known_at) < WRITE_PROVES)
        };
        let done = self.database.writes_done();
        if !done.is_some_and(is_proven) {
            self.database.beat(&self.clock).await?;
        } else if write.map(|last| last.done) == done {
            return Ok(latency);
        }
        *write = self.database.writes_done().map(|done| Written {
            done,
            known_at: began,
        });
        Ok(latency)
    }
}

impl Probe {
    const DOWN: Self = Self { latency_ms: None };
}

/// How the service and its store are.
#[derive(Debug, Serialize, ToSchema)]
pub struct HealthResponse {
    /// `healthy` when the store answers and takes writes: with 200, else `unhealthy` with 503.
    status: HealthStatus,
    /// The version of the service.
    #[schema(examples("0.1.0"))]
    version: &'static str,
    /// Seconds since this instance started.
    #[schema(examples(12))]
    uptime_seconds: u64,
    /// The store, as it answered within the last second.
    store: StoreHealth,
}

/// `healthy` or `unhealthy`.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(examples("healthy"))]
enum HealthStatus {
    Healthy,
    Unhealthy,
}

/// How the store is.
#[derive(Debug, Serialize, ToSchema)]
struct StoreHealth {
    /// `up` when it answered within a second and takes writes.
    status: StoreStatus,
    /// Which database it is.
    #[schema(value_type = String, examples("postgres", "sqlite"))]
    kind: DatabaseKind,
    /// How long it took to answer, in milliseconds; absent when it did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(examples(0.4), minimum = 0, nullable = false)]
    latency_ms: Option<f64>,
}

/// `up` or `down`.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(examples("up"))]
enum StoreStatus {
    Up,
    Down,
}

/// Whether the process lives, or can take requests.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProbeResponse {
    /// `ok`, or what is in the way: `starting`, `draining`, `store is down`, `clock is off the
    /// store's`, `clock is far ahead of the store's`.
    #[schema(examples("ok", "draining"))]
    status: &'static str,
}

/// Report health
///
/// For operators and monitors: 200 when the store answers within a second and takes writes, else 503.
/// Asks the store at most once a second, however often it is asked itself; where nothing else was
/// written for 5 seconds it tries a small write.
#[utoipa::path(
    get,
    path = "/mirrory/health",
    tag = "operation",
    responses(
        (
            status = 200,
            description = "The store answers and takes writes.",
            body = HealthResponse,
            headers(("Cache-Control", description = "no-store")),
            example = json!({
                "status": "healthy",
                "version": "0.1.0",
                "uptime_seconds": 12,
                "store": {"status": "up", "kind": "postgres", "latency_ms": 0.4}
            })
        ),
        (
            status = 503,
            description = "The store does not answer or takes no writes; or, as a problem, the service itself cannot answer.",
            body = HealthResponse,
            headers(("Cache-Control", description = "no-store-of-probe")),
            example = json!({
                "status": "unhealthy",
                "version": "0.1.0",
                "uptime_seconds": 12,
                "store": {"status": "down", "kind": "postgres"}
            })
        )
    )
)]
pub(crate) async fn get_health(State(health): State<Health>) -> Response {
    let probe = health.probe().await;
    let is_up = probe.latency_ms.is_some();
    let body = HealthResponse {
        status: if is_up {
            HealthStatus::Healthy
        } else {
            HealthStatus::Unhealthy
        },
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: health.clock.monotonic().as_micros() / 1_000_000,
        store: StoreHealth {
            status: if is_up {
                StoreStatus::Up
            } else {
                StoreStatus::Down
            },
            kind: health.database.kind(),
            latency_ms: probe.latency_ms,
        },
    };
    respond(is_up, body)
}

/// Report liveness
///
/// For a supervisor that restarts what does not answer: 200 while the process runs.
#[utoipa::path(
    get,
    path = "/livez",
    tag = "operation",
    responses((
        status = 200,
        description = "The process runs.",
        body = ProbeResponse,
        headers(("Cache-Control", description = "no-store")),
        example = json!({"status": "ok"})
    ))
)]
pub(crate) async fn get_liveness() -> Response {
    respond(true, ProbeResponse { status: "ok" })
}

/// Report readiness
///
/// For a load balancer: 503 while the service starts, drains, has no store that takes writes, or has a
/// clock that is more than 5 seconds off the store's. The embedded store has no clock, and remembers
/// the greatest time that it has seen: with a clock more than 5 minutes before that this is 503, and for
/// an hour with one that is more than 30 days after it.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "operation",
    responses(
        (
            status = 200,
            description = "The service takes requests.",
            body = ProbeResponse,
            headers(("Cache-Control", description = "no-store")),
            example = json!({"status": "ok"})
        ),
        (
            status = 503,
            description = "It does not, and why; or, as a problem, it cannot say.",
            body = ProbeResponse,
            headers(("Cache-Control", description = "no-store-of-probe")),
            example = json!({"status": "draining"})
        )
    )
)]
pub(crate) async fn get_readiness(State(health): State<Health>) -> Response {
    match health.readiness().await {
        Ok(()) => respond(true, ProbeResponse { status: "ok" }),
        Err(status) => respond(false, ProbeResponse { status }),
    }
}

/// What a process answers that waits for the right time before it makes what is missing in the store:
/// how it is, and that all else is to come back.
pub fn waiting_router(edge: EdgeLayer, health: Health) -> Router {
    Router::new()
        .route("/mirrory/health", get(get_health))
        .route("/livez", get(get_liveness))
        .route("/readyz", get(get_readiness))
        .fallback(async || ApiError::WrongClock)
        .layer(edge)
        .with_state(health)
}

/// What a process answers that cannot do more yet: it lives, and all else is to come back.
pub fn starting_router(edge: EdgeLayer) -> Router {
    Router::new()
        .route("/livez", get(get_liveness))
        .route("/readyz", get(get_readiness_at_start))
        .fallback(async || ApiError::Overloaded)
        .layer(edge)
}

async fn get_readiness_at_start() -> Response {
    respond(false, ProbeResponse { status: "starting" })
}

/// Who is told no may ask again when the store is asked again.
fn respond<T: Serialize>(is_well: bool, body: T) -> Response {
    let no_store = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    let response = (Extension(Verbatim), no_store, Json(body));
    if is_well {
        response.into_response()
    } else {
        let retry_after = HeaderValue::from(REPEATED_FOR.as_secs());
        let retry_after = [(header::RETRY_AFTER, retry_after)];
        (StatusCode::SERVICE_UNAVAILABLE, retry_after, response).into_response()
    }
}
