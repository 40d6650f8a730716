//! Every mount and every layer, on one screen.

use std::time::Duration;

use axum::{Router, middleware::from_fn_with_state};

use crate::{
    accounts, api_tokens, audit,
    error::ApiError,
    health, keys,
    middleware::{
        Outermost, client_address::ClientAddressLayer, edge::EdgeLayer,
        right_clock::require_right_clock,
    },
    openapi, quota, sessions, sign_in, sites,
    state::AppState,
    tokens, two_factor,
};

/// The whole service over its state.
///
/// A request passes the outermost layers and then those of its room. The data plane puts them all
/// around its endpoints by itself, as one service: what axum puts around a route is boxed and cloned
/// once more for each request.
///
/// A method that a route does not have is left to the route: a fallback set here would take the
/// place of one that has layers around it, and with it preflight requests. The edge writes the
/// problem, where the route has not.
pub fn router(state: &AppState) -> Router {
    let edge = EdgeLayer::new(
        state.clock.clone(),
        state.randomness.clone(),
        Duration::from_secs(state.config.server.request_timeout_seconds.into()),
    )
    .with_plain_problems_at(sign_in::LOGIN)
    .observed_by(state.metrics.clone(), state.traces.clone());
    let client_address = ClientAddressLayer::new(state.config.server.trusted_proxies.clone());
    let outermost: Outermost = (client_address, edge);
    let management = Router::new()
        .merge(tokens::of_site_router(state))
        .merge(sign_in::router())
        .merge(sessions::router(state))
        .merge(accounts::router(state))
        .merge(two_factor::router(state))
        .merge(api_tokens::router(state))
        .merge(sites::router(state))
        .merge(quota::router(state))
        .merge(audit::router(state))
        .route_layer(from_fn_with_state(state.clone(), require_right_clock));
    Router::new()
        .merge(management)
        .merge(keys::router())
        .merge(health::router(state))
        .merge(openapi::router())
        .fallback(async || ApiError::NotFound)
        .layer(outermost.clone())
        // Below the layers, for it brings them itself.
        .merge(tokens::router(state, &outermost))
        .with_state(state.clone())
}
