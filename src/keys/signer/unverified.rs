//! A token as it came in: its form is right, nothing else about it is known.

use std::{borrow::Cow, fmt};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, IgnoredAny},
};

/// The text is no JWT of ours: not three parts of canonical base64url without padding, a header
/// or claims that are no JSON object, or a member of ours that is missing, of the wrong type, or
/// given twice. The claim `aud` must be a string; an array of one is the wrong type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a token of this service")]
pub struct Malformed;

/// A well-formed desktop token whose signature nobody has checked.
pub type UnverifiedToken<'a> = Unverified<'a, Claims<'static>>;

/// A well-formed token of an account whose signature nobody has checked.
pub type UnverifiedAccountToken<'a> = Unverified<'a, AccountTokenClaims<'static>>;

/// A well-formed token with claims of one form, whose signature nobody has checked. Its `Debug`
/// shows nothing of it.
pub struct Unverified<'a, C> {
    pub(super) signing_input: &'a str,
    pub(super) signature: &'a str,
    pub(super) header: JoseHeader,
    pub(super) claims: C,
}

/// Of the JOSE header, what decides. Other members (`jwk`, `jku`, `x5u`, `b64`) are not read.
#[derive(Deserialize)]
pub(super) struct JoseHeader {
    pub(super) alg: String,
    pub(super) typ: Option<String>,
    pub(super) kid: Option<String>,
    #[serde(default)]
    pub(super) crit: Present,
}

/// Whether a member is there, whatever its value: an option would take `null` for absent.
#[derive(Default)]
pub(super) struct Present(pub(super) bool);

impl<'de> Deserialize<'de> for Present {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self(true))
    }
}

/// The claims of a desktop token as they are signed.
#[derive(Deserialize, Serialize)]
pub struct Claims<'a> {
    pub(super) iss: Cow<'a, str>,
    pub(super) aud: Cow<'a, str>,
    pub(super) sub: Cow<'a, str>,
    pub(super) site: Cow<'a, str>,
    pub(super) jti: Cow<'a, str>,
    pub(super) iat: i64,
    pub(super) exp: i64,
}

/// The claims of an account's token as they are signed.
#[derive(Deserialize, Serialize)]
pub struct AccountTokenClaims<'a> {
    pub(super) iss: Cow<'a, str>,
    pub(super) aud: Cow<'a, str>,
    pub(super) sub: Cow<'a, str>,
    pub(super) sid: Cow<'a, str>,
    pub(super) iat: i64,
    pub(super) exp: i64,
}

impl<'a, C: DeserializeOwned> Unverified<'a, C> {
    /// Takes the compact serialization of a JWS apart (RFC 7515, section 7.1).
    ///
    /// # Errors
    /// When the text cannot be one of our tokens, whoever signed it.
    pub fn parse(token: &'a str) -> Result<Self, Malformed> {
        let (signing_input, signature) = token.rsplit_once('.').ok_or(Malformed)?;
        let (header, claims) = signing_input.split_once('.').ok_or(Malformed)?;
        decode(signature)?;
        Ok(Self {
            signing_input,
            signature,
            header: json_object(header)?,
            claims: json_object(claims)?,
        })
    }

    /// The id of the key that is said to have signed the token.
    #[must_use]
    pub fn kid(&self) -> Option<&str> {
        self.header.kid.as_deref()
    }

    /// What the token is said to be.
    #[must_use]
    pub fn media_type(&self) -> Option<&str> {
        self.header.typ.as_deref()
    }
}

impl<C> fmt::Debug for Unverified<'_, C> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[unverified token]")
    }
}

/// This engine takes no padding, no other alphabet and no stray bits in the last character, so
/// that a token has one spelling.
fn decode(part: &str) -> Result<Vec<u8>, Malformed> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Malformed)
}

fn json_object<T: DeserializeOwned>(part: &str) -> Result<T, Malformed> {
    let bytes = decode(part)?;
    // serde_json looks at the encoding of the strings that it keeps only.
    let text = str::from_utf8(&bytes).map_err(|_| Malformed)?;
    // serde would fill a struct from an array too.
    if !text.trim_ascii_start().starts_with('{') {
        return Err(Malformed);
    }
    serde_json::from_str(text).map_err(|_| Malformed)
}
