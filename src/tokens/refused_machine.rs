//! A machine that a token is not bound to: for the audit log, counted by the token and hour.

use axum::http::request::Parts;

use super::record::TokenRecord;
use crate::{
    audit::{Incident, Tally},
    middleware::client::Client,
};

/// Notes that a machine was refused for this token.
pub(super) fn note(record: &TokenRecord, parts: &Parts, tally: &Tally) {
    let client = Client::of(parts).ok();
    tally.count(Incident {
        event: "machine.refused",
        counted_by: record.token_id.to_string(),
        subject: Some(record.token_id.to_string()),
        account_id: None,
        site_id: Some(record.site_id),
        address: client.as_ref().map(|client| client.address),
        user_agent: client.and_then(|client| client.user_agent),
    });
}
