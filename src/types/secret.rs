//! Secrets that the service makes: shown once, kept as a digest. Proxy secrets and API tokens have
//! one form and a prefix each.

use std::{fmt, sync::LazyLock};

use data_encoding::{Encoding, Specification};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use uuid::Uuid;

use super::{
    ids::{ApiTokenId, SecretId},
    randomness::Randomness,
    text::plain,
};

/// Lower-case Crockford base32, most significant bit first, zero bits at the end, no padding.
pub(crate) static CROCKFORD: LazyLock<Encoding> = LazyLock::new(|| {
    let mut specification = Specification::new();
    specification.symbols.push_str(SYMBOLS);
    #[expect(
        clippy::expect_used,
        reason = "32 distinct symbols are a valid alphabet"
    )]
    specification.encoding().expect("a base32 alphabet")
});

const SYMBOLS: &str = "0123456789abcdefghjkmnpqrstvwxyz";
const PREFIX: &str = "mps_";
const API_TOKEN_PREFIX: &str = "mat_";
const ID_BYTES: usize = 16;
const RANDOM_BYTES: usize = 32;
const CHECKSUM_BYTES: usize = 4;

/// The longest secret that a request may carry, in bytes.
pub const MAX_SECRET_BYTES: usize = 512;

/// A proxy secret in the clear: just made, or presented by a caller. Shows as `[secret]`.
#[derive(Clone)]
pub struct ProxySecret(SecretString);

/// Why a text cannot be a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a string of 1 to {MAX_SECRET_BYTES} bytes")]
pub struct InvalidSecret;

impl ProxySecret {
    /// Makes a secret around its `id`: `mps_` and 84 characters of base32 over the id, 32 random
    /// bytes, and the first 4 bytes of the SHA-256 of all before them.
    #[must_use]
    pub fn generate(id: SecretId, randomness: &Randomness) -> Self {
        Self(compose(PREFIX, id.as_uuid(), randomness))
    }

    /// Takes what a caller presents, whatever its form.
    ///
    /// # Errors
    /// When it is empty or longer than [`MAX_SECRET_BYTES`].
    pub fn parse(raw: String) -> Result<Self, InvalidSecret> {
        if raw.is_empty() || raw.len() > MAX_SECRET_BYTES {
            return Err(InvalidSecret);
        }
        Ok(Self(raw.into()))
    }

    /// Whether the text can be no secret, made or chosen, whichever there are: its form alone tells.
    #[must_use]
    pub fn is_mispasted(&self) -> bool {
        let text = self.0.expose_secret();
        match text.strip_prefix(PREFIX) {
            Some(encoded) => !encoded
                .bytes()
                .all(|byte| SYMBOLS.as_bytes().contains(&byte)),
            // A chosen one is a text of the configuration.
            None => !matches!(plain(text), Ok(plain) if plain == text),
        }
    }

    /// Whether the text begins like a secret that this service makes.
    #[must_use]
    pub fn has_our_prefix(&self) -> bool {
        self.0.expose_secret().starts_with(PREFIX)
    }

    /// The id inside a secret of our making; none when the form or the checksum is wrong.
    #[must_use]
    pub fn id(&self) -> Option<SecretId> {
        id_inside(PREFIX, self.0.expose_secret()).map(SecretId::from_uuid)
    }

    /// What is stored in its place.
    #[must_use]
    pub fn digest(&self) -> SecretDigest {
        SecretDigest::of(self.0.expose_secret())
    }

    /// The secret itself, for the one answer that shows it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        self.0.expose_secret()
    }
}

/// An API token in the clear: just made, or presented by a caller. Shows as `[secret]`.
#[derive(Clone)]
pub struct ApiTokenSecret(SecretString);

impl ApiTokenSecret {
    /// Makes a token around its `id`, in the form of a proxy secret: `mat_` and 84 characters.
    #[must_use]
    pub fn generate(id: ApiTokenId, randomness: &Randomness) -> Self {
        Self(compose(API_TOKEN_PREFIX, id.as_uuid(), randomness))
    }

    /// What a caller presents, if it is of our making, with the id inside it.
    #[must_use]
    pub fn parse(raw: &str) -> Option<(ApiTokenId, Self)> {
        let id = id_inside(API_TOKEN_PREFIX, raw)?;
        Some((ApiTokenId::from_uuid(id), Self(raw.to_owned().into())))
    }

