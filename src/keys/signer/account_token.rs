//! The tokens that people sign in with, signed by the same keys and told apart by media type and
//! audience: none passes for another kind, or for a desktop token.

use std::borrow::Cow;

use jsonwebtoken::Header;

use super::{
    BadSignature, KeyError, SigningKey, UnverifiedAccountToken, jwa, unverified::AccountTokenClaims,
};
use crate::types::{
    clock::Timestamp,
    ids::{AccountId, SessionId},
};

/// Which of the tokens of a session one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountTokenKind {
    /// Good for 15 minutes, renewed by a refresh token.
    Access,
    /// Good for an hour, and never renewed.
    OneHour,
}

impl AccountTokenKind {
    const ALL: [Self; 2] = [Self::Access, Self::OneHour];

    /// The header's `typ` (RFC 8725, section 3.11; RFC 9068, section 2.1).
    const fn media_type(self) -> &'static str {
        match self {
            Self::Access => "at+jwt",
            Self::OneHour => "hour+jwt",
        }
    }

    /// The claim `aud`.
    const fn audience(self) -> &'static str {
        match self {
            Self::Access => "mirrory-access",
            Self::OneHour => "mirrory-one-hour",
        }
    }

    fn of(token: &UnverifiedAccountToken<'_>) -> Option<Self> {
        let media_type = token.media_type()?;
        Self::ALL
            .into_iter()
            .find(|kind| kind.media_type() == media_type)
    }
}

/// What an account's token says, apart from its issuer and audience.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountClaims {
    /// Which kind it is: `typ` and `aud`.
    pub kind: AccountTokenKind,
    /// `sub`.
    pub account_id: AccountId,
    /// `sid`.
    pub session_id: SessionId,
    /// `iat`: in whole seconds; a fraction is cut off by signing.
    pub issued_at: Timestamp,
    /// `exp`: in whole seconds; a fraction is cut off by signing.
    pub expires_at: Timestamp,
}

impl SigningKey {
    /// Signs a token of an account, as [`Self::sign`] does one for a desktop app.
    ///
    /// # Errors
    /// When the cryptographic library fails.
    pub fn sign_for_account(&self, claims: &AccountClaims) -> Result<String, KeyError> {
        let mut header = Header::new(jwa(self.algorithm));
        header.typ = Some(claims.kind.media_type().to_owned());
        header.kid = Some(self.kid.as_str().to_owned());
        let claims = AccountTokenClaims {
            iss: Cow::Borrowed(&self.issuer),
            aud: claims.kind.audience().into(),
            sub: claims.account_id.to_string().into(),
            sid: claims.session_id.to_string().into(),
            iat: claims.issued_at.as_seconds(),
            exp: claims.expires_at.as_seconds(),
        };
        jsonwebtoken::encode(&header, &claims, &self.encoding).map_err(KeyError::Sign)
    }

    /// Checks everything about a token of an account but its time and its session.
    ///
    /// # Errors
    /// When its header is not one that this key writes, the signature is not this key's, or the
    /// claims name another issuer, or another audience than the one of its kind.
    pub fn verify_for_account(
        &self,
        token: &UnverifiedAccountToken<'_>,
    ) -> Result<AccountClaims, BadSignature> {
        let kind = AccountTokenKind::of(token).ok_or(BadSignature)?;
        let claims = &token.claims;
        if !self.signed(token, kind.media_type())
            || claims.iss != self.issuer
            || claims.aud != kind.audience()
        {
            return Err(BadSignature);
        }
        Ok(AccountClaims {
            kind,
            account_id: claims.sub.parse().map_err(|_| BadSignature)?,
            session_id: claims.sid.parse().map_err(|_| BadSignature)?,
            issued_at: Timestamp::from_seconds(claims.iat),
            expires_at: Timestamp::from_seconds(claims.exp),
        })
    }
}
