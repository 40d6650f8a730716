//! ROOM two-factor: codes from an authenticator app (TOTP, RFC 6238), and recovery codes.
//!
//! A secret is sealed by the vault; a recovery code is kept as a digest. What makes a code good
//! once is one statement each, in the transaction of what it is presented for.

mod code;
pub(crate) mod endpoints;
mod registry;
mod store;

use axum::{Router, routing::post};

pub use code::{AppCode, Code, InvalidCode, RecoveryCode};
pub use registry::{Enrolment, FirstCode, Presented, TwoFactor, TwoFactorError, disable};

use crate::{
    callers::{CallerLayer, Door},
    state::AppState,
};

/// The endpoints of this room.
pub fn router(state: &AppState) -> Router<AppState> {
    let own = || CallerLayer::new(state, Door::OwnAccount);
    let turn = post(endpoints::begin_two_factor).delete(endpoints::disable_two_factor);
    let confirm = post(endpoints::confirm_two_factor);
    let replace = post(endpoints::replace_recovery_codes);
    Router::new()
        .route("/api/v1/account/two-factor", turn.route_layer(own()))
        .route(
            "/api/v1/account/two-factor/confirm",
            confirm.route_layer(own()),
        )
        .route(
            "/api/v1/account/two-factor/recovery-codes",
            replace.route_layer(own()),
        )
}
