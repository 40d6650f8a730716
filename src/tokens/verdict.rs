//! The verdict on a token: its signature and its record, judged for one machine.

use std::sync::Arc;

use super::{
    record::{Binding, HeldToken, Reason, judge},
    turns::{Place, Subject, Turn, turn_of},
};
use crate::{
    error::ApiError,
    keys::{Rejected, TokenClaims},
    middleware::admission::Admitted,
    quota::{Charge, Disclosure, Meter, Payer},
    sites::{SiteState, SiteStatus},
    state::{AppState, Rooms},
    types::{
        clock::{Moment, Timestamp},
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
    /// Signed by this service for a site that is active, and not remembered. Binding it reads its
    /// record and judges it.
    Unread { claims: TokenClaims, plan: Arc<str> },
    /// Not valid.
    Refused {
        reason: Reason,
        /// The record, when the token is one of ours.
        record: Option<HeldToken>,
    },
}

/// A verdict, and when it was found.
pub(super) struct Judgement {
    pub(super) verdict: Verdict,
    pub(super) at: Moment,
    /// With a verdict that is to bind, the turn to do so.
    pub(super) turn: Option<Turn>,
}

impl Verdict {
    /// Judges a token by its signature and then by its record. With a verdict that is to bind comes
    /// the turn to do so: of many machines at once the first one is charged and binds, and the
    /// others find the token bound.
    pub(super) async fn on(
        token: &str,
        machine_id: &MachineId,
        state: &AppState,
        admitted: &mut Admitted,
    ) -> Result<Judgement, ApiError> {
        let verified = state.keys.verify(token).await?;
        // Not before: the keys may have been waited for.
        let at = state.clock.moment();
        state.database.require_right_clock(&state.clock, at)?;
        let claims = match verified {
            Ok(claims) => claims,
            Err(rejected) => return Ok(Self::from(rejected).judged_at(at)),
        };
        if let Some(verdict) = Self::remembered(claims, machine_id, at, state)
            && !verdict.is_to_bind()
        {
            return Ok(verdict.judged_at(at));
        }
        // On the heap, for it is large, and most tokens are remembered.
        Box::pin(Self::unremembered(claims, machine_id, at, state, admitted)).await
    }

    /// Judges a token by what is remembered of it.
    fn remembered(
        claims: TokenClaims,
        machine_id: &MachineId,
        at: Moment,
        state: &AppState,
    ) -> Option<Self> {
        let Rooms { tokens, sites, .. } = &**state;
        let held = tokens.remembered(claims.token_id, sites, at.monotonic)?;
        Some(Self::of(claims, Some(held), machine_id, at.wall))
    }

    /// Judges a token that the store is to be asked about, or to bind: one of not too many requests.
    async fn unremembered(
        claims: TokenClaims,
        machine_id: &MachineId,
        at: Moment,
        state: &AppState,
        admitted: &mut Admitted,
    ) -> Result<Judgement, ApiError> {
        let place = state.tokens.enter(Subject::Token(claims.token_id))?;
        let judgement = Self::unknown(claims, machine_id, at, state).await?;
        if !judgement.verdict.is_to_bind() {
            return Ok(judgement);
        }
        judgement
            .in_turn(claims, machine_id, state, (place, admitted))
            .await
    }

    const fn judged_at(self, at: Moment) -> Judgement {
        Judgement {
            verdict: self,
            at,
            turn: None,
        }
    }

    /// Judges a token by what is remembered of it, else by what is in the store.
    async fn now(
        claims: TokenClaims,
        machine_id: &MachineId,
        at: Moment,
        state: &AppState,
    ) -> Result<Judgement, ApiError> {
        match Self::remembered(claims, machine_id, at, state) {
            Some(verdict) => Ok(verdict.judged_at(at)),
            None => Self::unknown(claims, machine_id, at, state).await,
        }
    }

    /// Judges a token that nothing is remembered of.
    async fn unknown(
        claims: TokenClaims,
        machine_id: &MachineId,
        at: Moment,
        state: &AppState,
    ) -> Result<Judgement, ApiError> {
        if let Some(plan) = plan_of_unread(&claims, at, state) {
            return Ok(Self::Unread { claims, plan }.judged_at(at));
        }
        let verdict = Self::stored(claims, machine_id, state).await?;
        Ok(verdict.judged_at(state.clock.moment()))
    }

    /// Judges a token by what is in the store.
    async fn stored(
        claims: TokenClaims,
        machine_id: &MachineId,
        state: &AppState,
    ) -> Result<Self, ApiError> {
        let held = find(claims.token_id, state).await?;
        Ok(Self::of(claims, held, machine_id, state.clock.now()))
    }

    /// The verdict by the record, of a token that is not to be bound unread.
    pub(super) async fn read(
        self,
        machine_id: &MachineId,
        state: &AppState,
    ) -> Result<Self, ApiError> {
        match self {
            Self::Unread { claims, .. } => Self::stored(claims, machine_id, state).await,
            read => Ok(read),
        }
    }

    const fn is_to_bind(&self) -> bool {
        match self {
            Self::Good { binding, .. } => matches!(binding, Binding::Unbound),
            Self::Unread { .. } => true,
            Self::Refused { .. } => false,
        }
    }

    /// The claims of a token that is not refused.
    pub(super) const fn claims(&self) -> Option<TokenClaims> {
        match self {
            Self::Good { claims, .. } | Self::Unread { claims, .. } => Some(*claims),
            Self::Refused { .. } => None,
        }
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
        let (payer, charge) = match self {
            Self::Good { held, .. } => (payer(held), Charge::Call),
            Self::Unread { claims, plan } => {
                let plan = Arc::clone(plan);
                let site_id = claims.site_id;
                (Some(Payer { site_id, plan }), Charge::Call)
            }
            Self::Refused { record, .. } => (record.as_ref().and_then(payer), Charge::Nothing),
        };
        Meter {
            payer,
            charge,
            disclosure: Disclosure::Hidden,
        }
    }
}

impl Judgement {
    /// Waits for the turn to bind the token, and judges it anew when another request came before.
    async fn in_turn(
        self,
        claims: TokenClaims,
        machine_id: &MachineId,
        state: &AppState,
        (place, admitted): (Place, &mut Admitted),
    ) -> Result<Self, ApiError> {
        let Rooms { tokens, sites, .. } = &**state;
        // Only now: requests about a token that nobody binds need not wait for each other.
        let turn = turn_of(place, admitted).await?;
        let now = state.clock.moment();
        let may_be_bound = turn.has_waited
            || tokens
                .remembered(claims.token_id, sites, now.monotonic)
                .is_some();
        let judgement = if may_be_bound {
            Verdict::now(claims, machine_id, now, state).await?
        } else {
            self
        };
        let turn = judgement.verdict.is_to_bind().then_some(turn);
        Ok(Self { turn, ..judgement })
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

fn payer(held: &HeldToken) -> Option<Payer> {
    match &held.site {
        SiteState::Present { plan, .. } => Some(Payer {
            site_id: held.record.site_id,
            plan: Arc::clone(plan),
        }),
        SiteState::Deleted => None,
    }
}

/// The plan that pays for a token which is bound without a look at its record before: only where a
/// refusal that comes of it gives its call back into a block. With few calls a day each is taken
/// from the store, and another request might be refused for one that is given back. Without a memory
/// every request would bind anew.
fn plan_of_unread(claims: &TokenClaims, at: Moment, state: &AppState) -> Option<Arc<str>> {
    let remembers = state.config.tokens.cache_capacity > 0;
    if !remembers || at.wall >= claims.expires_at {
        return None;
    }
    match state.sites.remembered(claims.site_id, at.monotonic)? {
        SiteState::Present {
            status: SiteStatus::Active,
            plan,
        } => state.ledger.takes_blocks(&plan).then_some(plan),
        _ => None,
    }
}

/// A token's record and the state of its site, read and remembered.
async fn find(token_id: TokenId, state: &AppState) -> Result<Option<HeldToken>, ApiError> {
    let reading = state.sites.reading();
    let held = state.tokens.find(token_id).await?;
    if let Some(held) = &held {
        let site_id = held.record.site_id;
        state.sites.remember(reading, site_id, held.site.clone());
    }
    Ok(held)
}
