//! ROOM sites: the WordPress installations that issue tokens, their plans, and their proxy secrets.
//!
//! A change takes a transaction and who acts, and writes itself into the change log. It takes the
//! log's lock first, so that two changes of one site follow each other.

pub(crate) mod endpoints;
mod fields;
mod managing;
mod memory;
mod registry;
mod rotating;
mod site;
mod store;
mod updating;

use axum::{
    Router,
    routing::{get, patch, post},
};

pub use managing::{has_default, may_own_another, on_unknown_plans, owns_any};
pub use memory::SiteReading;
pub(crate) use registry::Recalled;
pub use registry::{Caller, Sites};
pub use rotating::{MAX_GRACE, Rotated};
pub use site::{
    InvalidSite, InvalidUrl, NewSite, Site, SiteState, SiteStatus, SiteUpdate, SiteUrl,
    UnknownStatus,
};

use crate::{
    callers::{CallerLayer, Door, Scope},
    state::AppState,
};

/// The endpoints of this room.
pub fn router(state: &AppState) -> Router<AppState> {
    let reading = || CallerLayer::new(state, Door::Scoped(Scope::SitesRead));
    let writing = || CallerLayer::new(state, Door::Scoped(Scope::SitesWrite));
    let all = get(endpoints::list_sites).route_layer(reading());
    let all = all.merge(post(endpoints::create_site).route_layer(writing()));
    let change = patch(endpoints::update_site).delete(endpoints::delete_site);
    let one = get(endpoints::get_site).route_layer(reading());
    let one = one.merge(change.route_layer(writing()));
    let rotate = post(endpoints::rotate_secret).route_layer(writing());
    Router::new()
        .route("/api/v1/sites", all)
        .route("/api/v1/sites/{id}", one)
        .route("/api/v1/sites/{id}/rotate-secret", rotate)
}
