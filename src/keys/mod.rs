//! ROOM keys: the signing keys. Made, kept encrypted, rotated, revoked, published as a JWK set.
//!
//! All instances share the keys of the store. Each holds them unsealed in memory, and trusts that
//! only while it follows the change log.

mod account_tokens;
pub(crate) mod endpoint;
mod keyring;
mod management;
mod record;
mod rewrap;
pub mod signer;
mod store;
pub mod vault;

pub use endpoint::router;
pub use keyring::{KeySettings, Keys, KeysError, Rejected};
pub use management::{
    NewKey, SIGNS_AFTER, VERIFIES_AFTER_LAST_TOKEN, has_keys, has_vault, open_vault,
};
pub use record::{KeyInfo, KeyRecord, KeyState};
pub use rewrap::{Rewrapped, opens, rewrap};
pub use signer::{AccountClaims, AccountTokenKind, Algorithm, Kid, TokenClaims};
