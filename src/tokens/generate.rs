//! `POST /mirrory/generate-token`: a site's proxy has deducted the coins and asks for a token.

use std::net::IpAddr;

use axum::{
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::IntoResponse,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{
    fields,
    identify::{Call, Identified, Known, Refused, prove},
    record::TokenRecord,
    registry::Tokens,
    store::{Idempotency, Inserted, KeyUse},
    turns::{Subject, Turn, turn_of},
};
use crate::{
    error::ApiError,
    extract::{Fields, Json, parse_object},
    middleware::admission::Admitted,
    openapi::{GenerateTokenProblems, WpUserIdInput},
    quota::{Answer, Charge, Disclosure, Meter, Outcome, Payer},
    sites::{Caller, SiteStatus},
    state::{AppState, Rooms},
    types::{
        clock::{Clock, Timestamp},
        ids::{MachineId, SiteId, TokenId, WpUserId},
        secret::ProxySecret,
    },
};

const IDEMPOTENCY_KEY: &str = "Idempotency-Key";
const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// What a site's proxy sends.
#[derive(Deserialize, ToSchema)]
struct GenerateTokenRequest<'a> {
    /// The WordPress user that the token is for.
    #[serde(borrow)]
    #[schema(value_type = WpUserIdInput)]
    wp_user_id: Option<&'a RawValue>,
    /// A live secret of the site. It proves who calls.
    #[serde(borrow)]
    #[schema(value_type = ProxySecret)]
    proxy_secret: Option<&'a RawValue>,
    /// The machine to bind the token to from the start. Leave it out, or null, to bind the token to
    /// the first machine that validates it.
    #[serde(borrow)]
    #[schema(value_type = Option<MachineId>)]
    machine_id: Option<&'a RawValue>,
}

/// A new token, or the one that the idempotency key stands for.
#[derive(Debug, Serialize, ToSchema)]
pub struct GenerateTokenResponse {
    /// The token: a signed JWT (RFC 7519) in the compact serialization of JWS (RFC 7515). Hand it
    /// to the customer's app, and to nobody else.
    #[schema(
        examples("eyJhbGciOiJIUzI1NiJ9.ZXhhbXBsZQ.bm8tc2lnbmF0dXJl"),
        pattern = r"^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$"
    )]
    token: String,
    /// Seconds until it expires; 0 when it has.
    #[schema(examples(86400))]
    expires_in: u64,
    /// The WordPress user that it is for.
    user_id: WpUserId,
    /// Its id. Keep it beside the order: it is what revokes or releases the token.
    token_id: TokenId,
    /// When it expires.
    expires_at: Timestamp,
}

/// The call, once its caller is proven.
pub(crate) struct GenerateToken {
    site_id: SiteId,
    user_id: WpUserId,
    machine_id: Option<MachineId>,
    idempotency: Option<Idempotency>,
    replay: Option<TokenRecord>,
    turn: Option<Turn>,
}

/// The fields of the call.
pub(crate) struct GenerateFields {
    user_id: WpUserId,
    secret: ProxySecret,
    machine_id: Option<MachineId>,
    idempotency: Option<Idempotency>,
}

impl Call for GenerateToken {
    type Fields = GenerateFields;

    fn parse(headers: &HeaderMap, body: &[u8]) -> Result<GenerateFields, ApiError> {
        let body: GenerateTokenRequest = parse_object(body)?;
        let mut fields = Fields::default();
        let user_id = fields.required("wp_user_id", body.wp_user_id, fields::user_id);
        let secret = fields.required("proxy_secret", body.proxy_secret, fields::proxy_secret);
        let machine_id = fields.optional("machine_id", body.machine_id, fields::machine_id);
        let key = idempotency_key(headers).unwrap_or_else(|message| {
            fields.refuse(IDEMPOTENCY_KEY, message.to_owned());
            None
        });
        fields.finish(user_id.zip(secret).map(|(user_id, secret)| GenerateFields {
            idempotency: key.map(|key| Idempotency::new(key, user_id, machine_id.as_ref())),
            user_id,
            secret,
            machine_id,
        }))
    }

