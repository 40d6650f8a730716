//! A site and what it is made from.

use std::sync::Arc;

use serde::Serialize;
use url::Url;
use utoipa::ToSchema;

use crate::types::{
    clock::Timestamp,
    ids::{AccountId, SiteId},
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

/// What people call a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteName(String);

/// Where a site is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteUrl(String);

/// What a site is made from.
#[derive(Clone, Debug)]
pub struct NewSite {
    /// What people call it.
    pub name: SiteName,
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
    pub name: Option<SiteName>,
    /// Where it is, if anywhere.
    pub url: Option<Option<SiteUrl>>,
    /// Its plan: who calls knows the plans.
    pub plan: Option<String>,
    /// Whether it may issue tokens.
    pub status: Option<SiteStatus>,
    /// The account that it belongs to, if any.
    pub owner: Option<Option<AccountId>>,
}

/// Why no site can be so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSite {
    /// The name is empty, too long, or cannot be shown.
    #[error("the name {}", InvalidSite::Name.rule())]
    Name,
    /// The URL is not a web address.
    #[error("the URL {}", InvalidSite::Url.rule())]
    Url,
}

impl InvalidSite {
    /// What it must be instead.
    #[must_use]
    pub const fn rule(self) -> &'static str {
        match self {
            Self::Name => "must be 1 to 200 bytes without control characters",
            Self::Url => "must be an http or https address of at most 2048 bytes",
        }
    }
}

impl SiteName {
    /// Takes 1 to 200 bytes without control characters.
    ///
    /// # Errors
    /// When the text has another form.
    pub fn parse(raw: &str) -> Result<Self, InvalidSite> {
        if raw.is_empty() || raw.len() > 200 || raw.chars().any(char::is_control) {
            return Err(InvalidSite::Name);
        }
        Ok(Self(raw.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl SiteUrl {
    /// Takes an `http` or `https` URL of at most 2048 bytes.
    ///
    /// # Errors
    /// When the text has another form.
    pub fn parse(raw: &str) -> Result<Self, InvalidSite> {
        let is_web_address = raw.len() <= 2048
            && !raw.chars().any(char::is_control)
            && Url::parse(raw)
                .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        if is_web_address {
            Ok(Self(raw.to_owned()))
        } else {
            Err(InvalidSite::Url)
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
            name: SiteName::parse(name)?,
            url: url.map(SiteUrl::parse).transpose()?,
            plan: plan.to_owned(),
            owner: None,
        })
    }
}
