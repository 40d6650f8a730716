//! `/api/v1/sites/{id}/tokens`: the tokens of a site, for those who run it.

use axum::{
    Router,
    extract::{Path, State},
    routing::{get, post},
};
use serde_json::json;
use utoipa::{
    IntoParams,
    openapi::{
        Ref,
        path::{Parameter, ParameterIn},
    },
};

use super::{
    registry::Tokens,
    store::TokenFilter,
    summary::{TokenStatus, TokenSummary},
};
use crate::{
    callers::{Caller, CallerLayer, Door, Scope, Transactions},
    error::ApiError,
    extract::{Done, Fields, Json},
    openapi::{ChangeTokenProblems, ListTokensProblems},
    paging::{Page, Paged},
    query::{FromQuery, Parameters, Query, described},
    sites::{
        Sites,
        endpoints::{changeable, visible},
    },
    state::AppState,
    types::{
        clock::Clock,
        ids::{InvalidId, SiteId, TokenId, WpUserId},
    },
};

/// The endpoints for those who run a site.
pub(crate) fn router(state: &AppState) -> Router<AppState> {
    let reading = CallerLayer::new(state, Door::Scoped(Scope::TokensRead));
    let writing = CallerLayer::new(state, Door::Scoped(Scope::TokensWrite)).urgent();
    let list = get(list_site_tokens).route_layer(reading);
    let revoke = post(revoke_site_token).route_layer(writing.clone());
    let release = post(release_site_token).route_layer(writing);
    Router::new()
        .route("/api/v1/sites/{id}/tokens", list)
        .route("/api/v1/sites/{id}/tokens/{token_id}/revoke", revoke)
        .route("/api/v1/sites/{id}/tokens/{token_id}/release", release)
}

/// The query of the list.
pub(crate) struct TokenQuery {
    filter: TokenFilter,
    page: Page,
}

impl FromQuery for TokenQuery {
    fn read(parameters: &Parameters, fields: &mut Fields) -> Self {
        Self {
            filter: TokenFilter {
                user_id: parameters.optional("user_id", fields, user_id),
                state: parameters.optional("state", fields, state),
            },
            page: Page::read(parameters, fields),
        }
    }
}

fn user_id(text: &str) -> Result<WpUserId, String> {
    let refused = |_: InvalidId| "must be an integer from 1 to 9223372036854775807".to_owned();
    WpUserId::parse(text).map_err(refused)
}

fn state(text: &str) -> Result<TokenStatus, String> {
    let mut known = TokenStatus::ALL.into_iter();
    known
        .find(|state| state.as_str() == text)
        .ok_or_else(|| "must be active, expired or revoked".to_owned())
}

impl IntoParams for TokenQuery {
    fn into_params(place: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let filters = [
            described(
                "user_id",
                "Tokens of this WordPress user.",
                Ref::from_schema_name("WpUserId"),
                json!(12345),
            ),
            described(
                "state",
                "Tokens of this state.",
                Ref::from_schema_name("TokenStatus"),
                json!("active"),
            ),
        ];
        filters
            .into_iter()
            .chain(Page::into_params(place))
            .collect()
    }
}

/// List a site's tokens
///
/// The newest first, as long as they are kept: until 30 days after their end. An owner sees those of
/// a site that it owns, an admin those of any.
///
/// An API token needs the scope `tokens:read`.
#[utoipa::path(
    get,
    path = "/api/v1/sites/{id}/tokens",
    tag = "sites",
    security(("access_token" = []), ("one_hour_token" = []), ("api_token" = ["tokens:read"])),
    params(
        ("id" = SiteId, Path, description = "The site.", example = "site_01h455vb4pex5vsknk084sn02q"),
        TokenQuery
    ),
    responses(
        (status = 200, description = "A page of tokens.", body = [TokenSummary], headers(("Link"))),
        ListTokensProblems
    )
)]
pub(crate) async fn list_site_tokens(
    State(sites): State<Sites>,
    State(tokens): State<Tokens>,
    State(clock): State<Clock>,
    caller: Caller,
    Path(id): Path<String>,
    Query(TokenQuery { filter, page }): Query<TokenQuery>,
) -> Result<Paged<TokenSummary>, ApiError> {
    let site = visible(&sites, &caller, &id).await?;
    let now = clock.now();
    let (before, limit) = (page.falling(), page.rows());
    let records = tokens.page(site.id, &filter, before, limit).await?;
    let page = page.of(records, |record| record.token_id.as_uuid());
    Ok(page.map(|record| TokenSummary::new(&record, TokenStatus::of(&record, now))))
}

