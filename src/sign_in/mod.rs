//! ROOM sign-in: from an e-mail address or a username, a password and a code to a session.
//!
//! Whoever asks must learn nothing of whether there is such an account: the work and the answer are
//! the same for an unknown name, a wrong password and a disabled account. Both limits and the
//! hashing queue come before anything is looked up.

mod beginning;
pub(crate) mod fields;
pub(crate) mod jwt;
pub(crate) mod login;
mod proof;

use axum::{Router, routing::post};

pub use proof::{Credentials, SignIn, SignInError};

use crate::state::AppState;

/// Where a token of an hour is given. Its errors have a shape of their own, whoever answers.
pub(crate) const LOGIN: &str = "/api/v1/login";

/// The endpoints of this room.
pub fn router() -> Router<AppState> {
    Router::new()
        .route("/api/v1/jwt", post(jwt::create_jwt))
        .route(LOGIN, post(login::login))
}
