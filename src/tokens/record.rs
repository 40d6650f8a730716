//! The token record, its states, and the rules by which a token is valid.

use std::{ops::Deref, sync::Arc};

use serde::Serialize;
use utoipa::ToSchema;

use super::last_use::LastNoted;
use crate::{
    keys::TokenClaims,
    sites::{SiteState, SiteStatus},
    types::{
        clock::Timestamp,
        ids::{MachineId, SiteId, TokenId, WpUserId},
    },
};

/// What the store knows of a token; answers are made from it, never from the token's claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRecord {
    /// The token's `jti`.
    pub token_id: TokenId,
    /// The site that issued it.
    pub site_id: SiteId,
    /// The WordPress user that it is for.
    pub user_id: WpUserId,
    /// What it cost.
    pub coins: i64,
    /// When it was issued, in whole seconds.
    pub issued_at: Timestamp,
    /// From when it is no longer valid, in whole seconds.
    pub expires_at: Timestamp,
    /// The machine that it is bound to.
    pub machine_id: Option<MachineId>,
    /// When that machine was last told that it is valid, give or take a minute.
    pub last_validated_at: Option<Timestamp>,
    /// Whether it was taken back.
    pub state: TokenState,
}

/// Whether a token was taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenState {
    /// It was not.
    Active,
    /// It was.
    Revoked {
        /// When.
        at: Timestamp,
    },
}

impl TokenRecord {
    /// The claims of its token.
    #[must_use]
    pub const fn claims(&self) -> TokenClaims {
        TokenClaims {
            site_id: self.site_id,
            token_id: self.token_id,
            user_id: self.user_id,
            issued_at: self.issued_at,
            expires_at: self.expires_at,
        }
    }
}

/// A record as it was read, and when its use was last noted here.
#[derive(Debug)]
pub struct NotedRecord {
    record: TokenRecord,
    /// When its use was last noted here.
    pub last_noted: LastNoted,
}

impl NotedRecord {
    /// A record as it was read.
    #[must_use]
    pub fn new(record: TokenRecord) -> Self {
        Self {
            last_noted: LastNoted::new(record.last_validated_at),
            record,
        }
    }
}

impl Deref for NotedRecord {
    type Target = TokenRecord;

    fn deref(&self) -> &TokenRecord {
        &self.record
    }
}

/// A record together with the state of its site, read in one statement.
#[derive(Clone, Debug)]
pub struct HeldToken {
    /// The record.
    pub record: Arc<NotedRecord>,
    /// The state of its site.
    pub site: SiteState,
}

impl HeldToken {
    /// A record as it was read.
    #[must_use]
    pub fn new(record: TokenRecord, site: SiteState) -> Self {
        Self {
            record: Arc::new(NotedRecord::new(record)),
            site,
        }
    }
}

/// Why a token is not valid. The reasons are checked in this order, and the first is told:
///
/// 1. `malformed`: it is no JWT, or claims are missing. Have the user sign in again.
/// 2. `bad_signature`: it is not signed by a live key of this service, has another algorithm,
///    issuer, audience or `typ`, an unknown `kid`, or `crit`; or its claims differ from the record.
/// 3. `expired`: its time is over. Have the user get a new token.
/// 4. `unknown_token`: it is signed by this service, which has no record of it.
/// 5. `revoked`: it was taken back, or its site deleted.
/// 6. `site_suspended`: its site is suspended; it is valid again when the site is resumed.
/// 7. `machine_mismatch`: it is bound to another machine. Have the site release that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(examples("machine_mismatch"))]
pub enum Reason {
    /// No JWT, or claims are missing.
    Malformed,
    /// Not signed by a live key of this service, or its claims differ from the record.
    BadSignature,
    /// Its time is over.
    Expired,
    /// Signed by this service, without a record.
    UnknownToken,
    /// It was revoked, or its site deleted.
    Revoked,
    /// Its site is suspended.
    SiteSuspended,
    /// It is bound to another machine.
    MachineMismatch,
}

impl Reason {
    /// As in the answer.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::BadSignature => "bad_signature",
            Self::Expired => "expired",
            Self::UnknownToken => "unknown_token",
            Self::Revoked => "revoked",
            Self::SiteSuspended => "site_suspended",
            Self::MachineMismatch => "machine_mismatch",
        }
    }
}

/// What is to be done for a token that may be valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Binding {
    /// It is bound to this machine.
    Bound,
    /// It is bound to none, and must be bound to this one.
    Unbound,
}

/// Judges a token whose signature is ours by its record: the reasons 2 to 7.
///
/// # Errors
/// The first reason for which the token is not valid.
pub fn judge(
    claims: &TokenClaims,
    held: Option<&HeldToken>,
    machine_id: &MachineId,
    now: Timestamp,
) -> Result<Binding, Reason> {
    if held.is_some_and(|held| held.record.claims() != *claims) {
        return Err(Reason::BadSignature);
    }
    if now >= claims.expires_at {
        return Err(Reason::Expired);
    }
    let Some(HeldToken { record, site, .. }) = held else {
        return Err(Reason::UnknownToken);
    };
    match (record.state, site) {
        (TokenState::Revoked { .. }, _) | (_, SiteState::Deleted) => return Err(Reason::Revoked),
        (
            TokenState::Active,
            SiteState::Present {
                status: SiteStatus::Suspended,
                ..
            },
        ) => return Err(Reason::SiteSuspended),
        (
            TokenState::Active,
            SiteState::Present {
                status: SiteStatus::Active,
                ..
            },
        ) => {}
    }
    match &record.machine_id {
        None => Ok(Binding::Unbound),
        Some(bound) if bound == machine_id => Ok(Binding::Bound),
        Some(_) => Err(Reason::MachineMismatch),
    }
}
