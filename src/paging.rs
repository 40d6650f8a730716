//! Lists that are told page by page: `limit`, `cursor`, and a `Link` to the next page (RFC 8288).
//!
//! A cursor is the id of the last row that was told, so that rows which come or go meanwhile make
//! no page repeat or leave out another.

use axum::{
    http::{HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::Serialize;
use serde_json::json;
use utoipa::{
    IntoParams,
    openapi::{
        ObjectBuilder, Type,
        path::{Parameter, ParameterIn},
    },
};
use uuid::Uuid;

use crate::{
    extract::{Fields, Json},
    query::{FromQuery, Parameters, described},
};

const MAX_LIMIT: u8 = 100;
const DEFAULT_LIMIT: u8 = 50;

/// Which page of a list is asked for.
pub(crate) struct Page {
    limit: u8,
    after: Option<Uuid>,
    /// Where the next page is, up to the value of its cursor.
    next: String,
}

impl FromQuery for Page {
    fn read(parameters: &Parameters, fields: &mut Fields) -> Self {
        let limit = parameters.optional("limit", fields, limit);
        let after = parameters.optional("cursor", fields, cursor);
        let limit = limit.unwrap_or(DEFAULT_LIMIT);
        Self {
            limit,
            after,
            next: parameters.with(&[("limit", &limit.to_string()), ("cursor", "")]),
        }
    }
}

impl Page {
    /// How many rows to read: one more than are told, which says whether there is a next page.
    pub(crate) fn rows(&self) -> i64 {
        i64::from(self.limit) + 1
    }

    /// The id after which the page begins, in a list that rises.
    pub(crate) fn rising(&self) -> Uuid {
        self.after.unwrap_or(Uuid::nil())
    }

    /// The id before which the page begins, in a list that falls.
    pub(crate) fn falling(&self) -> Uuid {
        self.after.unwrap_or(Uuid::max())
    }

    /// The page, and the way to the next one.
    pub(crate) fn of<T>(self, mut rows: Vec<T>, id: impl Fn(&T) -> Uuid) -> Paged<T> {
        let limit = usize::from(self.limit);
        let has_next = rows.len() > limit;
        rows.truncate(limit);
        let last = rows.last().filter(|_| has_next);
        let next = last.map(|row| {
            let cursor = BASE64_URL_SAFE_NO_PAD.encode(id(row).as_bytes());
            format!("<{}{cursor}>; rel=\"next\"", self.next)
        });
        Paged { rows, next }
    }
}

/// A page as it is answered.
pub(crate) struct Paged<T> {
    rows: Vec<T>,
    next: Option<String>,
}

impl<T> Paged<T> {
    /// The same page, each row in another form.
    pub(crate) fn map<U>(self, form: impl FnMut(T) -> U) -> Paged<U> {
        Paged {
            rows: self.rows.into_iter().map(form).collect(),
            next: self.next,
        }
    }
}

impl<T: Serialize> IntoResponse for Paged<T> {
    fn into_response(self) -> Response {
        let link = |next: String| HeaderValue::try_from(next).ok();
        let link: Option<(HeaderName, HeaderValue)> =
            self.next.and_then(link).map(|link| (header::LINK, link));
        let mut response = Json(self.rows).into_response();
        response.headers_mut().extend(link);
        response
    }
}

fn limit(text: &str) -> Result<u8, String> {
    let limit = text.parse().ok();
    limit
        .filter(|limit| (1..=MAX_LIMIT).contains(limit))
        .ok_or_else(|| format!("must be an integer from 1 to {MAX_LIMIT}"))
}

fn cursor(text: &str) -> Result<Uuid, String> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok();
    bytes
        .and_then(|bytes| Uuid::from_slice(&bytes).ok())
        .ok_or_else(|| "must be the cursor of a `Link` to a next page".to_owned())
}

impl IntoParams for Page {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let limit = ObjectBuilder::new()
            .schema_type(Type::Integer)
            .minimum(Some(1))
            .maximum(Some(MAX_LIMIT))
            .default(Some(DEFAULT_LIMIT.into()));
        let cursor = ObjectBuilder::new().schema_type(Type::String);
        vec![
            described(
                "limit",
                "How many rows the page has at most.",
                limit.build(),
                json!(DEFAULT_LIMIT),
            ),
            described(
                "cursor",
                "Where the page begins. Follow the `Link` of the page before.",
                cursor.build(),
                json!("AZq_Pn0qfGSaUT8OimscLQ"),
            ),
        ]
    }
}
