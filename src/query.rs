//! Reading the query of a request, parameter by parameter, with our refusals.

use axum::{extract::FromRequestParts, http::request::Parts};
use serde_json::Value;
use url::form_urlencoded;
use utoipa::openapi::{
    RefOr, Schema,
    path::{Parameter, ParameterBuilder, ParameterIn},
};

use crate::{
    error::ApiError,
    extract::Fields,
    types::{clock::Timestamp, ids::InvalidId, text::storable},
};

/// What is read from a request's query. What is wrong is noted in `fields`, and the value then not
/// used.
pub(crate) trait FromQuery: Sized {
    /// Reads the parameters that it knows.
    fn read(parameters: &Parameters, fields: &mut Fields) -> Self;
}

/// Extracts the query of a request.
///
/// # Errors
/// 422 with every parameter that is wrong or given twice. Unknown ones are ignored.
pub(crate) struct Query<T>(pub(crate) T);

impl<T: FromQuery, S: Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let query = parts.uri.query().unwrap_or_default();
        let pairs = form_urlencoded::parse(query.as_bytes());
        let parameters = Parameters(pairs.into_owned().collect());
        let mut fields = Fields::default();
        let query = T::read(&parameters, &mut fields);
        fields.finish(Some(query)).map(Self)
    }
}

/// The parameters of a query, in their order.
pub(crate) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// One that may be absent.
    pub(crate) fn optional<T>(
        &self,
        name: &'static str,
        fields: &mut Fields,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let mut values = self.0.iter().filter(|(known, _)| known == name);
        let (_, value) = values.next()?;
        let parsed = match values.next() {
            None => match storable(value.as_str()) {
                Ok(value) => parse(value),
                Err(refused) => Err(refused.to_string()),
            },
            Some(_) => Err("must be given once".to_owned()),
        };
        parsed.map_err(|message| fields.refuse(name, message)).ok()
    }

    /// The request's query, with other values for these parameters: a reference relative to the URL
    /// that the client knows, which a proxy may have cut (RFC 3986, section 5.2).
    pub(crate) fn with(&self, changed: &[(&str, &str)]) -> String {
        let is_kept = |name: &str| changed.iter().all(|(changed, _)| *changed != name);
        let kept = self.0.iter().filter(|(name, _)| is_kept(name));
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(kept)
            .extend_pairs(changed)
            .finish();
        format!("?{query}")
    }
}

/// A parameter that is an id.
pub(crate) fn id<T: std::str::FromStr<Err = InvalidId>>(text: &str) -> Result<T, String> {
    text.parse()
        .map_err(|invalid: InvalidId| invalid.to_string())
}

/// A parameter that is a moment.
pub(crate) fn moment(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text)
        .ok_or_else(|| "must be a time in UTC, as in 2026-12-31T23:59:59Z (RFC 3339)".to_owned())
}

/// A parameter as the API's description tells of it.
pub(crate) fn described(
    name: &str,
    description: &str,
    schema: impl Into<RefOr<Schema>>,
    example: Value,
) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Query)
        .description(Some(description))
        .schema(Some(schema))
        .example(Some(example))
        .build()
}
