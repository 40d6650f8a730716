//! Sealing: the master key wraps one random data key, and all other keys derive from that one.
//!
//! The master key encrypts nothing else, so that changing it means to wrap one value anew.
//! What is sealed is AES-256-GCM: a random nonce of 12 bytes, the ciphertext, a tag of 16 bytes.

use std::fmt;

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, Salt},
};
use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose},
};
use secrecy::{ExposeSecret, SecretBox, zeroize::Zeroizing};

use crate::types::randomness::Randomness;

const KEY_BYTES: usize = 32;

/// What keeps a wrapped data key from being taken for anything else sealed under the same key;
/// stored values depend on it.
const WRAP_CONTEXT: &[u8] = b"mirrory data key v1";
/// Sets these keys apart from others that a data key might ever be used for.
const DERIVE_SALT: &[u8] = b"mirrory derived keys v1";
const SEAL_LABEL: &str = "seal";

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The operator's key, outside the store; all it does is to wrap the [`DataKey`].
pub struct MasterKey(SecretBox<[u8; KEY_BYTES]>);

/// Why a text is no master key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 32 bytes in base64; `openssl rand -base64 32` makes such a key")]
pub struct InvalidMasterKey;

/// Why something sealed does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    /// The data key was wrapped by another master key, or was changed since.
    #[error(
        "the master key does not open this store: it is not the one that the store was made with, \
         or was given last by `mirrory key rotate-master`"
    )]
    WrongMasterKey,
    /// The value was sealed for another purpose, in another store, or was changed since.
    #[error("a sealed value does not open: it was changed, or belongs to another store or purpose")]
    NotSealedHere,
}

impl MasterKey {
    /// Reads 32 bytes in standard base64, with or without padding; white space around them is
    /// ignored.
    ///
    /// # Errors
    /// When the text is not base64 or holds another number of bytes.
    pub fn parse(base64: &str) -> Result<Self, InvalidMasterKey> {
        let bytes = BASE64.decode(base64.trim()).map_err(|_| InvalidMasterKey)?;
        secret_from(&Zeroizing::new(bytes))
            .map(Self)
            .ok_or(InvalidMasterKey)
    }

    /// Makes a new key.
    #[must_use]
    pub fn generate(randomness: &Randomness) -> Self {
        Self(random_secret(randomness))
    }

    /// The key itself, as [`Self::parse`] reads it; for the file that keeps it.
    #[must_use]
    pub fn to_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(general_purpose::STANDARD.encode(self.0.expose_secret()))
    }

    /// Encrypts the data key, to be stored.
    #[must_use]
    pub fn wrap(&self, data_key: &DataKey, randomness: &Randomness) -> Vec<u8> {
        let plaintext = data_key.0.expose_secret();
        seal(&aead_key(&self.0), WRAP_CONTEXT, plaintext, randomness)
    }

    /// Decrypts what [`Self::wrap`] made.
    ///
    /// # Errors
    /// When another key wrapped it, or a bit of it was changed.
    pub fn unwrap(&self, wrapped: &[u8]) -> Result<DataKey, VaultError> {
        open(&aead_key(&self.0), WRAP_CONTEXT, wrapped)
            .and_then(|bytes| secret_from(&bytes))
            .map(DataKey)
            .ok_or(VaultError::WrongMasterKey)
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[master key]")
    }
}

/// The one random key of a store, from which all others derive; stored only wrapped.
pub struct DataKey(SecretBox<[u8; KEY_BYTES]>);

impl DataKey {
    /// Makes a new key, for a new store.
    #[must_use]
    pub fn generate(randomness: &Randomness) -> Self {
        Self(random_secret(randomness))
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[data key]")
    }
}

/// Seals and opens what the store must not hold in the clear.
pub struct Vault {
    data_key: DataKey,
    sealing_key: LessSafeKey,
}

impl Vault {
    /// The vault of the store that has this data key.
    #[must_use]
    pub fn new(data_key: DataKey) -> Self {
        let sealing_key = aead_key(&derive(&data_key, SEAL_LABEL));
        Self {
            data_key,
            sealing_key,
        }
    }

