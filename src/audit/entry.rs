//! A row of the audit log.

use std::{net::IpAddr, sync::Arc};

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::{
    store::changes::{Actor, Change, Context},
    types::{
        clock::Timestamp,
        ids::{AccountId, AuditId, SiteId},
        randomness::Randomness,
    },
};

/// What came of it. The names are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(examples("success"))]
pub enum Outcome {
    /// It was done.
    Success,
    /// It was tried, and refused.
    Refused,
}

impl Outcome {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Refused => "refused",
        }
    }
}

/// The store holds an outcome that this version does not know.
#[derive(Debug, thiserror::Error)]
#[error("the outcome of a row of the audit log is unknown")]
pub struct UnknownOutcome;

impl TryFrom<String> for Outcome {
    type Error = UnknownOutcome;

    fn try_from(text: String) -> Result<Self, UnknownOutcome> {
        match text.as_str() {
            "success" => Ok(Self::Success),
            "refused" => Ok(Self::Refused),
            _ => Err(UnknownOutcome),
        }
    }
}

/// What is written about one event.
#[derive(Clone, Debug)]
pub struct Entry {
    pub(super) id: AuditId,
    pub(super) time: Timestamp,
    pub(super) event: &'static str,
    pub(super) actor: Actor,
    /// The id of what it happened to.
    pub(super) subject: Option<String>,
    /// The account that it is about.
    pub(super) account_id: Option<AccountId>,
    /// The site that it is about.
    pub(super) site_id: Option<SiteId>,
    pub(super) address: Option<IpAddr>,
    pub(super) user_agent: Option<Arc<str>>,
    pub(super) outcome: Outcome,
    pub(super) detail: Value,
}

impl Entry {
    pub(crate) fn of_change(
        by: &Context,
        change: &Change,
        now: Timestamp,
        randomness: &Randomness,
    ) -> Self {
        Self {
            id: AuditId::new(now, randomness),
            time: now,
            event: change.event(),
            actor: by.actor,
            subject: Some(change.subject()),
            account_id: change.account_id(),
            site_id: change.site_id(),
            address: by.address,
            user_agent: by.user_agent.clone(),
            outcome: if change.is_refusal() {
                Outcome::Refused
            } else {
                Outcome::Success
            },
            detail: change.detail(),
        }
    }
}
