//! Signing keys at work: sign a token, check one, publish the public half. The only importer of
//! `jsonwebtoken`.
//!
//! The key decides everything and the header nothing (RFC 8725, sections 3.1, 3.8 and 3.11): a
//! token's `alg`, `typ` and `kid` must say exactly what this key writes, `crit` must be absent,
//! and keys that a header carries or points to are never read. Issuer and audience must be this
//! service's own. `exp` is left to the caller, who holds the clock.

mod account_token;
mod algorithm;
mod kid;
mod private_key;
mod unverified;

use std::borrow::Cow;

use jsonwebtoken::{
    DecodingKey, EncodingKey, Header,
    jwk::{Jwk, PublicKeyUse},
};
use serde::Serialize;

pub use self::{
    account_token::{AccountClaims, AccountTokenKind},
    algorithm::{Algorithm, InvalidAlgorithm},
    kid::{InvalidKid, Kid},
    private_key::{KeyError, PrivateKey},
    unverified::{Malformed, UnverifiedAccountToken, UnverifiedToken},
};
use self::{
    private_key::HMAC_KEY_BYTES,
    unverified::{Claims, Unverified},
};
use crate::types::{
    clock::Timestamp,
    ids::{SiteId, TokenId, WpUserId},
};

/// The media type of desktop tokens (RFC 8725, section 3.11); compared exactly.
const TYPE: &str = "JWT";

/// What a token says, apart from its issuer and audience, which are its key's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenClaims {
    /// `site`.
    pub site_id: SiteId,
    /// `jti`.
    pub token_id: TokenId,
    /// `sub`.
    pub user_id: WpUserId,
    /// `iat`: in whole seconds; a fraction is cut off by signing.
    pub issued_at: Timestamp,
    /// `exp`: in whole seconds; a fraction is cut off by signing.
    pub expires_at: Timestamp,
}

/// The token was not made by this key, or not for this service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not signed by this key for this issuer and audience")]
pub struct BadSignature;

/// One signing key, ready to sign and to verify. Its `Debug` shows no key material.
#[derive(Debug)]
pub struct SigningKey {
    kid: Kid,
    algorithm: Algorithm,
    issuer: String,
    audience: String,
    header: Header,
    encoding: EncodingKey,
    decoding: DecodingKey,
    public_jwk: Option<PublicJwk>,
}

impl SigningKey {
    /// Readies a key for tokens of one `issuer` and `audience`.
    ///
    /// # Errors
    /// When the bytes of the private key are not a key of its algorithm.
    pub fn new(
        kid: Kid,
        private_key: &PrivateKey,
        issuer: &str,
        audience: &str,
    ) -> Result<Self, KeyError> {
        let algorithm = private_key.algorithm();
        let secret = private_key.reveal();
        let (encoding, public_jwk) = match algorithm {
            Algorithm::HS256 if secret.len() != HMAC_KEY_BYTES => return Err(KeyError::Length),
            Algorithm::HS256 => (EncodingKey::from_secret(secret), None),
            Algorithm::RS256 => public_half(EncodingKey::from_rsa_der(secret), algorithm, &kid)?,
            Algorithm::ES256 => public_half(EncodingKey::from_ec_der(secret), algorithm, &kid)?,
            Algorithm::EdDSA => public_half(EncodingKey::from_ed_der(secret), algorithm, &kid)?,
        };
        // Verifying by what is published means that the published key is right, or nothing works.
        let decoding = match &public_jwk {
            Some(PublicJwk(jwk)) => DecodingKey::from_jwk(jwk).map_err(KeyError::Unusable)?,
            None => DecodingKey::from_secret(secret),
        };
        let mut header = Header::new(jwa(algorithm));
        header.typ = Some(TYPE.to_owned());
        header.kid = Some(kid.as_str().to_owned());
        Ok(Self {
            kid,
            algorithm,
            issuer: issuer.to_owned(),
            audience: audience.to_owned(),
            header,
            encoding,
            decoding,
            public_jwk,
        })
    }

    /// The key's id, which its tokens carry.
    #[must_use]
    pub const fn kid(&self) -> &Kid {
        &self.kid
    }

    /// The one algorithm that this key is used with.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The public half; none for an HMAC key, which has no such half.
    #[must_use]
    pub const fn public_jwk(&self) -> Option<&PublicJwk> {
        self.public_jwk.as_ref()
    }

