//! What was written, as it is read.

use axum::extract::State;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::{
    IntoParams, ToSchema,
    openapi::{
        Object, ObjectBuilder, Ref, Type,
        path::{Parameter, ParameterIn},
        schema::AdditionalProperties,
    },
};

use super::{AuditLog, entry::Outcome};
use crate::{
    accounts::Role,
    callers::Caller,
    error::ApiError,
    extract::Fields,
    openapi::AuditLogProblems,
    paging::{Page, Paged},
    query::{FromQuery, Parameters, Query, described, id, moment},
    types::{
        clock::Timestamp,
        ids::{AccountId, AuditId, SiteId},
    },
};

/// The longest name of an event that is looked for.
const MAX_EVENT_BYTES: usize = 64;

/// A row of the audit log.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct AuditRow {
    /// Its id.
    pub id: AuditId,
    /// When it happened; of several, the first.
    pub time: Timestamp,
    /// What happened.
    #[schema(examples("secret.rotated"))]
    pub event: String,
    /// Who did it.
    pub actor: AuditActor,
    /// The id of what it happened to.
    #[schema(examples("site_01h455vb4pex5vsknk084sn02q"))]
    pub subject: Option<String>,
    /// The site that it is about.
    pub site_id: Option<SiteId>,
    /// The account that it is about.
    pub account_id: Option<AccountId>,
    /// The client's address; null to an owner when another account acted, and so is `user_agent`.
    #[schema(examples("192.0.2.1"))]
    pub address: Option<String>,
    /// What the client called itself.
    #[schema(examples("curl/8.5.0"))]
    pub user_agent: Option<String>,
    /// What came of it.
    pub outcome: Outcome,
    /// What else there is to say; its fields are those of the event.
    #[schema(schema_with = detail_schema)]
    pub detail: Value,
    /// How often it happened, for what is counted by the hour.
    #[schema(examples(1), minimum = 1)]
    pub count: i64,
}

impl AuditRow {
    /// The row as an account sees it that is no admin: where somebody else called from is not its
    /// business, be it an admin or who owned the site before. Where a site's proxy, an app or a
    /// stranger called from is.
    pub(super) fn seen_by(mut self, account_id: AccountId) -> Self {
        if self
            .actor
            .account_id
            .is_some_and(|actor| actor != account_id)
        {
            (self.address, self.user_agent) = (None, None);
        }
        self
    }
}

fn detail_schema() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .description(Some(
            "What else there is to say; its fields are those of the event.",
        ))
        .additional_properties(Some(AdditionalProperties::FreeForm(true)))
        .examples([json!({"grace_seconds": 86400})])
        .build()
}

/// Who did something.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct AuditActor {
    /// `account`, `api_token` (a script of an account), `site` (its proxy), `operator` (by the
    /// command line, or by starting the service) or `nobody` (nothing was proven).
    #[schema(examples("account"))]
    pub kind: String,
    /// Which one of its kind.
    #[schema(examples("019abf3e-7d2a-7c64-9a51-3f0e8a6b1c2d"))]
    pub id: Option<String>,
    /// The account that it is, or acts for.
    pub account_id: Option<AccountId>,
}

/// Which rows are asked for.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// Those that this account may see: of its own, and of the sites that it owns.
    pub visible_to: Option<AccountId>,
    /// Those from this moment on.
    pub since: Option<Timestamp>,
    /// Those of this event.
    pub event: Option<String>,
    /// Those about this site.
    pub site_id: Option<SiteId>,
}

/// The query of `GET /audit-log`.
pub(crate) struct AuditQuery {
    filter: AuditFilter,
    page: Page,
}

impl FromQuery for AuditQuery {
    fn read(parameters: &Parameters, fields: &mut Fields) -> Self {
        Self {
            filter: AuditFilter {
                visible_to: None,
                since: parameters.optional("since", fields, moment),
                event: parameters.optional("event", fields, event),
                site_id: parameters.optional("site", fields, id),
            },
            page: Page::read(parameters, fields),
        }
    }
}

fn event(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > MAX_EVENT_BYTES {
        return Err("must be the name of an event, as in secret.rotated".to_owned());
    }
    Ok(text.to_owned())
}

impl IntoParams for AuditQuery {
    fn into_params(place: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let text = ObjectBuilder::new().schema_type(Type::String).build();
        let filters = [
            described(
                "since",
                "Rows from this moment on.",
                Ref::from_schema_name("Timestamp"),
                json!("2026-12-31T23:59:59Z"),
            ),
            described(
                "event",
                "Rows of this event.",
                text,
                json!("secret.rotated"),
            ),
            described(
                "site",
                "Rows about this site.",
                Ref::from_schema_name("SiteId"),
                json!("site_01h455vb4pex5vsknk084sn02q"),
            ),
        ];
        filters
            .into_iter()
            .chain(Page::into_params(place))
            .collect()
    }
}

/// See the audit log
///
/// Who did what, when and from where, the newest first. An owner sees the rows about its own
/// account and about the sites that it owns, an admin all. Rows are kept as long as the setting
/// `audit.kept_days` says, 400 days unless told otherwise. An owner is not told from where another
/// account called.
///
/// An API token needs the scope `audit:read`.
#[utoipa::path(
    get,
    path = "/api/v1/audit-log",
    tag = "audit",
    security(("access_token" = []), ("one_hour_token" = []), ("api_token" = ["audit:read"])),
    params(AuditQuery),
    responses(
        (status = 200, description = "A page of the log.", body = [AuditRow], headers(("Link"))),
        AuditLogProblems
    )
)]
pub(crate) async fn list_audit_log(
    State(log): State<AuditLog>,
    caller: Caller,
    Query(query): Query<AuditQuery>,
) -> Result<Paged<AuditRow>, ApiError> {
    let AuditQuery { mut filter, page } = query;
    filter.visible_to = match caller.role {
        Role::Owner => Some(caller.account_id),
        Role::Admin => None,
    };
    let rows = log.page(&filter, page.falling(), page.rows()).await?;
    Ok(page.of(rows, |row| row.id.as_uuid()))
}
