//! The verdict on a token: its signature and its record, judged for one machine.

use std::sync::Arc;

use super::record::{Binding, HeldToken, Reason, SiteState, judge};
use crate::{
    error::ApiError,
    keys::{Rejected, TokenClaims},
    quota::{Charge, Disclosure, Meter, Payer},
    state::AppState,
    types::{clock::Timestamp, ids::MachineId},
};

/// What is to be said of a token on a machine.
#[derive(Clone)]
pub(super) enum Verdict {
    /// Valid, if it can be charged, and bound to the machine where it is not yet.
    Good {
        claims: TokenClaims,
        held: Arc<HeldToken>,
        binding: Binding,
    },
    /// Not valid.
    Refused {
        reason: Reason,
        /// The record, when the token is one of ours.
        record: Option<Arc<HeldToken>>,
    },
}

impl Verdict {
    /// Judges a token by its signature and then by its record.
    pub(super) async fn on(
        token: &str,
        machine_id: &MachineId,
        state: &AppState,
    ) -> Result<Self, ApiError> {
        let claims = match state.keys.verify(token).await? {
            Ok(claims) => claims,
            Err(rejected) => {
                let reason = match rejected {
                    Rejected::Malformed => Reason::Malformed,
                    Rejected::BadSignature => Reason::BadSignature,
                };
                return Ok(Self::Refused {
                    reason,
                    record: None,
                });
            }
        };
        let held = state.tokens.find(claims.token_id).await?;
        Ok(Self::of(claims, held, machine_id, state.clock.now()))
    }

    /// Judges a token whose signature is ours by its record.
    pub(super) fn of(
        claims: TokenClaims,
        held: Option<HeldToken>,
        machine_id: &MachineId,
        now: Timestamp,
    ) -> Self {
        let judged = judge(&claims, held.as_ref(), machine_id, now);
        let held = held.map(Arc::new);
        match (judged, held) {
            (Ok(binding), Some(held)) => Self::Good {
                claims,
                held,
                binding,
            },
            (Ok(_), None) => Self::Refused {
                reason: Reason::UnknownToken,
                record: None,
            },
            (Err(reason), held) => Self::Refused {
                reason,
                record: held.filter(|_| reason != Reason::BadSignature),
            },
        }
    }

    /// Who pays for the verdict, if it is to be charged.
    pub(super) fn meter(&self) -> Meter {
        let (held, charge) = match self {
            Self::Good { held, .. } => (Some(held), Charge::Call),
            Self::Refused { record, .. } => (record.as_ref(), Charge::Nothing),
        };
        Meter {
            payer: held.and_then(|held| match &held.site {
                SiteState::Present { plan, .. } => Some(Payer {
                    site_id: held.record.site_id,
                    plan: plan.clone(),
                }),
                SiteState::Deleted => None,
            }),
            charge,
            disclosure: Disclosure::Hidden,
        }
    }
}
