//! `POST /mirrory/validate-token`: a desktop app asks, at its start, whether its token is good on
//! this machine.

use std::{net::IpAddr, ops::ControlFlow, time::Duration};

use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{
    fields,
    identify::{Call, Identified, Known, Refused},
    record::{Binding, Reason, TokenRecord},
    refused_machine,
    registry::Tokens,
    turns::Turn,
    verdict::{Judgement, Verdict},
};
use crate::{
    error::ApiError,
    extract::{Fields, Json, opaque, parse_object},
    keys::TokenClaims,
    middleware::{admission::Admitted, client_address::ClientAddress},
    openapi::{ValidateTokenProblems, always},
    quota::{Answer, Outcome},
    state::{AppState, Rooms},
    types::{
        clock::{Clock, Moment, Timestamp},
        ids::{MachineId, TokenId, WpUserId},
    },
};

/// The longest token that is looked at, in bytes.
const MAX_TOKEN_BYTES: usize = 8192;

/// How long a verdict stands while its call waits to be charged. When the store is slow a token may
/// be revoked, or end, before the answer is given.
const JUDGED_FOR: Duration = Duration::from_millis(100);

/// The verdict that has no [`Reason`], in metrics.
const VALID: &str = "valid";

/// How often a binding is tried again when the token was released between two looks at it.
const TRIES: usize = 5;

/// What an app sends.
#[derive(Deserialize, ToSchema)]
struct ValidateTokenRequest<'a> {
    /// The token, as it was issued: 1 to 8192 bytes of UTF-8.
    #[serde(borrow)]
    #[schema(
        value_type = String,
        min_length = 1,
        examples("eyJhbGciOiJIUzI1NiJ9.ZXhhbXBsZQ.bm8tc2lnbmF0dXJl"),
        extensions(("x-max-bytes" = json!(MAX_TOKEN_BYTES)))
    )]
    token: Option<&'a RawValue>,
    /// The machine that asks.
    #[serde(borrow)]
    #[schema(value_type = MachineId)]
    machine_id: Option<&'a RawValue>,
}

/// The verdict: `valid` tells which of the two it is.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum ValidateTokenResponse<'a> {
    /// The token is good on this machine.
    Valid(ValidToken<'a>),
    /// It is not.
    Refused(RefusedToken),
}

/// A token that is good on the machine that asks.
#[derive(Debug, Serialize, ToSchema)]
pub struct ValidToken<'a> {
    /// Always true.
    #[schema(schema_with = always::<true>)]
    valid: bool,
    /// The WordPress user that it is for.
    user_id: WpUserId,
    /// The machine that it is bound to: the one that asks.
    #[schema(value_type = MachineId)]
    machine_id: &'a MachineId,
    /// When it expires.
    expires_at: Timestamp,
}

/// A token that is not good, and why.
#[derive(Debug, Serialize, ToSchema)]
pub struct RefusedToken {
    /// Always false.
    #[schema(schema_with = always::<false>)]
    valid: bool,
    /// The first reason that was found, in the order in which they stand there.
    reason: Reason,
    /// The WordPress user that it is for; absent unless its signature is ours and its record
    /// agrees.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    user_id: Option<WpUserId>,
    /// When it expires or expired; absent when `user_id` is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    expires_at: Option<Timestamp>,
}

/// The call, once the token is judged by what the store knows of it.
pub(crate) struct ValidateToken {
    machine_id: MachineId,
    verdict: Verdict,
    judged_at: Moment,
    /// Held until the call is answered.
    _turn: Option<Turn>,
}

/// The fields of the call.
pub(crate) struct ValidateFields {
    token: String,
    machine_id: MachineId,
}

impl Call for ValidateToken {
    type Fields = ValidateFields;

    fn parse(_: &HeaderMap, body: &[u8]) -> Result<ValidateFields, ApiError> {
        let body: ValidateTokenRequest = parse_object(body)?;
        let mut fields = Fields::default();
        let token = fields.required("token", body.token, token);
        let machine_id = fields.required("machine_id", body.machine_id, fields::machine_id);
        fields.finish(
            token
                .zip(machine_id)
                .map(|(token, machine_id)| ValidateFields { token, machine_id }),
        )
    }

