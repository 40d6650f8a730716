//! The algorithms that a key may have.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A JWS algorithm (RFC 7518, section 3; RFC 8037), under its registered name everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Deserialize, Serialize)]
pub enum Algorithm {
    /// HMAC with SHA-256: fastest; only this service can check a token.
    #[value(name = "HS256")]
    HS256,
    /// RSASSA-PKCS1-v1_5 with SHA-256 and 2048 bits: anyone can check a token, the oldest
    /// libraries too; slow to sign.
    #[value(name = "RS256")]
    RS256,
    /// ECDSA on P-256 with SHA-256: anyone can check a token.
    #[value(name = "ES256")]
    ES256,
    /// Ed25519: anyone can check a token.
    #[value(name = "EdDSA")]
    EdDSA,
}

/// The text names no algorithm of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be HS256, RS256, ES256 or EdDSA")]
pub struct InvalidAlgorithm;

impl Algorithm {
    /// All of them, in the order of their documentation.
    pub const ALL: [Self; 4] = [Self::HS256, Self::RS256, Self::ES256, Self::EdDSA];

    /// The registered name, as in `alg`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::HS256 => "HS256",
            Self::RS256 => "RS256",
            Self::ES256 => "ES256",
            Self::EdDSA => "EdDSA",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

impl FromStr for Algorithm {
    type Err = InvalidAlgorithm;

    fn from_str(text: &str) -> Result<Self, InvalidAlgorithm> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.name() == text)
            .ok_or(InvalidAlgorithm)
    }
}
