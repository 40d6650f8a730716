//! What is asked of sites, field by field.

use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{InvalidUrl, MAX_GRACE, SiteStatus, SiteUpdate, SiteUrl};
use crate::{
    error::ApiError,
    extract::{Fields, FromBody, given, name, parse_object, text},
    types::{
        ids::{AccountId, InvalidId},
        name::Name,
    },
};

/// How long the old secret goes on unless told otherwise.
const DEFAULT_GRACE: Duration = Duration::from_hours(24);

/// What a site is to be.
#[derive(Deserialize, ToSchema)]
#[schema(examples(json!({"name": "My shop", "url": "https://shop.example"})))]
pub(super) struct CreateSiteRequest<'a> {
    /// What people call it: 1 to 200 bytes without control characters.
    #[serde(borrow)]
    #[schema(value_type = String, examples("My shop"))]
    name: Option<&'a RawValue>,
    /// Where it is: an http or https address of at most 2048 bytes.
    #[serde(borrow)]
    #[schema(value_type = Option<String>, examples("https://shop.example"))]
    url: Option<&'a RawValue>,
    /// Its plan, by an admin alone; `free` unless told.
    #[serde(borrow)]
    #[schema(value_type = Option<String>, examples("professional"))]
    plan: Option<&'a RawValue>,
    /// The account that it belongs to, by an admin alone; unless told, the one that asks.
    #[serde(borrow)]
    #[schema(value_type = Option<AccountId>)]
    owner: Option<&'a RawValue>,
}

/// The site that is to be made.
pub(crate) struct GivenSite {
    pub(super) name: Name,
    pub(super) url: Option<SiteUrl>,
    pub(super) plan: Option<String>,
    pub(super) owner: Option<AccountId>,
}

impl FromBody for GivenSite {
    fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let body: CreateSiteRequest = parse_object(body)?;
        let mut fields = Fields::default();
        let name = fields.required("name", body.name, name);
        let url = fields.optional("url", body.url, url);
        let plan = fields.optional("plan", body.plan, text);
        let owner = fields.optional("owner", body.owner, owner);
        fields.finish(name.map(|name| Self {
            name,
            url,
            plan,
            owner,
        }))
    }
}

/// What of a site is to be another (RFC 7396): what is absent stays, and null takes away.
#[derive(Deserialize, ToSchema)]
#[schema(examples(json!({"name": "My other shop"})))]
pub(super) struct UpdateSiteRequest<'a> {
    /// What people call it: 1 to 200 bytes without control characters.
    #[serde(borrow, default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, nullable = false, examples("My other shop"))]
    name: Option<&'a RawValue>,
    /// Where it is: an http or https address of at most 2048 bytes.
    #[serde(borrow, default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, examples("https://shop.example"))]
    url: Option<&'a RawValue>,
    /// Its plan, by an admin alone; what is used of the day and month stays.
    #[serde(borrow, default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, nullable = false, examples("professional"))]
    plan: Option<&'a RawValue>,
    /// Whether it may issue tokens and its tokens are valid, by an admin alone.
    #[serde(borrow, default, deserialize_with = "given")]
    #[schema(value_type = Option<SiteStatus>, nullable = false)]
    status: Option<&'a RawValue>,
    /// The account that it belongs to, by an admin alone.
    #[serde(borrow, default, deserialize_with = "given")]
    #[schema(value_type = Option<AccountId>)]
    owner: Option<&'a RawValue>,
}

impl FromBody for SiteUpdate {
    fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let body: UpdateSiteRequest = parse_object(body)?;
        let mut fields = Fields::default();
        let update = Self {
            name: fields.optional("name", body.name, name),
            url: fields.optional("url", body.url, |value| or_none(value, url)),
            plan: fields.optional("plan", body.plan, text),
            status: fields.optional("status", body.status, status),
            owner: fields.optional("owner", body.owner, |value| or_none(value, owner)),
        };
        fields.finish(Some(update))
    }
}

/// How a secret is to be replaced.
#[derive(Deserialize, ToSchema)]
#[schema(examples(json!({"grace_seconds": 3600})))]
pub(super) struct RotateSecretRequest<'a> {
    /// How many seconds the old secret stays good, up to 7 days; 0 ends it at once.
    #[serde(borrow)]
    #[schema(
        value_type = Option<u32>,
        nullable = true,
        minimum = 0,
        maximum = 604_800,
        default = 86400,
        examples(3600)
    )]
    grace_seconds: Option<&'a RawValue>,
}

/// How long the old secret is to go on.
pub(crate) struct GivenGrace(pub(super) Duration);

impl FromBody for GivenGrace {
    fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let body: RotateSecretRequest = parse_object(body)?;
        let mut fields = Fields::default();
        let grace = fields.optional("grace_seconds", body.grace_seconds, grace);
        fields.finish(Some(Self(grace.unwrap_or(DEFAULT_GRACE))))
    }
}

fn url(value: &RawValue) -> Result<SiteUrl, String> {
    SiteUrl::parse(&text(value)?).map_err(|invalid: InvalidUrl| invalid.to_string())
}

fn status(value: &RawValue) -> Result<SiteStatus, String> {
    SiteStatus::try_from(text(value)?).map_err(|_| "must be active or suspended".to_owned())
}

fn owner(value: &RawValue) -> Result<AccountId, String> {
    let id = text(value)?.parse();
    id.map_err(|invalid: InvalidId| invalid.to_string())
}

fn grace(value: &RawValue) -> Result<Duration, String> {
    let seconds: Option<u64> = serde_json::from_str(value.get()).ok();
    let grace = seconds.map(Duration::from_secs);
    grace
        .filter(|grace| *grace <= MAX_GRACE)
        .ok_or_else(|| format!("must be an integer from 0 to {}", MAX_GRACE.as_secs()))
}

/// Null, or what `parse` reads.
fn or_none<T>(
    value: &RawValue,
    parse: impl FnOnce(&RawValue) -> Result<T, String>,
) -> Result<Option<T>, String> {
    if value.get() == "null" {
        return Ok(None);
    }
    parse(value).map(Some)
}
