//! The problems of managing sites, by operation.

use std::collections::BTreeMap;

use utoipa::{
    IntoResponses,
    openapi::{RefOr, Response},
};

use super::problems::{responses, too_many_attempts, unavailable, unreadable};
use crate::{
    callers::Scope,
    error::{ApiError, FieldError},
    sites::endpoints::OWNER_IS_FULL,
};

macro_rules! problems {
    ($($(#[$doc:meta])* $name:ident: $errors:expr;)*) => {$(
        $(#[$doc])*
        pub(crate) struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                responses($errors)
            }
        }
    )*};
}

problems! {
    /// Of the list of sites.
    ListSitesProblems: list(Scope::SitesRead);
    /// Of one site.
    SeeSiteProblems: one(Scope::SitesRead);
    /// Of making a site.
    CreateSiteProblems: changed(Scope::SitesWrite, "name", NAME)
        .into_iter()
        .chain([OWNER_IS_FULL]);
    /// Of changing a site.
    UpdateSiteProblems: changed(Scope::SitesWrite, "name", NAME)
        .into_iter()
        .chain([ApiError::NotFound, OWNER_IS_FULL]);
    /// Of a site's new secret.
    RotateSecretProblems: changed(Scope::SitesWrite, "grace_seconds", GRACE)
        .into_iter()
        .chain([ApiError::NotFound]);
    /// Of deleting a site.
    ChangeSiteProblems: one(Scope::SitesWrite).into_iter().chain([too_many_attempts()]);
    /// Of a site's usage.
    SeeUsageProblems: one(Scope::UsageRead);
    /// Of the list of a site's tokens.
    ListTokensProblems: list(Scope::TokensRead).into_iter().chain([ApiError::NotFound]);
    /// Of revoking and releasing a token.
    ChangeTokenProblems: one(Scope::TokensWrite);
    /// Of the plans.
    PlansProblems: seen(Scope::SitesRead);
    /// Of the audit log.
    AuditLogProblems: list(Scope::AuditRead);
}

const NAME: &str = "must be 1 to 200 bytes without control characters";
const GRACE: &str = "must be an integer from 0 to 604800";

/// What somebody may be refused with who is signed in.
fn seen(scope: Scope) -> Vec<ApiError> {
    let mut errors = Vec::from(unavailable());
    errors.extend(refused(scope));
    errors
}

fn refused(scope: Scope) -> [ApiError; 3] {
    [
        ApiError::Unauthorized,
        ApiError::InsufficientScope(scope),
        ApiError::Forbidden,
    ]
}

fn list(scope: Scope) -> Vec<ApiError> {
    let mut errors = seen(scope);
    errors.push(ApiError::InvalidRequest(vec![FieldError {
        field: "limit",
        message: "must be an integer from 1 to 100".to_owned(),
    }]));
    errors
}

fn one(scope: Scope) -> Vec<ApiError> {
    let mut errors = seen(scope);
    errors.push(ApiError::NotFound);
    errors
}

fn changed(scope: Scope, field: &'static str, message: &str) -> Vec<ApiError> {
    let mut errors = unreadable(field, message);
    errors.extend(refused(scope));
    errors.push(too_many_attempts());
    errors
}
