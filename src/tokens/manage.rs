//! `POST /mirrory/revoke-token` and `POST /mirrory/release-machine`: a site's proxy takes a token
//! back, or frees it for another machine.

use std::net::IpAddr;

use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{
    fields,
    identify::{Call, Identified, Known, Refused, prove},
};
use crate::{
    error::ApiError,
    extract::{Fields, Json, parse_object, text},
    middleware::{admission::Admitted, client::Client},
    openapi::ManageTokenProblems,
    quota::{Answer, Charge, Disclosure, Meter, Payer},
    state::AppState,
    store::{Share, changes::Actor},
    types::{
        ids::{InvalidId, SiteId, TokenId},
        secret::ProxySecret,
    },
};

/// What a site's proxy sends.
#[derive(Deserialize, ToSchema)]
#[schema(examples(json!({
    "token_id": "019abf3e-7d2a-7c64-9a51-3f0e8a6b1c2d",
    "proxy_secret": "mps_an-example-and-no-secret"
})))]
struct ManageTokenRequest<'a> {
    /// The token, by the `token_id` that it was issued with.
    #[serde(borrow)]
    #[schema(value_type = TokenId)]
    token_id: Option<&'a RawValue>,
    /// A live secret of the site. It proves who calls.
    #[serde(borrow)]
    #[schema(value_type = ProxySecret)]
    proxy_secret: Option<&'a RawValue>,
}

/// Nothing: it is done, or there was nothing to do.
#[derive(Debug, Serialize, ToSchema)]
#[schema(examples(json!({})))]
pub struct ManageTokenResponse {}

/// The call, once its caller is proven.
pub(crate) struct ManageToken {
    site_id: SiteId,
    token_id: TokenId,
}

/// The fields of the call.
pub(crate) struct ManageFields {
    token_id: TokenId,
    secret: ProxySecret,
}

impl Call for ManageToken {
    type Fields = ManageFields;

    const SHARE: Share = Share::Urgent;

    fn parse(_: &HeaderMap, body: &[u8]) -> Result<ManageFields, ApiError> {
        let body: ManageTokenRequest = parse_object(body)?;
        let mut fields = Fields::default();
        let token_id = fields.required("token_id", body.token_id, token_id);
        let secret = fields.required("proxy_secret", body.proxy_secret, fields::proxy_secret);
        fields.finish(
            token_id
                .zip(secret)
                .map(|(token_id, secret)| ManageFields { token_id, secret }),
        )
    }

    async fn identify(
        fields: ManageFields,
        address: IpAddr,
        state: &AppState,
        _: &mut Admitted,
    ) -> Result<Identified<Self>, Refused> {
        let caller = prove::<Self>(&fields.secret, address, state).await?;
        state
            .attempts
            .management(caller.site_id, state.clock.monotonic())?;
        Ok(Identified {
            call: Self {
                site_id: caller.site_id,
                token_id: fields.token_id,
            },
            meter: Meter {
                payer: Some(Payer {
                    site_id: caller.site_id,
                    plan: caller.plan,
                }),
                charge: Charge::Nothing,
                disclosure: Disclosure::Hidden,
            },
        })
    }
}

fn token_id(value: &RawValue) -> Result<TokenId, String> {
    text(value)?
        .parse()
        .map_err(|invalid: InvalidId| invalid.to_string())
}

/// Revoke a token
///
/// For a site's proxy, as for a refund. The token is never valid again. Also 200 for a token that
/// is unknown, already revoked or another site's, which is left alone. Costs nothing and needs no
/// quota; this and `release-machine` together may be called 60 times a minute a site.
#[utoipa::path(
    post,
    path = "/mirrory/revoke-token",
    tag = "tokens",
    request_body(
        content = ManageTokenRequest,
        description = "Also any media type that ends in `+json`; at most 16384 bytes."
    ),
    responses(
        (status = 200, description = "The token is not valid any more, or it is not the site's.", body = ManageTokenResponse),
        ManageTokenProblems
    )
)]
pub(crate) async fn revoke_token(known: Box<Known<ManageToken>>) -> Result<Answer, ApiError> {
    let Known { call, parts, state } = *known;
    let by = Client::of(&parts)?.acting_as(Actor::Site(call.site_id));
    let mut tx = state.database.begin().await?;
    state.tokens.revoke(&mut tx, by, call.token_id).await?;
    tx.commit().await?;
    Ok(Answer::free(Json(ManageTokenResponse {})))
}

/// Release a machine
///
/// For a site's proxy, as for a lost laptop or a new computer. The token is unbound, and the next
/// machine that validates it binds it anew. Also 200 for a token that is unknown, not bound or
/// another site's, which is left alone. Costs nothing and needs no quota; this and `revoke-token`
/// together may be called 60 times a minute a site.
#[utoipa::path(
    post,
    path = "/mirrory/release-machine",
    tag = "tokens",
    request_body(
        content = ManageTokenRequest,
        description = "Also any media type that ends in `+json`; at most 16384 bytes."
    ),
    responses(
        (status = 200, description = "The token is not bound any more, or it is not the site's.", body = ManageTokenResponse),
        ManageTokenProblems
    )
)]
pub(crate) async fn release_machine(known: Box<Known<ManageToken>>) -> Result<Answer, ApiError> {
    let Known { call, parts, state } = *known;
    let by = Client::of(&parts)?.acting_as(Actor::Site(call.site_id));
    let mut tx = state.database.begin().await?;
    state.tokens.release(&mut tx, by, call.token_id).await?;
    tx.commit().await?;
    Ok(Answer::free(Json(ManageTokenResponse {})))
}
