//! `GET /metrics`, on a listener of its own.

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus::{IntGaugeVec, TextEncoder};

use super::instruments::Instruments;
use crate::{state::AppState, store::database::PoolUse, types::clock::Monotonic};

/// What the listener for metrics serves.
pub fn router(state: &AppState) -> Router {
    Router::new()
        .route("/metrics", get(get_metrics))
        .with_state(state.clone())
}

/// What it serves until there is something to tell.
pub fn starting_router() -> Router {
    Router::new().fallback(async || StatusCode::SERVICE_UNAVAILABLE)
}

async fn get_metrics(State(state): State<AppState>) -> Response {
    let Some(instruments) = &state.metrics.0 else {
        return StatusCode::NOT_FOUND.into_response();
    };
    look(instruments, &state).await;
    match TextEncoder::new().encode_to_string(&instruments.registry.gather()) {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            tracing::error!(error = %error, "the metrics cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Takes in what is known elsewhere.
async fn look(instruments: &Instruments, state: &AppState) {
    for pool in state.database.pool_use() {
        show_pool(instruments, &pool);
    }
    let hashing = state.passwords.queue();
    set(&instruments.hashing, &["running"], hashing.running);
    set(&instruments.hashing, &["waiting"], hashing.waiting);
    let (admitted, most) = state.admission.places();
    instruments.admitted.set(whole(admitted));
    instruments.admitted_most.set(whole(most));
    let age = state.freshness.age();
    instruments.change_log_age.set(age.as_secs_f64());
    let is_ready = state.health.readiness().await.is_ok();
    instruments.ready.set(is_ready.into());
    let uptime = state.clock.monotonic().since(Monotonic::default());
    instruments.uptime.set(uptime.as_secs_f64());
}

fn show_pool(instruments: &Instruments, pool: &PoolUse) {
    let PoolUse {
        name,
        busy,
        idle,
        most,
    } = *pool;
    set(&instruments.connections, &[name, "busy"], busy);
    set(&instruments.connections, &[name, "idle"], idle);
    set(&instruments.connections_most, &[name], most);
}

fn set(gauges: &IntGaugeVec, labels: &[&str], value: usize) {
    gauges.with_label_values(labels).set(whole(value));
}

fn whole(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
