//! ROOM tokens: the data plane. Issues tokens, validates them and binds them to machines, revokes
//! and releases them.
//!
//! Behind the layers that every request passes, and that for web pages of other origins, a request
//! passes two before its endpoint: `identify` reads it once, proves its caller and says what it
//! costs; the quota's layer charges that. The endpoint then does the one thing that it is for.

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
    extract::Request,
    http::HeaderValue,
    response::IntoResponse,
    routing::{MethodRouter, post_service},
};
use tower::{Layer, service_fn};

pub(crate) use of_site::router as of_site_router;

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
    middleware::{Outermost, cors::CrossOriginLayer},
    quota::{Answer, QuotaLayer},
    state::AppState,
};

/// The four endpoints of the data plane, with every layer before them.
pub(crate) fn router(state: &AppState, outermost: &Outermost) -> Router<AppState> {
    let layers = Layers {
        state,
        outermost,
        quota: QuotaLayer::new(
            state.ledger.clone(),
            state.clock.clone(),
            state.tally.clone(),
            state.metrics.clone(),
        ),
    };
    let generate = layers.around(generate_token, &[]);
    let validate = layers.around(validate_token, &state.config.server.cors_origins);
    let revoke = layers.around(revoke_token, &[]);
    let release = layers.around(release_machine, &[]);
    Router::new()
        .route("/mirrory/generate-token", generate)
        .route("/mirrory/validate-token", validate)
        .route("/mirrory/revoke-token", revoke)
        .route("/mirrory/release-machine", release)
}

/// What stands before an endpoint.
struct Layers<'a> {
    state: &'a AppState,
    outermost: &'a Outermost,
    quota: QuotaLayer,
}

impl Layers<'_> {
    /// A route of an endpoint with its layers before it, which web pages of these origins may call:
    /// nothing can be charged before its caller is known. A request with another method is met by the
    /// outer layers alone. As one service it costs each request less than layers that axum puts around
    /// a route one by one.
    fn around<C: Call, F>(
        &self,
        endpoint: fn(Box<Known<C>>) -> F,
        origins: &[HeaderValue],
    ) -> MethodRouter<AppState>
    where
        F: Future<Output = Result<Answer, ApiError>> + Send + 'static,
    {
        let outer = (self.outermost.clone(), CrossOriginLayer::new(origins));
        let inner = (
            IdentifyLayer::<C>::new(self.state, &self.quota),
            self.quota.clone(),
        );
        let endpoint = service_fn(move |known| async move {
            let answer = endpoint(known).await;
            Ok::<_, Infallible>(answer.unwrap_or_else(Answer::free))
        });
        let other_method = service_fn(async |_: Request| {
            Ok::<_, Infallible>(ApiError::MethodNotAllowed.into_response())
        });
        post_service((outer.clone(), inner).layer(endpoint))
            .fallback_service(outer.layer(other_method))
    }
}
