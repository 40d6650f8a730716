//! `/api/v1/sites`: the sites of whoever is signed in.

use axum::{
    extract::{Path, State},
    http::{HeaderName, StatusCode, header},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    NewSite, Site, SiteStatus, SiteUpdate, Sites,
    fields::{CreateSiteRequest, GivenGrace, GivenSite, RotateSecretRequest, UpdateSiteRequest},
    may_own_another,
};
use crate::{
    accounts::{Accounts, Role},
    callers::{Caller, Transactions},
    error::ApiError,
    extract::{Body, Done, Fields, Json, Unstored},
    openapi::{
        ChangeSiteProblems, CreateSiteProblems, ListSitesProblems, RotateSecretProblems,
        SeeSiteProblems, UpdateSiteProblems,
    },
    paging::{Page, Paged},
    query::Query,
    state::AppState,
    store::Tx,
    types::{
        clock::Timestamp,
        ids::{AccountId, SiteId},
        secret::ProxySecret,
    },
};

/// An owner has as many sites as it may have.
pub(crate) const OWNER_IS_FULL: ApiError =
    ApiError::Conflict("The owner has as many sites as one may have: delete one first.");

/// The plan that a site begins on.
const FIRST_PLAN: &str = "free";

/// A new site, with its secret.
#[derive(Serialize, ToSchema)]
pub struct CreateSiteResponse {
    /// Its id.
    id: SiteId,
    /// What people call it.
    #[schema(examples("My shop"))]
    name: String,
    /// Where it is.
    #[schema(examples("https://shop.example"))]
    url: Option<String>,
    /// The plan that it is on.
    #[schema(examples("free"))]
    plan: String,
    /// The account that it belongs to.
    owner: Option<AccountId>,
    /// Whether it may issue tokens.
    status: SiteStatus,
    /// When it was made.
    created_at: Timestamp,
    /// The proxy secret. It is shown this one time.
    #[schema(examples("mps_an-example-and-no-secret"))]
    proxy_secret: String,
}

impl CreateSiteResponse {
    fn new(site: Site, secret: &ProxySecret) -> Self {
        Self {
            id: site.id,
            name: site.name,
            url: site.url,
            plan: site.plan,
            owner: site.owner,
            status: site.status,
            created_at: site.created_at,
            proxy_secret: secret.reveal().to_owned(),
        }
    }
}

/// A site's new secret.
#[derive(Serialize, ToSchema)]
pub struct RotateSecretResponse {
    /// The site.
    id: SiteId,
    /// The new proxy secret. It is shown this one time.
    #[schema(examples("mps_an-example-and-no-secret"))]
    proxy_secret: String,
    /// Until when the old one is good; null when there was none.
    previous_expires_at: Option<Timestamp>,
}

/// List the sites
///
/// The oldest first. An owner sees the sites that it owns, an admin all.
///
/// An API token needs the scope `sites:read`.
#[utoipa::path(
    get,
    path = "/api/v1/sites",
    tag = "sites",
    security(("access_token" = []), ("one_hour_token" = []), ("api_token" = ["sites:read"])),
    params(Page),
    responses(
        (status = 200, description = "A page of sites.", body = [Site], headers(("Link"))),
        ListSitesProblems
    )
)]
pub(crate) async fn list_sites(
    State(sites): State<Sites>,
    caller: Caller,
    Query(page): Query<Page>,
) -> Result<Paged<Site>, ApiError> {
    let owner = match caller.role {
        Role::Owner => Some(caller.account_id),
        Role::Admin => None,
    };
    let rows = sites.page(owner, page.rising(), page.rows()).await?;
    Ok(page.of(rows, |site| site.id.as_uuid()))
}

/// Make a site
///
/// Gives the site's first proxy secret, this one time. An owner's site begins on the plan `free` and
/// belongs to it; an admin may say `plan` and `owner`. An owner has at most 100 sites (the setting
/// `limits.sites_per_owner`).
///
/// An API token needs the scope `sites:write`.
#[utoipa::path(
    post,
    path = "/api/v1/sites",
    tag = "sites",
    security(("access_token" = []), ("one_hour_token" = []), ("api_token" = ["sites:write"])),
    request_body(
        content = CreateSiteRequest,
        description = "Also any media type that ends in `+json`; at most 16384 bytes."
    ),
    responses(
        (
            status = 201,
            description = "The site, with its secret.",
            body = CreateSiteResponse,
            headers(("Location"), ("Cache-Control", description = "no-store"))
        ),
        CreateSiteProblems
    )
)]
pub(crate) async fn create_site(
    State(state): State<AppState>,
    State(transactions): State<Transactions>,
    caller: Caller,
    Body(given): Body<GivenSite>,
) -> Result<
    (
        StatusCode,
        [(HeaderName, String); 1],
        Unstored<CreateSiteResponse>,
    ),
    ApiError,
