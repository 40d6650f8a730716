//! A token as those see it who run its site: never the JWT.

use serde::Serialize;
use utoipa::ToSchema;

use super::record::{TokenRecord, TokenState};
use crate::types::{
    clock::Timestamp,
    ids::{MachineId, SiteId, TokenId, WpUserId},
};

/// A token that was issued.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TokenSummary {
    /// Its id.
    pub token_id: TokenId,
    /// The site that issued it.
    pub site_id: SiteId,
    /// The WordPress user that it is for.
    pub user_id: WpUserId,
    /// Whether it is good.
    pub state: TokenStatus,
    /// The machine that it is bound to.
    pub machine_id: Option<MachineId>,
    /// When that machine was last told that it is valid, give or take a minute.
    pub last_validated_at: Option<Timestamp>,
    /// What it cost.
    #[schema(examples(200))]
    pub coins: i64,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// When it expires or expired.
    pub expires_at: Timestamp,
}

/// Whether a token is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(examples("active"))]
pub enum TokenStatus {
    /// It is.
    Active,
    /// Its time is over.
    Expired,
    /// It was taken back.
    Revoked,
}

impl TokenStatus {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Active, Self::Expired, Self::Revoked];

    /// Its name, as it is shown and asked for.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }

    /// What a token is, but for what became of its site.
    #[must_use]
    pub fn of(record: &TokenRecord, now: Timestamp) -> Self {
        match record.state {
            TokenState::Revoked { .. } => Self::Revoked,
            TokenState::Active if now >= record.expires_at => Self::Expired,
            TokenState::Active => Self::Active,
        }
    }
}

impl TokenSummary {
    /// What is shown of a token.
    #[must_use]
    pub fn new(record: &TokenRecord, state: TokenStatus) -> Self {
        Self {
            token_id: record.token_id,
            site_id: record.site_id,
            user_id: record.user_id,
            state,
            machine_id: record.machine_id.clone(),
            last_validated_at: record.last_validated_at,
            coins: record.coins,
            issued_at: record.issued_at,
            expires_at: record.expires_at,
        }
    }
}
