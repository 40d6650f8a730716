//! What was changed.

use serde_json::{Value, json};

use super::SiteChange;
use crate::types::{
    clock::Timestamp,
    ids::{AccountId, ApiTokenId, SessionId, SiteId, TokenId},
};

/// What an import is called, after which nothing in memory may be relied on; stored.
pub(super) const IMPORTED: &str = "store.imported";

/// What was changed. The names are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Something about a site.
    OfSite(SiteId, SiteChange),
    /// A token of a site was revoked.
    TokenRevoked(TokenId, SiteId),
    /// A token of a site was released from its machine.
    MachineReleased(TokenId, SiteId),
    /// A signing key was made; by its `kid`.
    KeyRotated(String),
    /// A signing key was revoked; by its `kid`.
    KeyRevoked(String),
    /// The master key is another one.
    MasterKeyRotated,
    /// Something about an account.
    OfAccount(AccountId, AccountChange),
    /// The rows of another store were written into this one.
    Imported {
        /// How many.
        rows: u64,
        /// How many of them were not there before.
        inserted: u64,
    },
    /// The present time was said to be right.
    ClockAccepted {
        /// The greatest that the store had seen, if it had seen any.
        seen: Option<Timestamp>,
        /// The present one.
        now: Timestamp,
    },
    /// The store goes on where it would have been refused, on this database system and timeline.
    DatabaseAccepted {
        /// The system.
        system: i64,
        /// The timeline.
        timeline: i64,
        /// The system that it was on.
        former_system: i64,
        /// The highest timeline of that.
        former_timeline: i64,
    },
}

/// What was changed about an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccountChange {
    /// It was made, with this role.
    Created {
        /// `owner` or `admin`.
        role: &'static str,
    },
    /// These of its fields were set.
    Updated(Vec<&'static str>),
    /// It can no longer be used.
    Disabled,
    /// It can be used again.
    Enabled,
    /// It was deleted.
    Deleted,
    /// Somebody signed in as it.
    SignedIn(SessionId),
    /// One of its sessions was ended.
    SessionEnded(SessionId),
    /// So many of its sessions were ended by another change of it.
    SessionsEnded(u64),
    /// A refresh token came that had been replaced: its session was ended.
    RefreshTokenReused(SessionId),
    /// It has another password.
    PasswordChanged {
        /// How many of its sessions that ended.
        ended: u64,
    },
    /// Signing in takes a code from now on.
    TwoFactorEnabled,
    /// Signing in takes no code any more.
    TwoFactorDisabled,
    /// Its recovery codes were replaced.
    RecoveryCodesReplaced,
    /// A recovery code was used up.
    RecoveryCodeUsed,
    /// An API token was made.
    ApiTokenCreated(ApiTokenId),
    /// An API token was revoked.
    ApiTokenRevoked(ApiTokenId),
}

