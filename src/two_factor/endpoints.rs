//! `/api/v1/account/two-factor`: turning the second factor on and off.

use axum::extract::State;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use utoipa::ToSchema;

use super::TwoFactor;
use crate::{
    accounts::Accounts,
    callers::{Caller, Transactions},
    error::ApiError,
    extract::{Body, Done, Json, Unstored},
    openapi::TwoFactorProblems,
    sign_in::{
        SignIn,
        fields::{
            CodeRequest, GivenBoth, GivenCode, GivenPassword, PasswordAndCodeRequest,
            PasswordRequest,
        },
    },
    store::Tx,
};

/// The secret for an authenticator app.
#[derive(Serialize, ToSchema)]
pub struct BeginTwoFactorResponse {
    /// In base32, to be typed into the app.
    #[schema(examples("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"))]
    secret: String,
    /// The same to be shown as a QR code.
    #[schema(examples(
        "otpauth://totp/Mirrory:ada%40shop.example?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=Mirrory"
    ))]
    otpauth_url: String,
}

/// Codes that get in without the app.
#[derive(Serialize, ToSchema)]
pub struct RecoveryCodesResponse {
    /// Ten of them, each good once in the place of a code. They are shown this one time.
    #[schema(examples("7g9x-2kqm-v4ht-0b8d"), min_items = 10, max_items = 10)]
    recovery_codes: Vec<String>,
}

impl From<Vec<SecretString>> for RecoveryCodesResponse {
    fn from(codes: Vec<SecretString>) -> Self {
        let shown = codes.iter().map(|code| code.expose_secret().to_owned());
        Self {
            recovery_codes: shown.collect(),
        }
    }
}

/// Begin with two-factor
///
/// Makes a secret for an authenticator app (TOTP, RFC 6238: SHA-1, 6 digits, 30 seconds). Signing in
/// takes no code until it is confirmed; begun again, the secret is another.
#[utoipa::path(
    post,
    path = "/api/v1/account/two-factor",
    tag = "account",
    security(("access_token" = [])),
    request_body = PasswordRequest,
    responses(
        (
            status = 200,
            description = "The secret, shown this one time.",
            body = BeginTwoFactorResponse,
            headers(("Cache-Control", description = "no-store"))
        ),
        TwoFactorProblems
    )
)]
pub(crate) async fn begin_two_factor(
    State(transactions): State<Transactions>,
    State(accounts): State<Accounts>,
    State(sign_in): State<SignIn>,
    State(two_factor): State<TwoFactor>,
    caller: Caller,
    Body(GivenPassword(password)): Body<GivenPassword>,
) -> Result<Unstored<BeginTwoFactorResponse>, ApiError> {
    let proven = sign_in.confirm(&caller, &password).await?;
    let account = accounts.find(caller.account_id).await?;
    let account = account.ok_or(ApiError::Unauthorized)?;
    let mut tx = transactions.begin_proven(&caller, &proven).await?;
    let begun = two_factor
        .begin(&mut tx, account.id, &account.email)
        .await?;
    tx.commit().await?;
    Ok(Unstored(BeginTwoFactorResponse {
        secret: begun.secret.expose_secret().to_owned(),
        otpauth_url: begun.otpauth_url.expose_secret().to_owned(),
    }))
}

/// Confirm two-factor
///
/// Turns it on, by a code of the app: signing in takes one from now on.
#[utoipa::path(
    post,
    path = "/api/v1/account/two-factor/confirm",
    tag = "account",
    security(("access_token" = [])),
    request_body = CodeRequest,
    responses(
        (
            status = 200,
            description = "It is on.",
            body = RecoveryCodesResponse,
            headers(("Cache-Control", description = "no-store"))
        ),
        TwoFactorProblems
    )
)]
pub(crate) async fn confirm_two_factor(
    State(transactions): State<Transactions>,
    State(sign_in): State<SignIn>,
    State(two_factor): State<TwoFactor>,
    caller: Caller,
    Body(GivenCode(code)): Body<GivenCode>,
) -> Result<Unstored<RecoveryCodesResponse>, ApiError> {
    let judged = two_factor.judge_first(caller.account_id, &code);
    let first = sign_in.confirm_code(&caller, judged).await?;
    let mut tx = transactions.begin(&caller).await?;
    let by = caller.context();
    let codes = two_factor.confirm(&mut tx, &by, &first).await?;
    tx.commit().await?;
    Ok(Unstored(codes.into()))
}

/// Replace the recovery codes
///
/// The old ones end.
#[utoipa::path(
    post,
    path = "/api/v1/account/two-factor/recovery-codes",
    tag = "account",
    security(("access_token" = [])),
    request_body = PasswordAndCodeRequest,
    responses(
        (
            status = 200,
            description = "The new ones.",
            body = RecoveryCodesResponse,
            headers(("Cache-Control", description = "no-store"))
        ),
        TwoFactorProblems
    )
)]
pub(crate) async fn replace_recovery_codes(
    State(sign_in): State<SignIn>,
    State(two_factor): State<TwoFactor>,
    caller: Caller,
    Body(given): Body<GivenBoth>,
) -> Result<Unstored<RecoveryCodesResponse>, ApiError> {
    let by = caller.context();
    let mut tx = begin(&sign_in, &two_factor, &caller, &given).await?;
    let codes = two_factor.replace_codes(&mut tx, &by, caller.account_id);
    let codes = codes.await?;
    tx.commit().await?;
    Ok(Unstored(codes.into()))
}

/// Turn two-factor off
///
/// Signing in takes no code any more, and the recovery codes end.
#[utoipa::path(
    delete,
    path = "/api/v1/account/two-factor",
    tag = "account",
    security(("access_token" = [])),
    request_body = PasswordAndCodeRequest,
    responses(
        (status = 200, description = "It is off.", body = Done),
        TwoFactorProblems
    )
)]
pub(crate) async fn disable_two_factor(
    State(sign_in): State<SignIn>,
    State(two_factor): State<TwoFactor>,
    caller: Caller,
    Body(given): Body<GivenBoth>,
) -> Result<Json<Done>, ApiError> {
    let by = caller.context();
    let mut tx = begin(&sign_in, &two_factor, &caller, &given).await?;
    two_factor.disable(&mut tx, &by, caller.account_id).await?;
    tx.commit().await?;
    Ok(Json(Done {}))
}

/// Begins a change of somebody for whom it must be on.
async fn begin(
    sign_in: &SignIn,
    two_factor: &TwoFactor,
    caller: &Caller,
    GivenBoth { password, code }: &GivenBoth,
) -> Result<Tx, ApiError> {
    let judged = async {
        let presented = two_factor.require(caller.account_id, code).await?;
        Ok(Some(presented))
    };
    sign_in.begin_with_code(caller, password, judged).await
}