    async fn identify(
        fields: GenerateFields,
        address: IpAddr,
        state: &AppState,
        admitted: &mut Admitted,
    ) -> Result<Identified<Self>, Refused> {
        let caller = prove::<Self>(&fields.secret, address, state).await?;
        let mut meter = meter(&caller);
        if caller.status == SiteStatus::Suspended {
            return Err(Refused::after_proof(ApiError::SiteSuspended, &meter));
        }
        let mut call = Self {
            site_id: caller.site_id,
            user_id: fields.user_id,
            machine_id: fields.machine_id,
            replay: None,
            idempotency: fields.idempotency,
            turn: None,
        };
        let looking = async {
            call.wait_for_key(&state.tokens, admitted).await?;
            call.find_replay(&state.tokens).await
        };
        let is_replay = looking
            .await
            .map_err(|error| Refused::after_proof(error, &meter))?;
        if is_replay {
            call.turn = None;
            meter.charge = Charge::Nothing;
        }
        Ok(Identified { call, meter })
    }

    /// The request that this one repeats may have used up the last call meanwhile.
    async fn costs_nothing(&mut self, state: &AppState) -> Result<bool, ApiError> {
        self.find_replay(&state.tokens).await
    }
}

fn meter(caller: &Caller) -> Meter {
    Meter {
        payer: Some(Payer {
            site_id: caller.site_id,
            plan: caller.plan.clone(),
        }),
        charge: Charge::Call,
        disclosure: Disclosure::Shown,
    }
}

/// Reads the one `Idempotency-Key`, with or without the quotes of a structured-field string
/// (draft-ietf-httpapi-idempotency-key-header, section 2.1).
fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, &'static str> {
    const INVALID: &str = "must be given once, as 1 to 255 visible ASCII characters";
    let mut values = headers.get_all(IDEMPOTENCY_KEY).into_iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let text = value.to_str().map_err(|_| INVALID)?;
    let key = text
        .strip_prefix('"')
        .and_then(|unopened| unopened.strip_suffix('"'))
        .unwrap_or(text);
    let is_valid =
        (1..=255).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
    if is_valid && values.next().is_none() {
        Ok(Some(key))
    } else {
        Err(INVALID)
    }
}

impl GenerateToken {
    /// Looks for the token that was issued to the same request with the same key; whether there is
    /// one.
    async fn find_replay(&mut self, tokens: &Tokens) -> Result<bool, ApiError> {
        if let Some(idempotency) = &self.idempotency {
            self.replay = match tokens.find_key(self.site_id, idempotency).await? {
                Some(KeyUse::Same(record)) => Some(record),
                Some(KeyUse::Other) => return Err(ApiError::IdempotencyKeyReused),
                None => None,
            };
        }
        Ok(self.replay.is_some())
    }

    /// Waits until no other request with the same key is on its way: of many at once the first one
    /// is charged, and the others find what it was answered.
    async fn wait_for_key(
        &mut self,
        tokens: &Tokens,
        admitted: &mut Admitted,
    ) -> Result<(), ApiError> {
        if let Some(idempotency) = &self.idempotency {
            let place = tokens.enter(Subject::Key(self.site_id, idempotency.key()))?;
            self.turn = Some(turn_of(place, admitted).await?);
        }
        Ok(())
    }
}