impl Change {
    /// What happened; stored.
    pub(crate) const fn event(&self) -> &'static str {
        match self {
            Self::OfSite(_, change) => change.event(),
            Self::TokenRevoked(..) => "token.revoked",
            Self::MachineReleased(..) => "machine.released",
            Self::KeyRotated(_) => "key.rotated",
            Self::KeyRevoked(_) => "key.revoked",
            Self::MasterKeyRotated => "master_key.rotated",
            Self::OfAccount(_, change) => change.event(),
            Self::Imported { .. } => IMPORTED,
            Self::ClockAccepted { .. } => "clock.accepted",
            Self::DatabaseAccepted { .. } => "database.accepted",
        }
    }

    /// The id of what it happened to.
    pub(crate) fn subject(&self) -> String {
        match self {
            Self::OfSite(site_id, _) => site_id.to_string(),
            Self::TokenRevoked(token_id, _) | Self::MachineReleased(token_id, _) => {
                token_id.to_string()
            }
            Self::KeyRotated(kid) | Self::KeyRevoked(kid) => kid.clone(),
            Self::MasterKeyRotated => "master key".to_owned(),
            Self::OfAccount(account_id, change) => change.subject(*account_id),
            Self::Imported { .. } => "store".to_owned(),
            Self::ClockAccepted { .. } => "clock".to_owned(),
            Self::DatabaseAccepted { .. } => "database".to_owned(),
        }
    }

    /// The account that it is about.
    pub(crate) const fn account_id(&self) -> Option<AccountId> {
        match self {
            Self::OfAccount(account_id, _) => Some(*account_id),
            Self::OfSite(_, change) => change.account_id(),
            _ => None,
        }
    }

    /// The site that it is about.
    pub(crate) const fn site_id(&self) -> Option<SiteId> {
        match self {
            Self::OfSite(site_id, _)
            | Self::TokenRevoked(_, site_id)
            | Self::MachineReleased(_, site_id) => Some(*site_id),
            Self::KeyRotated(_)
            | Self::KeyRevoked(_)
            | Self::MasterKeyRotated
            | Self::OfAccount(..)
            | Self::Imported { .. }
            | Self::ClockAccepted { .. }
            | Self::DatabaseAccepted { .. } => None,
        }
    }

    /// What else there is to say.
    pub(crate) fn detail(&self) -> Value {
        match self {
            Self::OfSite(_, change) => change.detail(),
            Self::OfAccount(_, AccountChange::Created { role }) => json!({ "role": role }),
            Self::OfAccount(_, AccountChange::PasswordChanged { ended }) => {
                json!({ "sessions_ended": ended })
            }
            Self::OfAccount(_, AccountChange::SessionsEnded(ended)) => json!({ "count": ended }),
            Self::OfAccount(_, AccountChange::Updated(fields)) => json!({ "fields": fields }),
            Self::Imported { rows, inserted } => json!({ "rows": rows, "inserted": inserted }),
            Self::ClockAccepted { seen, now } => json!({ "seen": seen, "now": now }),
            // As texts, for they are greater than what all readers of JSON take for exact.
            Self::DatabaseAccepted {
                system,
                timeline,
                former_system,
                former_timeline,
            } => json!({
                "system": system.to_string(),
                "timeline": timeline,
                "former_system": former_system.to_string(),
                "former_timeline": former_timeline,
            }),
            _ => json!({}),
        }
    }

    /// Whether it was refused, and is worth telling all the same.
    pub(crate) const fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::OfAccount(_, AccountChange::RefreshTokenReused(_))
        )
    }

    /// Whether instances must hear of it. Of accounts they keep nothing in memory, the data key that
    /// they have there stays what it is, and so does the server that each is on; the time they ask for
    /// with each look at the log.
    pub(super) const fn is_followed(&self) -> bool {
        !matches!(
            self,
            Self::OfAccount(..)
                | Self::MasterKeyRotated
                | Self::ClockAccepted { .. }
                | Self::DatabaseAccepted { .. }
        )
    }
}

impl AccountChange {
    const fn event(&self) -> &'static str {
        match self {
            Self::Created { .. } => "account.created",
            Self::Updated(_) => "account.updated",
            Self::Disabled => "account.disabled",
            Self::Enabled => "account.enabled",
            Self::Deleted => "account.deleted",
            Self::SignedIn(_) => "sign_in.succeeded",
            Self::SessionEnded(_) | Self::SessionsEnded(_) => "session.ended",
            Self::RefreshTokenReused(_) => "refresh_token.reused",
            Self::PasswordChanged { .. } => "password.changed",
            Self::TwoFactorEnabled => "two_factor.enabled",
            Self::TwoFactorDisabled => "two_factor.disabled",
            Self::RecoveryCodesReplaced => "recovery_codes.replaced",
            Self::RecoveryCodeUsed => "recovery_code.used",
            Self::ApiTokenCreated(_) => "api_token.created",
            Self::ApiTokenRevoked(_) => "api_token.revoked",
        }
    }

    fn subject(&self, account_id: AccountId) -> String {
        match self {
            Self::SignedIn(session_id)
            | Self::SessionEnded(session_id)
            | Self::RefreshTokenReused(session_id) => session_id.to_string(),
            Self::ApiTokenCreated(token_id) | Self::ApiTokenRevoked(token_id) => {
                token_id.to_string()
            }
            _ => account_id.to_string(),
        }
    }
}
