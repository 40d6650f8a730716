//! The OpenAPI 3.1 document, made from the code, and the page that shows it.
//!
//! A handler's annotation says what is its own: its bodies, its headers by name, the refusals that
//! it may answer with. `Shared` then adds what every operation has.

mod account_problems;
mod headers;
mod jwks;
mod management_problems;
mod page;
mod problems;
mod security;
mod shared;
mod types;

use utoipa::{OpenApi, openapi};

pub(crate) use self::{
    account_problems::{
        ChangePasswordProblems, CreateAccountProblems, CreateApiTokenProblems,
        DeleteAccountProblems, LoginProblems, OwnItemProblems, RefreshProblems, RevokeProblems,
        SignInProblems, SignedInProblems, TwoFactorProblems, UpdateAccountProblems,
    },
    management_problems::{
        AuditLogProblems, ChangeSiteProblems, ChangeTokenProblems, CreateSiteProblems,
        ListSitesProblems, ListTokensProblems, PlansProblems, RotateSecretProblems,
        SeeSiteProblems, SeeUsageProblems, UpdateSiteProblems,
    },
    page::router,
    problems::{GenerateTokenProblems, JwksProblems, ManageTokenProblems, ValidateTokenProblems},
    types::{WpUserIdInput, always},
};
use self::{security::Security, shared::Shared};
use crate::{
    accounts, api_tokens, audit,
    error::{Plain, ProblemDetails},
    health, keys, quota, sessions, sign_in, sites, tokens, two_factor,
};

/// The document: every operation of the service.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Mirrory",
        description = include_str!("introduction.md"),
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")
    ),
    servers((url = "./", description = "Where this document is served, as `openapi.json`.")),
    paths(
        tokens::generate::generate_token,
        tokens::validate::validate_token,
        tokens::manage::revoke_token,
        tokens::manage::release_machine,
        sign_in::jwt::create_jwt,
        sign_in::login::login,
        sessions::endpoints::refresh_jwt,
        sessions::endpoints::revoke_jwt,
        accounts::own::get_account,
        accounts::own::update_account,
        accounts::own::delete_account,
        accounts::own::change_password,
        accounts::create::create_account,
        two_factor::endpoints::begin_two_factor,
        two_factor::endpoints::confirm_two_factor,
        two_factor::endpoints::replace_recovery_codes,
        two_factor::endpoints::disable_two_factor,
        sessions::endpoints::list_sessions,
        sessions::endpoints::end_session,
        api_tokens::endpoints::list_api_tokens,
        api_tokens::endpoints::create_api_token,
        api_tokens::endpoints::revoke_api_token,
        sites::endpoints::list_sites,
        sites::endpoints::create_site,
        sites::endpoints::get_site,
        sites::endpoints::update_site,
        sites::endpoints::delete_site,
        sites::endpoints::rotate_secret,
        quota::endpoints::get_site_usage,
        tokens::of_site::list_site_tokens,
        tokens::of_site::revoke_site_token,
        tokens::of_site::release_site_token,
        quota::endpoints::list_plans,
        audit::listing::list_audit_log,
        keys::endpoint::get_jwks,
        health::get_health,
        health::get_liveness,
        health::get_readiness
    ),
    components(schemas(ProblemDetails, Plain)),
    modifiers(&Shared, &Security),
    tags(
        (
            name = "tokens",
            description = "Issue, validate, revoke and release tokens. A site's proxy issues, \
                           revokes and releases, by its proxy secret; a desktop app validates."
        ),
        (
            name = "sign-in",
            description = "For the people who run sites: tokens for a password."
        ),
        (name = "account", description = "The account that is signed in."),
        (
            name = "sites",
            description = "The sites of whoever is signed in, their secrets, tokens and usage."
        ),
        (name = "audit", description = "Who did what, when and from where."),
        (name = "keys", description = "The public keys, to check a token without this service."),
        (name = "operation", description = "Whether the service is well, for those who run it.")
    )
)]
struct ApiDescription;

/// The whole document.
#[must_use]
pub fn document() -> openapi::OpenApi {
    ApiDescription::openapi()
}

#[cfg(test)]
mod tests;
