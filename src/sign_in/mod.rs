//! ROOM sign-in: from an e-mail address or a username, a password and a code to a session.
//!
//! Whoever asks must learn nothing of whether there is such an account: the work and the answer are
//! the same for an unknown name, a wrong password and a disabled account. Both limits and the
//! hashing queue come before anything is looked up.

pub(crate) mod fields;
pub(crate) mod jwt;
pub(crate) mod login;
mod proof;

use axum::{Router, middleware::map_response, routing::post};

pub use proof::{Credentials, SignIn, SignInError};

use crate::{error::in_plain_words, state::AppState};

/// The endpoints of this room.
pub fn router() -> Router<AppState> {
    let login = post(login::login).layer(map_response(in_plain_words));
    Router::new()
        .route("/api/v1/jwt", post(jwt::create_jwt))
        .route("/api/v1/login", login)
}