/// Revoke a site's token
///
/// It is never valid again; also 200 when it was revoked before.
///
/// An API token needs the scope `tokens:write`.
#[utoipa::path(
    post,
    path = "/api/v1/sites/{id}/tokens/{token_id}/revoke",
    tag = "sites",
    security(("access_token" = []), ("one_hour_token" = []), ("api_token" = ["tokens:write"])),
    params(
        ("id" = SiteId, Path, description = "The site.", example = "site_01h455vb4pex5vsknk084sn02q"),
        ("token_id" = TokenId, Path, description = "The token.", example = "019abf3e-7d2a-7c64-9a51-3f0e8a6b1c2d")
    ),
    responses((status = 200, description = "It is revoked.", body = Done), ChangeTokenProblems)
)]
pub(crate) async fn revoke_site_token(
    State(transactions): State<Transactions>,
    State(sites): State<Sites>,
    State(tokens): State<Tokens>,
    caller: Caller,
    Path((id, token_id)): Path<(String, String)>,
) -> Result<Json<Done>, ApiError> {
    let token_id = token_id.parse().map_err(|_| ApiError::NotFound)?;
    let mut tx = transactions.begin_urgent(&caller).await?;
    let site = changeable(&sites, &mut tx, &caller, &id).await?;
    let by = caller.context();
    let is_of_site = tokens.revoke_of(&mut tx, by, site.id, token_id).await?;
    tx.commit().await?;
    done_or_not_found(is_of_site)
}

/// Release a site's token
///
/// It is unbound from its machine, and the next machine that validates it binds it anew; also 200
/// when it was not bound.
///
/// An API token needs the scope `tokens:write`.
#[utoipa::path(
    post,
    path = "/api/v1/sites/{id}/tokens/{token_id}/release",
    tag = "sites",
    security(("access_token" = []), ("one_hour_token" = []), ("api_token" = ["tokens:write"])),
    params(
        ("id" = SiteId, Path, description = "The site.", example = "site_01h455vb4pex5vsknk084sn02q"),
        ("token_id" = TokenId, Path, description = "The token.", example = "019abf3e-7d2a-7c64-9a51-3f0e8a6b1c2d")
    ),
    responses((status = 200, description = "It is not bound.", body = Done), ChangeTokenProblems)
)]
pub(crate) async fn release_site_token(
    State(transactions): State<Transactions>,
    State(sites): State<Sites>,
    State(tokens): State<Tokens>,
    caller: Caller,
    Path((id, token_id)): Path<(String, String)>,
) -> Result<Json<Done>, ApiError> {
    let token_id = token_id.parse().map_err(|_| ApiError::NotFound)?;
    let mut tx = transactions.begin_urgent(&caller).await?;
    let site = changeable(&sites, &mut tx, &caller, &id).await?;
    let by = caller.context();
    let is_of_site = tokens.release_of(&mut tx, by, site.id, token_id).await?;
    tx.commit().await?;
    done_or_not_found(is_of_site)
}

fn done_or_not_found(is_of_site: bool) -> Result<Json<Done>, ApiError> {
    if is_of_site {
        Ok(Json(Done {}))
    } else {
        Err(ApiError::NotFound)
    }
}