    /// Signs a token: a JWT (RFC 7519) in the compact serialization of JWS (RFC 7515).
    ///
    /// RS256 takes about a millisecond, the others less than a tenth of one.
    ///
    /// # Errors
    /// When the cryptographic library fails.
    pub fn sign(&self, claims: &TokenClaims) -> Result<String, KeyError> {
        let claims = Claims {
            iss: Cow::Borrowed(&self.issuer),
            aud: Cow::Borrowed(&self.audience),
            sub: claims.user_id.to_string().into(),
            site: claims.site_id.to_string().into(),
            jti: claims.token_id.to_string().into(),
            iat: claims.issued_at.as_seconds(),
            exp: claims.expires_at.as_seconds(),
        };
        jsonwebtoken::encode(&self.header, &claims, &self.encoding).map_err(KeyError::Sign)
    }

    /// Checks everything about a token but its time and its record.
    ///
    /// ECDSA is malleable: whoever has an ES256 token can write its signature in one other way,
    /// so a token is known by its id and never by its bytes.
    ///
    /// # Errors
    /// When its header is not the one that this key writes, the signature is not this key's, or
    /// the claims name another issuer or audience or hold ids that we never sign.
    pub fn verify(&self, token: &UnverifiedToken<'_>) -> Result<TokenClaims, BadSignature> {
        if !self.signed(token, TYPE) {
            return Err(BadSignature);
        }
        self.read(&token.claims)
    }

    /// Whether the token's header is the one that this key writes for this media type, and its
    /// signature this key's.
    fn signed<C>(&self, token: &Unverified<'_, C>, media_type: &str) -> bool {
        let header = &token.header;
        header.alg == self.algorithm.name()
            && header.typ.as_deref() == Some(media_type)
            && header.kid.as_deref() == Some(self.kid.as_str())
            && !header.crit.0
            && signature_is_valid(
                self.algorithm,
                &self.decoding,
                token.signing_input,
                token.signature,
            )
    }

    fn read(&self, claims: &Claims<'_>) -> Result<TokenClaims, BadSignature> {
        if claims.iss != self.issuer || claims.aud != self.audience {
            return Err(BadSignature);
        }
        Ok(TokenClaims {
            site_id: claims.site.parse().map_err(|_| BadSignature)?,
            token_id: claims.jti.parse().map_err(|_| BadSignature)?,
            user_id: WpUserId::parse(&claims.sub).map_err(|_| BadSignature)?,
            issued_at: Timestamp::from_seconds(claims.iat),
            expires_at: Timestamp::from_seconds(claims.exp),
        })
    }
}

/// Whether `signature` (base64url) over `signing_input` is by `key`, used with `algorithm` alone;
/// a key of another family than the algorithm's makes it false.
fn signature_is_valid(
    algorithm: Algorithm,
    key: &DecodingKey,
    signing_input: &str,
    signature: &str,
) -> bool {
    let verdict =
        jsonwebtoken::crypto::verify(signature, signing_input.as_bytes(), key, jwa(algorithm));
    matches!(verdict, Ok(true))
}

const fn jwa(algorithm: Algorithm) -> jsonwebtoken::Algorithm {
    match algorithm {
        Algorithm::HS256 => jsonwebtoken::Algorithm::HS256,
        Algorithm::RS256 => jsonwebtoken::Algorithm::RS256,
        Algorithm::ES256 => jsonwebtoken::Algorithm::ES256,
        Algorithm::EdDSA => jsonwebtoken::Algorithm::EdDSA,
    }
}

/// Must not be called with an HMAC key: the library's "public" form of one is its secret.
fn public_half(
    key: EncodingKey,
    algorithm: Algorithm,
    kid: &Kid,
) -> Result<(EncodingKey, Option<PublicJwk>), KeyError> {
    let mut jwk = Jwk::from_encoding_key(&key, jwa(algorithm)).map_err(KeyError::Unusable)?;
    jwk.common.public_key_use = Some(PublicKeyUse::Signature);
    jwk.common.key_id = Some(kid.as_str().to_owned());
    Ok((key, Some(PublicJwk(jwk))))
}

/// The public half of a signing key as a JWK (RFC 7517): `kty`, `use`, `alg`, `kid` and the
/// public members. Only [`SigningKey`] makes one, and never of an HMAC key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct PublicJwk(Jwk);

/// A JWK set (RFC 7517, section 5): collect it from keys; those without a public half are left
/// out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Jwks {
    keys: Vec<PublicJwk>,
}

impl<'a> FromIterator<&'a SigningKey> for Jwks {
    fn from_iter<I: IntoIterator<Item = &'a SigningKey>>(keys: I) -> Self {
        let public = keys.into_iter().filter_map(SigningKey::public_jwk);
        Self {
            keys: public.cloned().collect(),
        }
    }
}

#[cfg(test)]
mod tests;
