//! A session as its account sees it.

use serde::Serialize;
use utoipa::ToSchema;

use crate::types::{clock::Timestamp, ids::SessionId};

/// One sign-in on one client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Session {
    /// Its id: the claim `sid` of its tokens.
    pub id: SessionId,
    /// How it goes on.
    pub kind: SessionKind,
    /// The address that it was begun from.
    #[schema(examples("192.0.2.1"))]
    pub address: Option<String>,
    /// What the client called itself then.
    #[schema(examples("curl/8.5.0"))]
    pub user_agent: Option<String>,
    /// When it was begun.
    pub created_at: Timestamp,
    /// When it was last used, to the minute.
    pub last_used_at: Timestamp,
    /// When it ends unless it is refreshed.
    pub expires_at: Timestamp,
}

/// How a session goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(examples("refreshed"))]
pub enum SessionKind {
    /// Its refresh token gets new access tokens.
    Refreshed,
    /// It ends with its one token.
    OneHour,
}

/// The store holds a kind that this version does not know.
#[derive(Debug, thiserror::Error)]
#[error("the kind of the session is unknown")]
pub struct UnknownKind;

impl SessionKind {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Refreshed => "refreshed",
            Self::OneHour => "one_hour",
        }
    }
}

impl TryFrom<String> for SessionKind {
    type Error = UnknownKind;

    fn try_from(text: String) -> Result<Self, UnknownKind> {
        match text.as_str() {
            "refreshed" => Ok(Self::Refreshed),
            "one_hour" => Ok(Self::OneHour),
            _ => Err(UnknownKind),
        }
    }
}