> {
    if given.plan.is_some() || given.owner.is_some() {
        caller.require_admin()?;
    }
    let mut tx = transactions.begin(&caller).await?;
    require_known(&state, &mut tx, given.plan.as_deref(), given.owner).await?;
    let owner = given.owner.unwrap_or(caller.account_id);
    require_room(&state, &mut tx, owner).await?;
    let site = NewSite {
        name: given.name,
        url: given.url,
        plan: given.plan.unwrap_or_else(|| FIRST_PLAN.to_owned()),
        owner: Some(owner),
    };
    let by = caller.context();
    let (site, secret) = state.sites.create(&mut tx, by, &site).await?;
    tx.commit().await?;
    // Relative to `…/sites`: what stands before it, a proxy may have cut.
    let location = [(header::LOCATION, format!("sites/{}", site.id))];
    let shown = CreateSiteResponse::new(site, &secret);
    Ok((StatusCode::CREATED, location, Unstored(shown)))
}

/// See a site
///
/// An owner sees a site that it owns, an admin any.
///
/// An API token needs the scope `sites:read`.
#[utoipa::path(
    get,
    path = "/api/v1/sites/{id}",
    tag = "sites",
    security(("access_token" = []), ("one_hour_token" = []), ("api_token" = ["sites:read"])),
    params(("id" = SiteId, Path, description = "The site.", example = "site_01h455vb4pex5vsknk084sn02q")),
    responses((status = 200, description = "The site.", body = Site), SeeSiteProblems)
)]
pub(crate) async fn get_site(
    State(sites): State<Sites>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Site>, ApiError> {
    Ok(Json(visible(&sites, &caller, &id).await?))
}

/// Change a site
///
/// Sets the fields that are given. An owner may set `name` and `url` of a site that it owns, an
/// admin all of any.
///
/// An API token needs the scope `sites:write`.
#[utoipa::path(
    patch,
    path = "/api/v1/sites/{id}",
    tag = "sites",
    security(("access_token" = []), ("one_hour_token" = []), ("api_token" = ["sites:write"])),
    params(("id" = SiteId, Path, description = "The site.", example = "site_01h455vb4pex5vsknk084sn02q")),
    request_body(
        content = UpdateSiteRequest,
        description = "Also any media type that ends in `+json`; at most 16384 bytes."
    ),
    responses(
        (status = 200, description = "The site as it is now.", body = Site),
        UpdateSiteProblems
    )
)]
pub(crate) async fn update_site(
    State(state): State<AppState>,
    State(transactions): State<Transactions>,
    caller: Caller,
    Path(id): Path<String>,
    Body(update): Body<SiteUpdate>,
) -> Result<Json<Site>, ApiError> {
    let mut tx = if update.only_suspends() && caller.require_admin().is_ok() {
        transactions.begin_urgent(&caller).await?
    } else {
        transactions.begin(&caller).await?
    };
    let site = changeable(&state.sites, &mut tx, &caller, &id).await?;
    if update.plan.is_some() || update.status.is_some() || update.owner.is_some() {
        caller.require_admin()?;
    }
    let plan = update.plan.as_deref();
    let owner = update.owner.flatten();
    require_known(&state, &mut tx, plan, owner).await?;
    if let Some(owner) = owner.filter(|owner| site.owner != Some(*owner)) {
        require_room(&state, &mut tx, owner).await?;
    }
    let by = caller.context();
    let site = state.sites.update(&mut tx, by, site.id, &update).await?;
    let site = site.ok_or(ApiError::NotFound)?;
    tx.commit().await?;
    Ok(Json(site))
}

