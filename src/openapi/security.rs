//! How callers of the management API prove who they are.

use utoipa::{
    Modify,
    openapi::{
        Components, OpenApi,
        security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

/// Adds it.
pub(super) struct Security;

impl Modify for Security {
    fn modify(&self, document: &mut OpenApi) {
        let components = document.components.get_or_insert_with(Components::new);
        components.add_security_scheme("access_token", access_token());
        components.add_security_scheme("one_hour_token", one_hour_token());
        components.add_security_scheme("api_token", api_token());
    }
}

fn access_token() -> SecurityScheme {
    let scheme = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        .description(Some(
            "An access token of `POST /api/v1/jwt`, good for 15 minutes.",
        ))
        .build();
    SecurityScheme::Http(scheme)
}

fn one_hour_token() -> SecurityScheme {
    let value = ApiKeyValue::with_description(
        "Authorization",
        "A token of `POST /api/v1/login`, good for an hour: alone, or after `Bearer `.",
    );
    SecurityScheme::ApiKey(ApiKey::Header(value))
}

fn api_token() -> SecurityScheme {
    let value = ApiKeyValue::with_description(
        "Authorization",
        "`token ` and an API token: `Authorization: token mat_…`. It needs the scope that the \
         operation names.",
    );
    SecurityScheme::ApiKey(ApiKey::Header(value))
}
