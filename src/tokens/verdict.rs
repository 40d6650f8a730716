//! The verdict on a token: its signature and its record, judged for one machine.

use super::{
    record::{Binding, HeldToken, Reason, judge},
    turns::{Subject, Turn},
};
use crate::{
    error::ApiError,
    keys::{Rejected, TokenClaims},
    quota::{Charge, Disclosure, Meter, Payer},
    sites::SiteState,
    state::AppState,
    types::{
        clock::Timestamp,
        ids::{MachineId, TokenId},
    },
};

/// What is to be said of a token on a machine.
#[derive(Clone)]
pub(super) enum Verdict {
    /// Valid, if it can be charged, and bound to the machine where it is not yet.
    Good {
        claims: TokenClaims,
        held: HeldToken,
        binding: Binding,
    },
    /// Not valid.
    Refused {
        reason: Reason,
        /// The record, when the token is one of ours.
        record: Option<HeldToken>,
    },
}

impl Verdict {
    /// Judges a token by its signature and then by its record. With a verdict that is to bind comes
    /// the turn to do so: of many machines at once the first one is charged and binds, and the
    /// others find the token bound.
    pub(super) async fn on(
        token: &str,
        machine_id: &MachineId,
        state: &AppState,
    ) -> Result<(Self, Option<Turn>), ApiError> {
        let claims = match state.keys.verify(token).await? {
            Ok(claims) => claims,
            Err(rejected) => return Ok((rejected.into(), None)),
        };
        let token_id = claims.token_id;
        let of = |held| Self::of(claims, held, machine_id, state.clock.now());
        let verdict = of(look_up(token_id, state).await?);
        if !verdict.is_to_bind() {
            return Ok((verdict, None));
        }
        // Only now: requests about a token that nobody binds need not wait for each other.
        let turn = state.tokens.turn(Subject::Binding(token_id)).await;
        let turn = turn.ok_or(ApiError::Overloaded)?;
        let is_bound_meanwhile =
            turn.has_waited || state.tokens.remembered(token_id, &state.sites).is_some();
        if !is_bound_meanwhile {
            return Ok((verdict, Some(turn)));
        }
        let verdict = of(look_up(token_id, state).await?);
        let turn = verdict.is_to_bind().then_some(turn);
        Ok((verdict, turn))
    }

    const fn is_to_bind(&self) -> bool {
        matches!(
            self,
            Self::Good {
                binding: Binding::Unbound,
                ..
            }
        )
    }

    /// Judges a token whose signature is ours by its record.
    pub(super) fn of(
        claims: TokenClaims,
        held: Option<HeldToken>,
        machine_id: &MachineId,
        now: Timestamp,
    ) -> Self {
        let judged = judge(&claims, held.as_ref(), machine_id, now);
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

impl From<Rejected> for Verdict {
    fn from(rejected: Rejected) -> Self {
        Self::Refused {
            reason: match rejected {
                Rejected::Malformed => Reason::Malformed,
                Rejected::BadSignature => Reason::BadSignature,
            },
            record: None,
        }
    }
}

/// A token's record and the state of its site, remembered or read; what is read is remembered.
async fn look_up(token_id: TokenId, state: &AppState) -> Result<Option<HeldToken>, ApiError> {
    if let Some(held) = state.tokens.remembered(token_id, &state.sites) {
        return Ok(Some(held));
    }
    let (of_token, of_site) = (state.tokens.reading(), state.sites.reading());
    let held = state.tokens.find(token_id).await?;
    if let Some(held) = &held {
        let site_id = held.record.site_id;
        state.tokens.remember(of_token, held);
        state.sites.remember(of_site, site_id, held.site.clone());
    }
    Ok(held)
}