    async fn identify(
        fields: ValidateFields,
        address: IpAddr,
        state: &AppState,
        admitted: &mut Admitted,
    ) -> Result<Identified<Self>, Refused> {
        let ValidateFields { token, machine_id } = fields;
        let Judgement {
            mut verdict,
            at,
            turn,
        } = Verdict::on(&token, &machine_id, state, admitted).await?;
        if let Some(claims) = verdict.claims()
            && let Err(used_up) = state.attempts.verdict(claims.token_id, at.monotonic)
        {
            verdict = Box::pin(verdict.read(&machine_id, state)).await?;
            if verdict.claims().is_some() {
                return Err(used_up.into());
            }
        }
        if let Verdict::Refused {
            reason: Reason::Malformed | Reason::BadSignature,
            ..
        } = &verdict
        {
            state.attempts.failure(address, at.monotonic)?;
        }
        let meter = verdict.meter();
        let call = Self {
            machine_id,
            verdict,
            judged_at: at,
            _turn: turn,
        };
        Ok(Identified { call, meter })
    }

    /// A machine that came first may have the token meanwhile. A refusal with its reason is told in
    /// place of the quota's.
    async fn costs_nothing(&mut self, state: &AppState) -> Result<bool, ApiError> {
        self.judge_again(&state.tokens, &state.clock).await?;
        Ok(matches!(self.verdict, Verdict::Refused { .. }))
    }

    fn counted(&self) -> Option<TokenId> {
        self.verdict.claims().map(|claims| claims.token_id)
    }
}

impl ValidateToken {
    /// Judges a token that is not refused by its record as it is now.
    async fn judge_again(&mut self, tokens: &Tokens, clock: &Clock) -> Result<(), ApiError> {
        if let Some(claims) = self.verdict.claims() {
            let held = tokens.find(claims.token_id).await?;
            self.judged_at = clock.moment();
            self.verdict = Verdict::of(claims, held, &self.machine_id, self.judged_at.wall);
        }
        Ok(())
    }
}

fn token(value: &RawValue) -> Result<String, String> {
    let token = opaque(value)?;
    if token.is_empty() || token.len() > MAX_TOKEN_BYTES {
        return Err(format!("must be a string of 1 to {MAX_TOKEN_BYTES} bytes"));
    }
    Ok(token)
}

/// Validate a token
///
/// For the desktop app, at its start. The first valid verdict binds the token to the machine; from
/// then on it is valid there alone, until the site's proxy releases it. A `valid: true` is charged
/// to the site's plan as one call; a refusal is a 200 with `valid: false` and its reason, and costs
/// nothing. With the quota used up every refusal is still told, and only what would be valid is
/// answered 429 `quota_exceeded`, and binds nothing.
///
/// One token is good for 30 valid verdicts at once and 30 more an hour (the setting
/// `limits.validations_per_token_per_hour`); after 30 failures a minute from one client address
/// (`limits.failures_per_minute`) a verdict `malformed` or `bad_signature` is refused. Both are
/// answered 429 `too_many_attempts`, and counted by each instance.
#[utoipa::path(
    post,
    path = "/mirrory/validate-token",
    tag = "tokens",
    request_body(
        content = ValidateTokenRequest,
        description = "Also any media type that ends in `+json`; at most 16384 bytes.",
        example = json!({
            "token": "eyJhbGciOiJIUzI1NiJ9.ZXhhbXBsZQ.bm8tc2lnbmF0dXJl",
            "machine_id": "desktop-machine-uuid-1234567890"
        })
    ),
    responses(
        (
            status = 200,
            description = "The verdict, whether the token is valid or not.",
            body = ValidateTokenResponse,
            examples(
                ("valid" = (
                    summary = "Good on this machine",
                    value = json!({
                        "valid": true,
                        "user_id": 12345,
                        "machine_id": "desktop-machine-uuid-1234567890",
                        "expires_at": "2026-12-31T23:59:59Z"
                    })
                )),
                ("refused" = (
                    summary = "One of ours, bound to another machine",
                    value = json!({
                        "valid": false,
                        "reason": "machine_mismatch",
                        "user_id": 12345,
                        "expires_at": "2026-12-31T23:59:59Z"
                    })
                )),
                ("foreign" = (
                    summary = "Not one of ours",
                    value = json!({"valid": false, "reason": "bad_signature"})
                ))
            )
        ),
        ValidateTokenProblems
    )
)]
pub(crate) async fn validate_token(
    mut known: Box<Known<ValidateToken>>,
) -> Result<Answer, ApiError> {
    let Known { call, state, .. } = &mut *known;
    if state.clock.monotonic().since(call.judged_at.monotonic) > JUDGED_FOR {
        Box::pin(call.judge_again(&state.tokens, &state.clock)).await?;
    }
    for _ in 0..TRIES {
        let claims = match known.answer() {
            ControlFlow::Break(answer) => return Ok(answer),
            ControlFlow::Continue(claims) => claims,
        };
        // On the heap, since it is large, and a token is seldom bound.
        if let Some(answer) = Box::pin(known.bind(claims)).await? {
            return Ok(answer);
        }
    }
    Err(ApiError::Overloaded)
}

