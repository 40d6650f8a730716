//! The problems of managing sites, by operation.

use std::collections::BTreeMap;

use utoipa::{
    IntoResponses,
    openapi::{RefOr, Response},
};

use super::problems::{responses, unavailable};
use crate::{
    callers::Scope,
    error::{ApiError, FieldError},
};

/// Of a list that is told page by page.
pub(crate) struct ListProblems;

impl IntoResponses for ListProblems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let bad = FieldError {
            field: "limit",
            message: "must be an integer from 1 to 100".to_owned(),
        };
        let own = [ApiError::InvalidRequest(vec![bad])];
        responses(seen(Scope::AuditRead).into_iter().chain(own))
    }
}

/// What somebody may be refused with who is signed in.
fn seen(scope: Scope) -> Vec<ApiError> {
    let mut errors = Vec::from(unavailable());
    errors.extend([
        ApiError::Unauthorized,
        ApiError::InsufficientScope(scope),
        ApiError::Forbidden,
    ]);
    errors
}