/// Delete a site
///
/// For good: its secrets end and its tokens are revoked, at once.
///
/// An API token needs the scope `sites:write`.
#[utoipa::path(
    delete,
    path = "/api/v1/sites/{id}",
    tag = "sites",
    security(("access_token" = []), ("one_hour_token" = []), ("api_token" = ["sites:write"])),
    params(("id" = SiteId, Path, description = "The site.", example = "site_01h455vb4pex5vsknk084sn02q")),
    responses((status = 200, description = "It is deleted.", body = Done), ChangeSiteProblems)
)]
pub(crate) async fn delete_site(
    State(transactions): State<Transactions>,
    State(sites): State<Sites>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Done>, ApiError> {
    let mut tx = transactions.begin(&caller).await?;
    let site = changeable(&sites, &mut tx, &caller, &id).await?;
    let deleted = sites.delete(&mut tx, caller.context(), site.id).await?;
    deleted.ok_or(ApiError::NotFound)?;
    tx.commit().await?;
    Ok(Json(Done {}))
}

/// Rotate a site's secret
///
/// Gives the site a new proxy secret, this one time. The old one stays good for the grace, and any
/// other ends at once, so that a site changes over without an outage.
///
/// An API token needs the scope `sites:write`.
#[utoipa::path(
    post,
    path = "/api/v1/sites/{id}/rotate-secret",
    tag = "sites",
    security(("access_token" = []), ("one_hour_token" = []), ("api_token" = ["sites:write"])),
    params(("id" = SiteId, Path, description = "The site.", example = "site_01h455vb4pex5vsknk084sn02q")),
    request_body(
        content = RotateSecretRequest,
        description = "Also any media type that ends in `+json`; at most 16384 bytes."
    ),
    responses(
        (
            status = 200,
            description = "The new secret.",
            body = RotateSecretResponse,
            headers(("Cache-Control", description = "no-store"))
        ),
        RotateSecretProblems
    )
)]
pub(crate) async fn rotate_secret(
    State(transactions): State<Transactions>,
    State(sites): State<Sites>,
    caller: Caller,
    Path(id): Path<String>,
    Body(GivenGrace(grace)): Body<GivenGrace>,
) -> Result<Unstored<RotateSecretResponse>, ApiError> {
    let mut tx = transactions.begin(&caller).await?;
    let site = changeable(&sites, &mut tx, &caller, &id).await?;
    let by = caller.context();
    let rotated = sites.rotate_secret(&mut tx, by, site.id, grace).await?;
    let rotated = rotated.ok_or(ApiError::NotFound)?;
    tx.commit().await?;
    Ok(Unstored(RotateSecretResponse {
        id: site.id,
        proxy_secret: rotated.secret.reveal().to_owned(),
        previous_expires_at: rotated.previous_expires_at,
    }))
}

/// A site that the caller may see.
///
/// # Errors
/// 404 when there is none with this id, or it is another's.
pub(crate) async fn visible(sites: &Sites, caller: &Caller, id: &str) -> Result<Site, ApiError> {
    let site_id = id.parse().map_err(|_| ApiError::NotFound)?;
    let site = sites.find(site_id).await?;
    site.filter(|site| caller.may_see(site.owner))
        .ok_or(ApiError::NotFound)
}

/// A site that the caller may change, and that nobody else changes before the end of the
/// transaction.
///
/// # Errors
/// 404 when there is none with this id, or it is another's.
pub(crate) async fn changeable(
    sites: &Sites,
    tx: &mut Tx,
    caller: &Caller,
    id: &str,
) -> Result<Site, ApiError> {
    let site_id = id.parse().map_err(|_| ApiError::NotFound)?;
    let site = sites.find_locked(tx, site_id).await?;
    site.filter(|site| caller.may_see(site.owner))
        .ok_or(ApiError::NotFound)
}

/// Refuses one site too many for its owner. Nobody else makes one before the end of the transaction.
async fn require_room(state: &AppState, tx: &mut Tx, owner: AccountId) -> Result<(), ApiError> {
    if may_own_another(tx, owner, state.config.limits.sites_per_owner).await? {
        Ok(())
    } else {
        Err(OWNER_IS_FULL)
    }
}

/// Refuses a plan that is not configured, and an owner that there is not.
async fn require_known(
    state: &AppState,
    tx: &mut Tx,
    plan: Option<&str>,
    owner: Option<AccountId>,
) -> Result<(), ApiError> {
    let mut fields = Fields::default();
    if plan.is_some_and(|plan| !state.config.plans.contains_key(plan)) {
        fields.refuse(
            "plan",
            "must be one of the plans of /api/v1/plans".to_owned(),
        );
    }
    if let Some(owner) = owner
        && Accounts::find_in(tx, owner).await?.is_none()
    {
        fields.refuse("owner", "must be an account".to_owned());
    }
    fields.finish(Some(()))
}
