//! A site and what it is made from.

use std::sync::Arc;

use serde::Serialize;
use url::Url;
use utoipa::ToSchema;

use crate::types::{
    clock::Timestamp,
    ids::{AccountId, SiteId},
    name::{InvalidName, Name},
};

/// One WordPress installation, as those see it who run it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Site {
    /// Its id.
    pub id: SiteId,
    /// What people call it.
    #[schema(examples("My shop"))]
    pub name: String,
    /// Where it is.
    #[schema(examples("https://shop.example"))]
    pub url: Option<String>,
    /// The plan that it is on.
    #[schema(examples("free"))]
    pub plan: String,
    /// The account that it belongs to; none when the command line made it.
    pub owner: Option<AccountId>,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(examples("active"))]
pub enum SiteStatus {
    /// It may.
    Active,
    /// Not until it is resumed.
    Suspended,
}

impl SiteStatus {
    pub(crate) const fn as_str(self) -> &'static str {
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

/// Where a site is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteUrl(String);

/// What a site is made from.
#[derive(Clone, Debug)]
pub struct NewSite {
    /// What people call it.
    pub name: Name,
    /// Where it is.
    pub url: Option<SiteUrl>,
    /// Its plan: who calls knows the plans.
    pub plan: String,
    /// The account that it belongs to.
    pub owner: Option<AccountId>,
}

/// What of a site is to be another.
#[derive(Clone, Debug, Default)]
pub struct SiteUpdate {
    /// What people call it.
    pub name: Option<Name>,
    /// Where it is, if anywhere.
    pub url: Option<Option<SiteUrl>>,
    /// Its plan: who calls knows the plans.
    pub plan: Option<String>,
    /// Whether it may issue tokens.
    pub status: Option<SiteStatus>,
    /// The account that it belongs to, if any.
    pub owner: Option<Option<AccountId>>,
}

impl SiteUpdate {
    /// Whether it does nothing but suspend the site.
    pub(super) const fn only_suspends(&self) -> bool {
        matches!(
            self,
            Self {
                name: None,
                url: None,
                plan: None,
                status: Some(SiteStatus::Suspended),
                owner: None,
            }
        )
    }
}

/// Why no site can be so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSite {
    /// The name is none.
    #[error("the name {0}")]
    Name(InvalidName),
    /// The URL is none that a site has.
    #[error("the URL {0}")]
    Url(InvalidUrl),
}

/// The text cannot be where a site is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be an http or https address of at most 2048 bytes without user and password")]
pub struct InvalidUrl;

impl SiteUrl {
    /// Takes an `http` or `https` URL of at most 2048 bytes, without a user and a password: it is
    /// shown and logged.
    ///
    /// # Errors
    /// When the text has another form.
    pub fn parse(raw: &str) -> Result<Self, InvalidUrl> {
        let is_web_address = raw.len() <= 2048
            && !raw.chars().any(char::is_control)
            && Url::parse(raw).is_ok_and(|url| {
                let is_anonymous = url.username().is_empty() && url.password().is_none();
                matches!(url.scheme(), "http" | "https") && url.has_host() && is_anonymous
            });
        if is_web_address {
            Ok(Self(raw.to_owned()))
        } else {
            Err(InvalidUrl)
        }
    }

    /// The address.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl NewSite {
    /// A site that belongs to no account.
    ///
    /// # Errors
    /// When the name or the URL is not of its form.
    pub fn parse(name: &str, url: Option<&str>, plan: &str) -> Result<Self, InvalidSite> {
        Ok(Self {
            name: Name::parse(name).map_err(InvalidSite::Name)?,
            url: url
                .map(SiteUrl::parse)
                .transpose()
                .map_err(InvalidSite::Url)?,
            plan: plan.to_owned(),
            owner: None,
        })
    }
}