    /// What is stored in its place.
    #[must_use]
    pub fn digest(&self) -> SecretDigest {
        SecretDigest::of(self.0.expose_secret())
    }

    /// The token itself, for the one answer that shows it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for ApiTokenSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[secret]")
    }
}

fn compose(prefix: &str, id: Uuid, randomness: &Randomness) -> SecretString {
    let mut bytes = Vec::with_capacity(ID_BYTES + RANDOM_BYTES + CHECKSUM_BYTES);
    bytes.extend_from_slice(id.as_bytes());
    bytes.extend_from_slice(&randomness.bytes::<RANDOM_BYTES>());
    let checksum = checksum(prefix, &bytes);
    bytes.extend_from_slice(&checksum);
    format!("{prefix}{}", CROCKFORD.encode(&bytes)).into()
}

fn id_inside(prefix: &str, text: &str) -> Option<Uuid> {
    let encoded = text.strip_prefix(prefix)?;
    let bytes = CROCKFORD.decode(encoded.as_bytes()).ok()?;
    if bytes.len() != ID_BYTES + RANDOM_BYTES + CHECKSUM_BYTES {
        return None;
    }
    let (payload, given) = bytes.split_at(ID_BYTES + RANDOM_BYTES);
    if given != checksum(prefix, payload) {
        return None;
    }
    Uuid::from_slice(&payload[..ID_BYTES]).ok()
}

fn checksum(prefix: &str, payload: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let digest = Sha256::new()
        .chain_update(prefix)
        .chain_update(payload)
        .finalize();
    let mut checksum = [0; CHECKSUM_BYTES];
    checksum.copy_from_slice(&digest[..CHECKSUM_BYTES]);
    checksum
}

impl fmt::Debug for ProxySecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[secret]")
    }
}

/// The SHA-256 of a secret, which is all that the store holds: 256 random bits need no slow hash.
#[derive(Clone, sqlx::Type)]
#[sqlx(transparent)]
pub struct SecretDigest(Vec<u8>);

impl SecretDigest {
    /// The digest of a secret's text.
    pub(crate) fn of(secret: &str) -> Self {
        Self(Sha256::digest(secret).to_vec())
    }

    /// Compares in constant time.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for SecretDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[digest]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::clock::Timestamp;

    fn generate() -> (SecretId, ProxySecret) {
        let randomness = Randomness::seeded(7);
        let id = SecretId::new(Timestamp::from_seconds(1_800_000_000), &randomness);
        (id, ProxySecret::generate(id, &randomness))
    }

    #[test]
    fn generated_secret_has_the_published_form() {
        let (id, secret) = generate();
        let text = secret.reveal();
        assert_eq!(text.len(), 4 + 84);
        assert!(text.starts_with("mps_"));
        assert!(
            text.bytes()
                .skip(4)
                .all(|byte| CROCKFORD_SYMBOLS.contains(&byte))
        );
        assert_eq!(secret.id(), Some(id));
    }

    const CROCKFORD_SYMBOLS: &[u8] = b"0123456789abcdefghjkmnpqrstvwxyz";

    #[test]
    fn any_changed_character_breaks_the_checksum() {
        let (_, secret) = generate();
        let text = secret.reveal();
        for index in 4..text.len() {
            let mut changed = text.as_bytes().to_vec();
            changed[index] = if changed[index] == b'0' { b'1' } else { b'0' };
            let changed = ProxySecret::parse(String::from_utf8(changed).unwrap()).unwrap();
            assert_eq!(changed.id(), None, "character {index}");
        }
        let upper = ProxySecret::parse(text.to_uppercase().replace("MPS_", "mps_")).unwrap();
        assert_eq!(upper.id(), None);
    }

    #[test]
    fn digest_matches_only_the_same_secret() {
        let (_, secret) = generate();
        let other = ProxySecret::parse("another secret".to_owned()).unwrap();
        assert!(secret.digest().matches(&secret.clone().digest()));
        assert!(!secret.digest().matches(&other.digest()));
    }

    #[test]
    fn neither_form_shows_itself() {
        let (_, secret) = generate();
        assert_eq!(
            format!("{secret:?} {:?}", secret.digest()),
            "[secret] [digest]"
        );
    }
}
