//! ROOM sessions: sign-ins that go on, and the tokens that prove them.
//!
//! A session is a row; it ends by the row's going, so that its tokens are refused at once wherever
//! they are shown. Refresh tokens are judged by the store alone, in one statement each, so that any
//! number of clients and instances may race.

pub(crate) mod endpoints;
mod refresh_token;
mod registry;
mod session;
mod store;

use axum::{
    Router,
    routing::{delete, get, post},
};

pub use registry::{
    ACCESS_LIFETIME, LONGEST, ONE_HOUR, Opened, Pair, Proven, REFRESH_LIFETIME, REPLACED_GRACE,
    RefreshError, Sessions,
};
pub use session::{Session, SessionKind, UnknownKind};
pub use store::{end_all, end_others};

use crate::{
    callers::{CallerLayer, Door},
    state::AppState,
};

/// The endpoints of this room.
pub fn router(state: &AppState) -> Router<AppState> {
    let own = || CallerLayer::new(state, Door::OwnAccount);
    let signed_in = CallerLayer::new(state, Door::SignedIn).urgent();
    let revoke = post(endpoints::revoke_jwt).route_layer(signed_in);
    let list = get(endpoints::list_sessions).route_layer(own());
    let end = delete(endpoints::end_session).route_layer(own().urgent());
    Router::new()
        .route("/api/v1/jwt/refresh", post(endpoints::refresh_jwt))
        .route("/api/v1/jwt/revoke", revoke)
        .route("/api/v1/account/sessions", list)
        .route("/api/v1/account/sessions/{id}", end)
}
