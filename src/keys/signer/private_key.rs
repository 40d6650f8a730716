//! The private material of one signing key.

use std::fmt;

use aws_lc_rs::{
    encoding::AsDer,
    error::Unspecified,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RsaKeyPair},
};
use secrecy::{ExposeSecret, SecretSlice};

use super::Algorithm;
use crate::types::randomness::Randomness;

/// RFC 7518, section 3.2: an HMAC key is at least as long as the hash.
pub(super) const HMAC_KEY_BYTES: usize = 32;

/// Why a key cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The cryptographic library made no key.
    #[error("a signing key could not be made")]
    Generate,
    /// An HMAC key has another length than those that we make.
    #[error("the stored signing key does not have the {HMAC_KEY_BYTES} bytes of an HS256 key")]
    Length,
    /// The bytes are no private key of the algorithm.
    #[error("the stored signing key is no key of its algorithm")]
    Unusable(#[source] jsonwebtoken::errors::Error),
    /// The cryptographic library did not sign.
    #[error("a token could not be signed")]
    Sign(#[source] jsonwebtoken::errors::Error),
}

/// A private key in the form in which it is sealed: 32 bytes for HS256, PKCS#1 (RFC 8017) for
/// RS256, PKCS#8 (RFC 5208) for ES256 and `EdDSA`. Shows as `[private key]`.
pub struct PrivateKey {
    algorithm: Algorithm,
    bytes: SecretSlice<u8>,
}

impl PrivateKey {
    /// Makes a new key. Those with a public half take their randomness from the cryptographic
    /// library, not from `randomness`.
    ///
    /// RS256 takes from a tenth of a second to a second: call it in `spawn_blocking`.
    ///
    /// # Errors
    /// When the cryptographic library fails.
    pub fn generate(algorithm: Algorithm, randomness: &Randomness) -> Result<Self, KeyError> {
        let bytes = match algorithm {
            Algorithm::HS256 => Ok(randomness.bytes::<HMAC_KEY_BYTES>().to_vec()),
            Algorithm::RS256 => generate_rsa(),
            Algorithm::ES256 => generate_p256(),
            Algorithm::EdDSA => generate_ed25519(),
        };
        let bytes = bytes.map_err(|Unspecified| KeyError::Generate)?.into();
        Ok(Self { algorithm, bytes })
    }

    /// Takes back what [`Self::reveal`] gave; [`SigningKey::new`](super::SigningKey::new) finds
    /// out whether it is a key.
    #[must_use]
    pub fn from_bytes(algorithm: Algorithm, bytes: &[u8]) -> Self {
        let bytes = bytes.to_vec().into();
        Self { algorithm, bytes }
    }

    /// The algorithm that the key was made for.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The key itself, for sealing.
    #[must_use]
    pub fn reveal(&self) -> &[u8] {
        self.bytes.expose_secret()
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[private key]")
    }
}

fn generate_rsa() -> Result<Vec<u8>, Unspecified> {
    let pkcs8 = RsaKeyPair::generate(KeySize::Rsa2048)?.as_der()?;
    pkcs1(pkcs8.as_ref()).map(<[u8]>::to_vec).ok_or(Unspecified)
}

fn generate_p256() -> Result<Vec<u8>, Unspecified> {
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)?;
    Ok(pkcs8.as_ref().to_vec())
}

/// Version 1 of PKCS#8: version 2 has the public key in it too, and no JWK can be made of it.
fn generate_ed25519() -> Result<Vec<u8>, Unspecified> {
    let pkcs8 = Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new())?;
    Ok(pkcs8.as_ref().to_vec())
}

/// The PKCS#1 key inside a PKCS#8 one, which is all that the library gives out: after
/// `SEQUENCE {INTEGER 0, SEQUENCE {OID rsaEncryption, NULL}` stands an `OCTET STRING` with the
/// key. All lengths of a 2048-bit key take two bytes, so every part has its fixed place.
fn pkcs1(pkcs8: &[u8]) -> Option<&[u8]> {
    const VERSION_AND_ALGORITHM: [u8; 18] = [
        0x02, 0x01, 0x00, 0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01,
        0x01, 0x05, 0x00,
    ];
    let (outer, rest) = pkcs8.split_first_chunk::<4>()?;
    let [0x30, 0x82, ..] = outer else { return None };
    let rest = rest.strip_prefix(&VERSION_AND_ALGORITHM)?;
    let ([0x04, 0x82, high, low], key) = rest.split_first_chunk::<4>()? else {
        return None;
    };
    (key.len() == usize::from(u16::from_be_bytes([*high, *low]))).then_some(key)
}
