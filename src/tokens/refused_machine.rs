//! A machine that a token is not bound to: for the audit log, counted by the token and hour.

use super::record::TokenRecord;
use crate::{
    audit::{Incident, Tally},
    middleware::client::Client,
};

/// Notes that a client's machine was refused for this token.
pub(super) fn note(record: &TokenRecord, client: Client, tally: &Tally) {
    tally.count(Incident {
        event: "machine.refused",
        counted_by: record.token_id.to_string(),
        subject: Some(record.token_id.to_string()),
        account_id: None,
        site_id: Some(record.site_id),
        address: Some(client.address),
        user_agent: client.user_agent,
    });
}
