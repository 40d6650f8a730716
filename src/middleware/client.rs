//! The client as far as it can be known: its address, and what it calls itself.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, header, request::Parts},
};

use super::client_address::ClientAddress;
use crate::{
    error::ApiError,
    store::changes::{Actor, Context},
};

/// Longer ones are cut: they are kept with sessions and in the audit log.
const MAX_USER_AGENT_BYTES: usize = 256;

/// Who calls, before anything is proven.
#[derive(Clone, Debug)]
pub struct Client {
    /// Its address.
    pub address: IpAddr,
    /// What it calls itself; visible ASCII and spaces alone.
    pub user_agent: Option<Arc<str>>,
}

impl Client {
    /// The client of a request whose address is known.
    pub(crate) fn of(parts: &Parts) -> Result<Self, ApiError> {
        let ClientAddress(address) = ClientAddress::of(parts)?;
        Ok(Self {
            address,
            user_agent: user_agent(&parts.headers),
        })
    }

    /// What a change is recorded with that the client asks for as `actor`.
    #[must_use]
    pub fn acting_as(&self, actor: Actor) -> Context {
        Context {
            actor,
            address: Some(self.address),
            user_agent: self.user_agent.clone(),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Client {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Self::of(parts)
    }
}

fn user_agent(headers: &HeaderMap) -> Option<Arc<str>> {
    let text = headers.get(header::USER_AGENT)?.to_str().ok()?;
    let cut = text.get(..MAX_USER_AGENT_BYTES).unwrap_or(text).trim();
    (!cut.is_empty()).then(|| cut.into())
}