impl Known<ValidateToken> {
    /// The answer, or the claims of a token that is to be bound first.
    fn answer(&self) -> ControlFlow<Answer, TokenClaims> {
        let Rooms {
            tokens,
            metrics,
            tally,
            ..
        } = &*self.state;
        match &self.call.verdict {
            Verdict::Refused { reason, record } => {
                let record = record.as_ref().map(|held| &**held.record);
                if let (Reason::MachineMismatch, Some(record)) = (reason, record) {
                    refused_machine::note(record, &self.parts, tally);
                }
                metrics.verdict(reason.name());
                ControlFlow::Break(Answer::free(Json(refusal(*reason, record))))
            }
            Verdict::Good {
                held,
                binding: Binding::Bound,
                ..
            } => {
                let used_at = self.call.judged_at.wall;
                if held.record.last_noted.is_due(used_at) {
                    tokens.note_use(held.record.token_id, used_at);
                }
                ControlFlow::Break(self.valid(&held.record))
            }
            Verdict::Good { claims, .. } | Verdict::Unread { claims, .. } => {
                ControlFlow::Continue(*claims)
            }
        }
    }

    /// Binds the token to the machine, or judges it anew: another machine came first, or it is no
    /// longer good, or bound here and in use.
    async fn bind(&mut self, claims: TokenClaims) -> Result<Option<Answer>, ApiError> {
        let Rooms {
            tokens,
            clock,
            attempts,
            ..
        } = &*self.state;
        if let Some(record) = tokens.bind(claims, &self.call.machine_id).await? {
            return Ok(Some(self.valid(&record)));
        }
        self.call.judge_again(tokens, clock).await?;
        if let Verdict::Refused {
            reason: Reason::BadSignature,
            ..
        } = self.call.verdict
        {
            let ClientAddress(address) = ClientAddress::of(&self.parts)?;
            attempts.failure(address, self.call.judged_at.monotonic)?;
        }
        Ok(None)
    }

    fn valid(&self, record: &TokenRecord) -> Answer {
        self.state.metrics.verdict(VALID);
        let body = ValidateTokenResponse::Valid(ValidToken {
            valid: true,
            user_id: record.user_id,
            machine_id: &self.call.machine_id,
            expires_at: record.expires_at,
        });
        Answer::to(Outcome::Validated, Json(body))
    }
}

fn refusal(reason: Reason, record: Option<&TokenRecord>) -> ValidateTokenResponse<'static> {
    ValidateTokenResponse::Refused(RefusedToken {
        valid: false,
        reason,
        user_id: record.map(|record| record.user_id),
        expires_at: record.map(|record| record.expires_at),
    })
}
