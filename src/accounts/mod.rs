//! ROOM accounts: the people who run sites, their roles, and what proves them.
//!
//! Nothing of an account is kept in memory: each request of the management API reads it from the
//! store, so that what was disabled or deleted is refused at once.

mod account;
pub(crate) mod create;
pub(crate) mod own;
mod registry;
mod store;

use axum::{
    Router,
    routing::{get, post},
};

pub use account::{
    Account, AccountStatus, AccountUpdate, EmailAddress, InvalidAccount, LoginName, NewAccount,
    Role, UnknownWord, Username,
};
pub use registry::{AccountError, Accounts};
pub use store::Proof;

use crate::{
    callers::{CallerLayer, Door},
    state::AppState,
};

/// The endpoints of this room.
pub fn router(state: &AppState) -> Router<AppState> {
    let layer = || CallerLayer::new(state, Door::OwnAccount);
    let own = get(own::get_account)
        .patch(own::update_account)
        .delete(own::delete_account);
    Router::new()
        .route("/api/v1/account", own.route_layer(layer()))
        .route(
            "/api/v1/account/password",
            post(own::change_password).route_layer(layer()),
        )
        .route(
            "/api/v1/accounts",
            post(create::create_account).route_layer(layer()),
        )
}
