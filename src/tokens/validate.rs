//! `POST /mirrory/validate-token`: a desktop app asks, at its start, whether its token is good on
//! this machine.

use std::{net::IpAddr, time::Duration};

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
    verdict::Verdict,
};
use crate::{
    error::ApiError,
    extract::{Fields, Json, parse_object, string},
    middleware::client_address::ClientAddress,
    openapi::{ValidateTokenProblems, always},
    quota::{Answer, Outcome},
    state::{AppState, Rooms},
    types::{
        clock::{Monotonic, Timestamp},
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
pub enum ValidateTokenResponse {
    /// The token is good on this machine.
    Valid(ValidToken),
    /// It is not.
    Refused(RefusedToken),
}

/// A token that is good on the machine that asks.
#[derive(Debug, Serialize, ToSchema)]
pub struct ValidToken {
    /// Always true.
    #[schema(schema_with = always::<true>)]
    valid: bool,
    /// The WordPress user that it is for.
    user_id: WpUserId,
    /// The machine that it is bound to: the one that asks.
    machine_id: MachineId,
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
    judged_at: Monotonic,
    turn: Option<Turn>,
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
    ) -> Result<Identified<Self>, Refused> {
        let ValidateFields { token, machine_id } = fields;
        let (mut verdict, turn) = Verdict::on(&token, &machine_id, state).await?;
        let judged_at = state.clock.monotonic();
        if let Some(claims) = verdict.claims()
            && let Err(used_up) = state.attempts.verdict(claims.token_id, judged_at)
        {
            verdict = verdict.read(&machine_id, state).await?;
            if verdict.claims().is_some() {
                return Err(used_up.into());
            }
        }
        if let Verdict::Refused {
            reason: Reason::Malformed | Reason::BadSignature,
            ..
        } = &verdict
        {
            state.attempts.failure(address, judged_at)?;
        }
        let meter = verdict.meter();
        let call = Self {
            machine_id,
            verdict,
            judged_at,
            turn,
        };
        Ok(Identified { call, meter })
    }

    /// A machine that came first may have the token meanwhile. A refusal with its reason is told in
    /// place of the quota's.
    async fn costs_nothing(&mut self, state: &AppState) -> Result<bool, ApiError> {
        self.judge_again(&state.tokens, state.clock.now()).await
    }

    fn counted(&self) -> Option<TokenId> {
        self.verdict.claims().map(|claims| claims.token_id)
    }
}

impl ValidateToken {
    /// Judges the token by its record as it is now; whether it is refused.
    async fn judge_again(&mut self, tokens: &Tokens, now: Timestamp) -> Result<bool, ApiError> {
        if let Some(claims) = self.verdict.claims() {
            let held = tokens.find(claims.token_id).await?;
            self.verdict = Verdict::of(claims, held, &self.machine_id, now);
        }
        Ok(matches!(self.verdict, Verdict::Refused { .. }))
    }
}

fn token(value: &RawValue) -> Result<String, String> {
    let token = string(value)?;
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
pub(crate) async fn validate_token(known: Known<ValidateToken>) -> Result<Answer, ApiError> {
    let Known {
        mut call,
        parts,
        state,
    } = known;
    let Rooms {
        tokens,
        clock,
        metrics,
        ..
    } = &*state;
    if clock.monotonic().since(call.judged_at) > JUDGED_FOR {
        call.judge_again(tokens, clock.now()).await?;
    }
    let ValidateToken {
        machine_id,
        mut verdict,
        turn: _turn,
        ..
    } = call;
    for _ in 0..TRIES {
        let claims = match verdict {
            Verdict::Refused { reason, record } => {
                let record = record.as_ref().map(|held| &**held.record);
                if let (Reason::MachineMismatch, Some(record)) = (reason, record) {
                    refused_machine::note(record, &parts, &state.tally);
                }
                metrics.verdict(reason.name());
                return Ok(Answer::free(Json(refusal(reason, record))));
            }
            Verdict::Good {
                held,
                binding: Binding::Bound,
                ..
            } => {
                let now = clock.now();
                if held.record.last_noted.is_due(now) {
                    tokens.note_use(held.record.token_id, now);
                }
                metrics.verdict(VALID);
                return Ok(valid(&held.record, machine_id));
            }
            Verdict::Good { claims, .. } | Verdict::Unread { claims, .. } => claims,
        };
        if let Some(record) = tokens.bind(claims, &machine_id).await? {
            metrics.verdict(VALID);
            return Ok(valid(&record, machine_id));
        }
        // Another machine came first, or the token is no longer good, or bound here and in use: the
        // record tells.
        let held = tokens.find(claims.token_id).await?;
        verdict = Verdict::of(claims, held, &machine_id, clock.now());
        if let Verdict::Refused {
            reason: Reason::BadSignature,
            ..
        } = verdict
        {
            let ClientAddress(address) = ClientAddress::of(&parts)?;
            state.attempts.failure(address, clock.monotonic())?;
        }
    }
    Err(ApiError::Overloaded)
}

fn valid(record: &TokenRecord, machine_id: MachineId) -> Answer {
    let body = ValidateTokenResponse::Valid(ValidToken {
        valid: true,
        user_id: record.user_id,
        machine_id,
        expires_at: record.expires_at,
    });
    Answer::to(Outcome::Validated, Json(body))
}

fn refusal(reason: Reason, record: Option<&TokenRecord>) -> ValidateTokenResponse {
    ValidateTokenResponse::Refused(RefusedToken {
        valid: false,
        reason,
        user_id: record.map(|record| record.user_id),
        expires_at: record.map(|record| record.expires_at),
    })
}
