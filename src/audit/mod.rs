//! ROOM audit: who did what, when and from where.
//!
//! A change and its row are one transaction: the row is written by
//! [`changes::record`](crate::store::changes::record) and by nobody else. What strangers can cause
//! is counted in memory by [`Tally`] and written later, one row an address or token and hour, or a
//! window of a plan, so that they can neither fill the log nor slow an answer.

mod entry;
pub(crate) mod listing;
mod log;
mod store;
mod tally;

use axum::{Router, routing::get};

pub use entry::{Entry, Outcome, UnknownOutcome};
pub use listing::{AuditActor, AuditFilter, AuditRow};
pub use log::AuditLog;
pub(crate) use store::record;
pub use store::sweep;
pub use tally::{Incident, Tally};

use crate::{
    callers::{CallerLayer, Door, Scope},
    state::AppState,
};

/// The endpoint of this room.
pub fn router(state: &AppState) -> Router<AppState> {
    let layer = CallerLayer::new(state, Door::Scoped(Scope::AuditRead));
    let list = get(listing::list_audit_log).route_layer(layer);
    Router::new().route("/api/v1/audit-log", list)
}
