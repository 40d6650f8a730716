//! The OpenAPI 3.1 document, made from the code, and the page that shows it.

use axum::Router;
use utoipa::{OpenApi, openapi};
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::{health, keys, tokens};

/// The document: every operation of the service.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Mirrory",
        description = "Issues, validates and meters tokens for desktop apps that are sold through \
                       a WordPress site.",
    ),
    paths(
        tokens::generate::generate_token,
        tokens::validate::validate_token,
        tokens::manage::revoke_token,
        tokens::manage::release_machine,
        keys::endpoint::get_jwks,
        health::get_health,
        health::get_liveness,
        health::get_readiness
    ),
    tags(
        (name = "data plane", description = "Tokens: issue, validate, revoke, release."),
        (name = "operation", description = "Is the service well? For operators.")
    )
)]
struct ApiDescription;

/// The whole document.
#[must_use]
pub fn document() -> openapi::OpenApi {
    ApiDescription::openapi()
}

/// The document at `/openapi.json`, and Swagger UI at `/docs` from the binary itself. Its online
/// validator is off: the page asks nobody but this service.
pub fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    SwaggerUi::new("/docs")
        .url("/openapi.json", document())
        .config(Config::new(["/openapi.json"]).validator_url("none"))
        .into()
}
