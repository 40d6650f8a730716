//! Refresh tokens: the session's id, the generation, and an HMAC over both.
//!
//! So a token that was replaced is known for ours, and told apart from a guess, though only the
//! number of the current generation is stored; and who reads the store can make none.

use aws_lc_rs::hmac;
use secrecy::{ExposeSecret, SecretString};

use crate::{
    keys::vault::Vault,
    types::{ids::SessionId, secret::CROCKFORD},
};

const PREFIX: &str = "mrt_";
const LABEL: &str = "refresh tokens";
const ID_BYTES: usize = 16;
const GENERATION_BYTES: usize = 8;
const PAYLOAD_BYTES: usize = ID_BYTES + GENERATION_BYTES;

/// Makes refresh tokens and knows its own.
#[derive(Debug)]
pub(super) struct RefreshTokens {
    key: hmac::Key,
}

/// What a refresh token of ours says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    pub(super) session_id: SessionId,
    pub(super) generation: i64,
}

impl RefreshTokens {
    /// Those of the store that has this vault.
    pub(super) fn new(vault: &Vault) -> Self {
        let key = vault.derive(LABEL);
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, key.expose_secret()),
        }
    }

    pub(super) fn issue(&self, ticket: Ticket) -> SecretString {
        let payload = ticket.payload();
        let tag = hmac::sign(&self.key, &payload);
        let bytes = [payload.as_slice(), tag.as_ref()].concat();
        format!("{PREFIX}{}", CROCKFORD.encode(&bytes)).into()
    }

    /// What a token says, if it is one of ours, current or not.
    pub(super) fn read(&self, token: &str) -> Option<Ticket> {
        let encoded = token.strip_prefix(PREFIX)?;
        let bytes = CROCKFORD.decode(encoded.as_bytes()).ok()?;
        let (payload, tag) = bytes.split_first_chunk::<PAYLOAD_BYTES>()?;
        // In constant time.
        hmac::verify(&self.key, payload, tag).ok()?;
        Ticket::from_payload(payload)
    }
}

impl Ticket {
    fn payload(self) -> [u8; PAYLOAD_BYTES] {
        let mut payload = [0; PAYLOAD_BYTES];
        payload[..ID_BYTES].copy_from_slice(self.session_id.as_uuid().as_bytes());
        payload[ID_BYTES..].copy_from_slice(&self.generation.to_be_bytes());
        payload
    }

    fn from_payload(payload: &[u8; PAYLOAD_BYTES]) -> Option<Self> {
        let (id, generation) = payload.split_first_chunk::<ID_BYTES>()?;
        Some(Self {
            session_id: SessionId::from_uuid(uuid::Uuid::from_bytes(*id)),
            generation: i64::from_be_bytes(generation.try_into().ok()?),
        })
    }
}
