//! `/api/v1/plans` and `/api/v1/sites/{id}/usage`.

use axum::{
    Router,
    extract::{Path, State},
    routing::get,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{ledger::Ledger, usage_report::UsageReport};
use crate::{
    callers::{Caller, CallerLayer, Door, Scope},
    error::ApiError,
    extract::Json,
    openapi::{PlansProblems, SeeUsageProblems},
    sites::{Sites, endpoints::visible},
    state::AppState,
    types::{clock::Clock, ids::SiteId},
};

/// The endpoints of this room.
pub(crate) fn router(state: &AppState) -> Router<AppState> {
    let plans = CallerLayer::new(state, Door::Scoped(Scope::SitesRead));
    let usage = CallerLayer::new(state, Door::Scoped(Scope::UsageRead));
    Router::new()
        .route("/api/v1/plans", get(list_plans).route_layer(plans))
        .route(
            "/api/v1/sites/{id}/usage",
            get(get_site_usage).route_layer(usage),
        )
}

/// A plan that a site can be on.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct PlanSummary {
    /// Its name.
    #[schema(examples("developer"))]
    name: String,
    /// How many calls it allows a calendar day, UTC.
    #[schema(examples(20))]
    calls_per_day: u64,
    /// How many calls it allows a calendar month, UTC.
    #[schema(examples(500))]
    calls_per_month: u64,
}

/// List the plans
///
/// The plan table of the configuration.
///
/// An API token needs the scope `sites:read`.
#[utoipa::path(
    get,
    path = "/api/v1/plans",
    tag = "sites",
    security(("access_token" = []), ("one_hour_token" = []), ("api_token" = ["sites:read"])),
    responses(
        (status = 200, description = "The plans, by the calls of a month.", body = [PlanSummary]),
        PlansProblems
    )
)]
pub(crate) async fn list_plans(State(state): State<AppState>, _: Caller) -> Json<Vec<PlanSummary>> {
    let plans = state.config.plans.iter();
    let mut plans: Vec<_> = plans
        .map(|(name, plan)| PlanSummary {
            name: name.to_string(),
            calls_per_day: plan.calls_per_day,
            calls_per_month: plan.calls_per_month,
        })
        .collect();
    plans.sort_by_key(|plan| (plan.calls_per_month, plan.calls_per_day));
    Json(plans)
}

/// See a site's usage
///
/// What is used and left of today and of this month, and what was issued and validated on each of
/// the last 90 days. An owner sees a site that it owns, an admin any.
///
/// An API token needs the scope `usage:read`.
#[utoipa::path(
    get,
    path = "/api/v1/sites/{id}/usage",
    tag = "sites",
    security(("access_token" = []), ("one_hour_token" = []), ("api_token" = ["usage:read"])),
    params(("id" = SiteId, Path, description = "The site.", example = "site_01h455vb4pex5vsknk084sn02q")),
    responses(
        (status = 200, description = "The usage.", body = UsageReport),
        SeeUsageProblems
    )
)]
pub(crate) async fn get_site_usage(
    State(sites): State<Sites>,
    State(ledger): State<Ledger>,
    State(clock): State<Clock>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<UsageReport>, ApiError> {
    let site = visible(&sites, &caller, &id).await?;
    let standing = ledger.standing(site.id, &site.plan).await?;
    let history = ledger.history(site.id).await?;
    let report = UsageReport::of_every_day(&standing, &history, clock.now());
    Ok(Json(report))
}
