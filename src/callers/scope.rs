//! What an API token may do.

use std::fmt;

use serde::{Serialize, Serializer};
use utoipa::ToSchema;

/// One thing that an API token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[schema(examples("sites:read"))]
pub enum Scope {
    /// See sites and plans.
    #[serde(rename = "sites:read")]
    SitesRead,
    /// Make and change sites.
    #[serde(rename = "sites:write")]
    SitesWrite,
    /// See the tokens of sites.
    #[serde(rename = "tokens:read")]
    TokensRead,
    /// Revoke and release tokens.
    #[serde(rename = "tokens:write")]
    TokensWrite,
    /// See what sites have used.
    #[serde(rename = "usage:read")]
    UsageRead,
    /// See the audit log.
    #[serde(rename = "audit:read")]
    AuditRead,
}

impl Scope {
    /// All of them, in the order of their documentation.
    pub const ALL: [Self; 6] = [
        Self::SitesRead,
        Self::SitesWrite,
        Self::TokensRead,
        Self::TokensWrite,
        Self::UsageRead,
        Self::AuditRead,
    ];

    /// Its name, as in requests and in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SitesRead => "sites:read",
            Self::SitesWrite => "sites:write",
            Self::TokensRead => "tokens:read",
            Self::TokensWrite => "tokens:write",
            Self::UsageRead => "usage:read",
            Self::AuditRead => "audit:read",
        }
    }

    /// The scope of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == name)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A set of scopes; stored as their names with spaces between.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scopes(Vec<Scope>);

/// The store holds a scope that this version does not know.
#[derive(Debug, thiserror::Error)]
#[error("a scope of the API token is unknown")]
pub struct UnknownScope;

impl Scopes {
    /// Whether a scope is among them.
    #[must_use]
    pub fn allow(&self, scope: Scope) -> bool {
        self.0.contains(&scope)
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        let mut scopes: Vec<_> = scopes.into_iter().collect();
        scopes.sort_unstable();
        scopes.dedup();
        Self(scopes)
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.0.iter().map(|scope| scope.as_str()).collect();
        formatter.write_str(&names.join(" "))
    }
}

impl TryFrom<String> for Scopes {
    type Error = UnknownScope;

    fn try_from(names: String) -> Result<Self, UnknownScope> {
        let scopes = names.split_whitespace().map(Scope::named);
        scopes.collect::<Option<Self>>().ok_or(UnknownScope)
    }
}

impl Serialize for Scopes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}
