//! A site and what it is made from.

use std::sync::Arc;

use serde::Serialize;
use url::Url;

use crate::types::{clock::Timestamp, ids::SiteId};

/// One WordPress installation, as the operator sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Site {
    /// Its id.
    pub id: SiteId,
    /// What people call it.
    pub name: String,
    /// Where it is.
    pub url: Option<String>,
    /// The plan that it is on.
    pub plan: String,
    /// Whether it may issue tokens.
    pub status: SiteStatus,
    /// When it was made.
    pub created_at: Timestamp,
}

impl Site {
    /// What of it decides over its tokens.
    pub(super) fn state(&self) -> SiteState {
        SiteState::Present {
            status: self.status,
            plan: self.plan.as_str().into(),
        }
    }
}

/// Whether a site may issue tokens, and its tokens are valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SiteStatus {
    /// It may.
    Active,
    /// Not until it is resumed.
    Suspended,
}

impl SiteStatus {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
        }
    }
}

impl TryFrom<String> for SiteStatus {
    type Error = UnknownStatus;

    fn try_from(text: String) -> Result<Self, UnknownStatus> {
        match text.as_str() {
            "active" => Ok(Self::Active),
            "suspended" => Ok(Self::Suspended),
            _ => Err(UnknownStatus),
        }
    }
}

/// What of a site decides over its tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SiteState {
    /// It is there.
    Present {
        /// Whether it is suspended.
        status: SiteStatus,
        /// The plan that pays for valid verdicts.
        plan: Arc<str>,
    },
    /// It was deleted, and its tokens with it.
    Deleted,
}

/// The store holds a status that this version does not know.
#[derive(Debug, thiserror::Error)]
#[error("the status of the site is unknown")]
pub struct UnknownStatus;

/// What a site is made from.
#[derive(Clone, Debug)]
pub struct NewSite {
    pub(super) name: String,
    pub(super) url: Option<String>,
    pub(super) plan: String,
}

/// Why no site can be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSite {
    /// The name is empty, too long, or cannot be shown.
    #[error("the name must be 1 to 200 bytes without control characters")]
    Name,
    /// The URL is not a web address.
    #[error("the URL must be an http or https address of at most 2048 bytes")]
    Url,
}

impl NewSite {
    /// Takes a name of 1–200 bytes without control characters, and an `http` or `https` URL. The
    /// plan's name is taken as it is: who calls knows the plans.
    ///
    /// # Errors
    /// When the name or the URL is not of that form.
    pub fn parse(name: &str, url: Option<&str>, plan: &str) -> Result<Self, InvalidSite> {
        if name.is_empty() || name.len() > 200 || name.chars().any(char::is_control) {
            return Err(InvalidSite::Name);
        }
        if url.is_some_and(|url| !is_web_address(url)) {
            return Err(InvalidSite::Url);
        }
        Ok(Self {
            name: name.to_owned(),
            url: url.map(str::to_owned),
            plan: plan.to_owned(),
        })
    }
}

fn is_web_address(text: &str) -> bool {
    text.len() <= 2048
        && !text.chars().any(char::is_control)
        && Url::parse(text)
            .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}
