//! Who makes a change, and from where.

use std::{net::IpAddr, sync::Arc};

use crate::types::ids::{AccountId, ApiTokenId, SiteId};

/// Who makes a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// Who runs the service: by the command line, or by starting it.
    Operator,
    /// A site's proxy, with a secret of the site.
    Site(SiteId),
    /// A person who is signed in.
    Account(AccountId),
    /// A script of an account.
    ApiToken {
        /// The token that it called with.
        token_id: ApiTokenId,
        /// Whose token it is.
        account_id: AccountId,
    },
    /// Somebody who has proven nothing.
    Nobody,
}

impl Actor {
    /// What it is; stored.
    pub(crate) const fn kind(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Site(_) => "site",
            Self::Account(_) => "account",
            Self::ApiToken { .. } => "api_token",
            Self::Nobody => "nobody",
        }
    }

    /// Which one of its kind it is.
    pub(crate) fn id(self) -> Option<String> {
        match self {
            Self::Site(site_id) => Some(site_id.to_string()),
            Self::Account(account_id) => Some(account_id.to_string()),
            Self::ApiToken { token_id, .. } => Some(token_id.to_string()),
            Self::Operator | Self::Nobody => None,
        }
    }

    /// The account that it is, or acts for.
    #[must_use]
    pub const fn account_id(self) -> Option<AccountId> {
        match self {
            Self::Account(account_id) | Self::ApiToken { account_id, .. } => Some(account_id),
            Self::Operator | Self::Site(_) | Self::Nobody => None,
        }
    }

    pub(super) fn describe(self) -> String {
        self.id().unwrap_or_else(|| self.kind().to_owned())
    }
}

/// Who makes a change and from where. An [`Actor`] alone is one without an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// Who.
    pub actor: Actor,
    /// The client's address, when the change was asked for over HTTP.
    pub address: Option<IpAddr>,
    /// What the client calls itself.
    pub user_agent: Option<Arc<str>>,
}

impl From<Actor> for Context {
    fn from(actor: Actor) -> Self {
        Self {
            actor,
            address: None,
            user_agent: None,
        }
    }
}
