//! What was changed about a site.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::types::ids::AccountId;

/// What was changed about a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SiteChange {
    /// It was made.
    Created {
        /// Its name.
        name: String,
        /// Its plan.
        plan: String,
        /// The account that it belongs to.
        owner: Option<AccountId>,
    },
    /// These of its fields were set, or it was resumed.
    Updated(Vec<FieldChange>),
    /// It was suspended.
    Suspended,
    /// It was deleted.
    Deleted {
        /// The account that it belonged to.
        owner: Option<AccountId>,
    },
    /// It has a new secret, and its old one an end.
    SecretRotated {
        /// When the old one ends from then on.
        grace: Duration,
    },
    /// What it has used of its plan was set to nothing.
    UsageReset,
}

/// A field that was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldChange {
    /// Its name.
    pub field: &'static str,
    /// What it was.
    pub from: Value,
    /// What it is.
    pub to: Value,
}

impl SiteChange {
    pub(super) const fn event(&self) -> &'static str {
        match self {
            Self::Created { .. } => "site.created",
            Self::Updated(_) => "site.updated",
            Self::Suspended => "site.suspended",
            Self::Deleted { .. } => "site.deleted",
            Self::SecretRotated { .. } => "secret.rotated",
            Self::UsageReset => "usage.reset",
        }
    }

    /// The account that it is about. When a site is gone, only this tells whose it was.
    pub(super) const fn account_id(&self) -> Option<AccountId> {
        match self {
            Self::Deleted { owner } => *owner,
            _ => None,
        }
    }

    pub(super) fn detail(&self) -> Value {
        match self {
            Self::Created { name, plan, owner } => {
                json!({ "name": name, "plan": plan, "owner": owner })
            }
            Self::Updated(fields) => {
                let fields = fields.iter().map(|FieldChange { field, from, to }| {
                    ((*field).to_owned(), json!({ "from": from, "to": to }))
                });
                Value::Object(fields.collect::<Map<_, _>>())
            }
            Self::SecretRotated { grace } => json!({ "grace_seconds": grace.as_secs() }),
            Self::Suspended | Self::Deleted { .. } | Self::UsageReset => json!({}),
        }
    }
}
