//! The id of a key.

use std::{borrow::Borrow, fmt, str::FromStr};

use serde::Serialize;

use crate::types::{randomness::Randomness, secret::CROCKFORD};

const RANDOM_BYTES: usize = 16;

/// A key's id (`kid`): 16 random bytes in 26 characters of lower-case Crockford base32.
///
/// Random, because a thumbprint of an HMAC key would be a hash of the secret; and not base64url,
/// because one in 64 of those would begin with `-` and be an option on a command line.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, sqlx::Type)]
#[sqlx(transparent)]
pub struct Kid(String);

/// The text is no key id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key id is 26 characters of lower-case Crockford base32")]
pub struct InvalidKid;

impl Kid {
    /// A new id.
    #[must_use]
    pub fn generate(randomness: &Randomness) -> Self {
        Self(CROCKFORD.encode(&randomness.bytes::<RANDOM_BYTES>()))
    }

    /// The id's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Lets a map of keys be asked for the `kid` of a token as it stands there.
impl Borrow<str> for Kid {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Kid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.0)
    }
}

impl FromStr for Kid {
    type Err = InvalidKid;

    fn from_str(text: &str) -> Result<Self, InvalidKid> {
        match CROCKFORD.decode(text.as_bytes()) {
            Ok(bytes) if bytes.len() == RANDOM_BYTES => Ok(Self(text.to_owned())),
            _ => Err(InvalidKid),
        }
    }
}
