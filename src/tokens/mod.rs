//! ROOM tokens: the data plane. Issues tokens, validates them and binds them to machines, revokes
//! and releases them.
//!
//! A request passes two layers before its endpoint: `identify` reads it once, proves its caller
//! and says what it costs; the quota's layer charges that. The endpoint then does the one thing
//! that it is for.

mod fields;
pub(crate) mod generate;
mod identify;
mod last_use;
pub(crate) mod manage;
mod memory;
pub(crate) mod of_site;
mod partitions;
mod record;
mod refused_machine;
mod registry;
mod revoking;
mod store;
mod summary;
mod sweeping;
mod turns;
pub(crate) mod validate;
mod verdict;

use std::convert::Infallible;

use axum::{
    Router,
    routing::{MethodRouter, post_service},
};
use tower::{Layer, service_fn};

pub use last_use::LastNoted;
pub use record::{Binding, HeldToken, NotedRecord, Reason, TokenRecord, TokenState, judge};
pub use registry::{KEPT_AFTER_END, KEY_LIFETIME, TokenSettings, Tokens};
pub use store::{Idempotency, Inserted, KeyUse, TokenFilter};
pub use summary::{TokenStatus, TokenSummary};

use self::{
    generate::generate_token,
    identify::{Call, IdentifyLayer, Known},
    manage::{release_machine, revoke_token},
    validate::validate_token,
};
use crate::{
    error::ApiError,
    middleware::cors,
    quota::{Answer, QuotaLayer},
    state::AppState,
};

/// The four endpoints of the data plane, each behind its two layers, and those of who runs a site.
pub fn router(state: &AppState) -> Router<AppState> {
    let layers = Layers {
        state,
        quota: QuotaLayer::new(
            state.ledger.clone(),
            state.clock.clone(),
            state.tally.clone(),
            state.metrics.clone(),
        ),
    };
    let generate = layers.around(generate_token);
    let validate = layers.around(validate_token);
    let revoke = layers.around(revoke_token);
    let release = layers.around(release_machine);
    let origins = &state.config.server.cors_origins;
    Router::new()
        .route("/mirrory/generate-token", generate)
        .route("/mirrory/validate-token", cors::layered(validate, origins))
        .route("/mirrory/revoke-token", revoke)
        .route("/mirrory/release-machine", release)
        .merge(of_site::router(state))
}

/// What stands before an endpoint.
struct Layers<'a> {
    state: &'a AppState,
    quota: QuotaLayer,
}

impl Layers<'_> {
    /// A route of an endpoint with its two layers before it: nothing can be charged before its caller
    /// is known. A request with another method passes neither. As one service it costs each request
    /// less than layers that axum puts around a route one by one.
    fn around<C: Call, F>(&self, endpoint: fn(Known<C>) -> F) -> MethodRouter<AppState>
    where
        F: Future<Output = Result<Answer, ApiError>> + Send + 'static,
    {
        let identify = IdentifyLayer::<C>::new(self.state, &self.quota);
        let endpoint = service_fn(move |known| async move {
            let answer = endpoint(known).await;
            Ok::<_, Infallible>(answer.unwrap_or_else(Answer::free))
        });
        post_service((identify, self.quota.clone()).layer(endpoint))
    }
}