/// Issue a token
///
/// For a site's proxy, which has deducted the coins from the WordPress user before. The token's
/// record is durable before the answer is sent. Charged to the site's plan as one call, unless the
/// `Idempotency-Key` was used with the same request within 24 hours: then the same token is signed
/// again (its bytes may differ), and nothing is charged. A replay works when the quota is used up,
/// and answers also when the token has expired or been revoked.
///
/// Checked in this order: size, media type, JSON, fields, secret, suspension, idempotency key,
/// quota. After 30 failures a minute from one client address (the setting
/// `limits.failures_per_minute`) a wrong secret is answered 429; a right one is always served.
#[utoipa::path(
    post,
    path = "/mirrory/generate-token",
    tag = "tokens",
    params((
        "Idempotency-Key" = Option<String>,
        Header,
        description = "A key of your own for this request, 1 to 255 visible ASCII characters, \
                       with or without the double quotes of a structured field \
                       (draft-ietf-httpapi-idempotency-key-header, section 2.1). Send a new one \
                       with a new request, and the same one to repeat it: within 24 hours the same \
                       site, key, `wp_user_id` and `machine_id` get the same token. Only a 200 \
                       uses up a key.",
        pattern = r#"^("[!-~]{1,255}"|(?!""$)[!-~]{1,255})$"#,
        nullable = false,
        example = "order-4711"
    )),
    request_body(
        content = GenerateTokenRequest,
        description = "Also any media type that ends in `+json`; at most 16384 bytes.",
        examples(
            ("user" = (
                summary = "Bound to the first machine that validates it",
                value = json!({
                    "wp_user_id": 12345,
                    "proxy_secret": "mps_an-example-and-no-secret"
                })
            )),
            ("machine" = (
                summary = "Bound to a machine from the start",
                value = json!({
                    "wp_user_id": "12345",
                    "proxy_secret": "mps_an-example-and-no-secret",
                    "machine_id": "desktop-machine-uuid-1234567890"
                })
            ))
        )
    ),
    responses(
        (
            status = 200,
            description = "A new token; or, with `Idempotency-Replayed`, the one that was issued \
                           to the same request before.",
            body = GenerateTokenResponse,
            headers(
                ("Cache-Control", description = "no-store"),
                ("Idempotency-Replayed"),
                ("RateLimit"),
                ("RateLimit-Policy")
            ),
            example = json!({
                "token": "eyJhbGciOiJIUzI1NiJ9.ZXhhbXBsZQ.bm8tc2lnbmF0dXJl",
                "expires_in": 86400,
                "user_id": 12345,
                "token_id": "019abf3e-7d2a-7c64-9a51-3f0e8a6b1c2d",
                "expires_at": "2026-12-31T23:59:59Z"
            })
        ),
        GenerateTokenProblems
    )
)]
pub(crate) async fn generate_token(known: Box<Known<GenerateToken>>) -> Result<Answer, ApiError> {
    let Known {
        mut call, state, ..
    } = *known;
    let Rooms {
        tokens,
        keys,
        clock,
        ..
    } = &*state;
    if let Some(replayed) = &call.replay {
        let token = keys.sign(&replayed.claims()).await?;
        return Ok(replay(replayed, token, clock));
    }
    let record = tokens.draft(call.site_id, call.user_id, call.machine_id.clone());
    // Signed before it is written: a token that cannot be handed out must not use up a key.
    let token = keys.sign(&record.claims()).await?;
    match tokens.insert(&record, call.idempotency.as_ref()).await {
        Ok(Inserted::Yes) => Ok(Answer::to(Outcome::Issued, response(&record, token, clock))),
        // A request with the same key came before by a hair, through another instance.
        Ok(Inserted::KeyTaken) => {
            call.find_replay(tokens).await?;
            let winner = call.replay.ok_or(ApiError::Overloaded)?;
            let token = keys.sign(&winner.claims()).await?;
            Ok(replay(&winner, token, clock))
        }
        // The key may stand for the token now, and then repeating the request is free.
        Err(error) if call.idempotency.is_some() && error.leaves_doubt() => {
            Ok(Answer::to(Outcome::Unknown, ApiError::from(error)))
        }
        Err(error) => Err(error.into()),
    }
}

fn response(record: &TokenRecord, token: String, clock: &Clock) -> impl IntoResponse + use<> {
    let body = GenerateTokenResponse {
        token,
        expires_in: clock.now().whole_second().seconds_until(record.expires_at),
        user_id: record.user_id,
        token_id: record.token_id,
        expires_at: record.expires_at,
    };
    let no_store = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    (no_store, Json(body))
}

fn replay(record: &TokenRecord, token: String, clock: &Clock) -> Answer {
    let replayed = [(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"))];
    Answer::free((replayed, response(record, token, clock)))
}
