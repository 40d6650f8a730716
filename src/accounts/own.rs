//! `/api/v1/account`: what somebody who is signed in sees and changes of their account.

use axum::extract::State;

use super::{Account, Accounts};
use crate::{callers::Caller, error::ApiError, extract::Json, openapi::SignedInProblems};

/// Who am I
///
/// The account that is signed in.
#[utoipa::path(
    get,
    path = "/api/v1/account",
    tag = "account",
    security(("access_token" = [])),
    responses(
        (status = 200, description = "The account.", body = Account),
        SignedInProblems
    )
)]
pub(crate) async fn get_account(
    State(accounts): State<Accounts>,
    caller: Caller,
) -> Result<Json<Account>, ApiError> {
    let account = accounts.find(caller.account_id).await?;
    account.map(Json).ok_or(ApiError::Unauthorized)
}
