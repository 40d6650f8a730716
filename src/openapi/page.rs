//! The document at `/openapi.json`, and a page that shows it at `/docs`.

use std::sync::{Arc, LazyLock};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::Path,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use utoipa_swagger_ui::{Config, SwaggerFile};

use super::document;
use crate::error::ApiError;

/// Every asset is in the binary; the browser is told so, and loads none from elsewhere. Swagger UI
/// sets styles and small images from its scripts.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; \
                                       img-src 'self' data:; frame-ancestors 'none'";

/// The document and Swagger UI. All links are relative, so both work below any path that a reverse
/// proxy puts before them. The online validator is off: the page asks nobody but this service.
pub(crate) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let config = Arc::new(Config::new(["../openapi.json"]).validator_url("none"));
    let index = Arc::clone(&config);
    // Made when it is first asked for, since most instances never are, and then shared by all answers:
    // one may have to wait long for a client that does not take it.
    let document = Arc::new(LazyLock::new(|| {
        serde_json::to_vec(&document()).map(Bytes::from)
    }));
    Router::new()
        .route("/openapi.json", get(async move || written(&document)))
        .route("/docs", get(redirect))
        .route("/docs/", get(async move || asset("", index)))
        .route(
            "/docs/{*asset}",
            get(async move |Path(path): Path<String>| asset(&path, config)),
        )
}

fn written(document: &Result<Bytes, serde_json::Error>) -> Result<Response, ApiError> {
    let document = document
        .as_ref()
        .map_err(|error| ApiError::internal(error.to_string()))?;
    let media_type = [(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    )];
    Ok((media_type, document.clone()).into_response())
}

async fn redirect() -> Response {
    let location = [(header::LOCATION, HeaderValue::from_static("docs/"))];
    (StatusCode::PERMANENT_REDIRECT, location).into_response()
}

fn asset(path: &str, config: Arc<Config<'static>>) -> Result<Response, ApiError> {
    let file = utoipa_swagger_ui::serve(path, config)
        .map_err(|error| ApiError::internal(error.to_string()))?
        .ok_or(ApiError::NotFound)?;
    let SwaggerFile {
        bytes,
        content_type,
        ..
    } = file;
    let content_type = HeaderValue::from_str(&content_type)
        .map_err(|error| ApiError::internal(error.to_string()))?;
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static(CONTENT_SECURITY_POLICY),
        ),
    ];
    Ok((headers, Body::from(bytes)).into_response())
}

#[cfg(test)]
mod tests;