    /// Encrypts `plaintext` so that it opens only for the same `purpose`, which says what the
    /// value is and whose (`signing-key:<kid>:<alg>`): a value moved to another row stays shut.
    #[must_use]
    pub fn seal(&self, purpose: &str, plaintext: &[u8], randomness: &Randomness) -> Vec<u8> {
        seal(&self.sealing_key, purpose.as_bytes(), plaintext, randomness)
    }

    /// Decrypts what [`Self::seal`] made for the same `purpose`.
    ///
    /// # Errors
    /// When it was sealed for another purpose or by another vault, or a bit of it was changed.
    pub fn open(&self, purpose: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        open(&self.sealing_key, purpose.as_bytes(), sealed).ok_or(VaultError::NotSealedHere)
    }

    /// A key for one more use, by HKDF-SHA-256 (RFC 5869): the same for the same `label`,
    /// unrelated to those of other labels.
    #[must_use]
    pub fn derive(&self, label: &str) -> SecretBox<[u8; KEY_BYTES]> {
        derive(&self.data_key, label)
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[vault]")
    }
}

fn random_secret(randomness: &Randomness) -> SecretBox<[u8; KEY_BYTES]> {
    SecretBox::init_with_mut(|bytes| *bytes = randomness.bytes())
}

fn secret_from(bytes: &[u8]) -> Option<SecretBox<[u8; KEY_BYTES]>> {
    let bytes = <&[u8; KEY_BYTES]>::try_from(bytes).ok()?;
    Some(SecretBox::init_with_mut(|secret| *secret = *bytes))
}

#[expect(clippy::expect_used, reason = "32 bytes can always be derived")]
fn derive(data_key: &DataKey, label: &str) -> SecretBox<[u8; KEY_BYTES]> {
    let root = Salt::new(HKDF_SHA256, DERIVE_SALT).extract(data_key.0.expose_secret());
    SecretBox::init_with_mut(|bytes: &mut [u8; KEY_BYTES]| {
        root.expand(&[label.as_bytes()], HKDF_SHA256)
            .and_then(|output| output.fill(bytes))
            .expect("HKDF gives up to 8160 bytes");
    })
}

#[expect(
    clippy::expect_used,
    reason = "the type holds the length that the cipher wants"
)]
fn aead_key(key: &SecretBox<[u8; KEY_BYTES]>) -> LessSafeKey {
    let key = UnboundKey::new(&AES_256_GCM, key.expose_secret());
    LessSafeKey::new(key.expect("AES-256 takes 32 bytes"))
}

/// Random nonces are safe for 2^32 values under one key, far more than a store seals.
#[expect(
    clippy::expect_used,
    reason = "the cipher refuses only what is above 64 GiB"
)]
fn seal(key: &LessSafeKey, context: &[u8], plaintext: &[u8], randomness: &Randomness) -> Vec<u8> {
    let nonce = randomness.bytes::<NONCE_LEN>();
    let mut sealed = Vec::with_capacity(NONCE_LEN + plaintext.len() + AES_256_GCM.tag_len());
    sealed.extend_from_slice(&nonce);
    sealed.extend_from_slice(plaintext);
    let tag = key
        .seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(context),
            &mut sealed[NONCE_LEN..],
        )
        .expect("a message below 64 GiB");
    sealed.extend_from_slice(tag.as_ref());
    sealed
}

fn open(key: &LessSafeKey, context: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, ciphertext) = sealed.split_first_chunk::<NONCE_LEN>()?;
    let mut bytes = Zeroizing::new(ciphertext.to_vec());
    let nonce = Nonce::assume_unique_for_key(*nonce);
    let length = key
        .open_in_place(nonce, Aad::from(context), &mut bytes)
        .ok()?
        .len();
    bytes.truncate(length);
    Some(bytes)
}

#[cfg(test)]
mod tests;
