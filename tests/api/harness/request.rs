//! One request, put together step by step.

use std::net::SocketAddr;

use axum::{
    body::Body,
    extract::{ConnectInfo, Request},
    http::{HeaderName, HeaderValue, Method},
};
use serde_json::Value;
use tower::ServiceExt;

use super::{Answer, PEER, TestApp};

/// A request that is not yet sent.
pub struct Call<'a> {
    app: &'a TestApp,
    request: Request,
}

impl<'a> Call<'a> {
    pub(super) fn new(app: &'a TestApp, method: &str, path: &str) -> Self {
        let request = Request::builder()
            .method(Method::from_bytes(method.as_bytes()).unwrap())
            .uri(path)
            .header("host", "mirrory.test")
            .body(Body::empty())
            .unwrap();
        Self { app, request }.peer(PEER)
    }

    /// Calls from another address: `192.0.2.1:50000`, `[2001:db8::1]:50000`.
    pub fn peer(mut self, peer: &str) -> Self {
        let peer: SocketAddr = peer.parse().unwrap();
        self.request.extensions_mut().insert(ConnectInfo(peer));
        self
    }

    /// Says nothing of whom it is for.
    pub fn without_host(mut self) -> Self {
        self.request.headers_mut().remove("host");
        self
    }

    /// Adds a header, beside any of the same name.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.request.headers_mut().append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_bytes(value.as_ref()).unwrap(),
        );
        self
    }

    /// Proves the caller with an access token or a one-hour token.
    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", format!("Bearer {token}"))
    }

    /// Sends a JSON document, labelled as one.
    pub fn json(self, body: &Value) -> Self {
        self.header("content-type", "application/json")
            .body(body.to_string())
    }

    /// Sends bytes, labelled as JSON.
    pub fn text(self, body: impl Into<Body>) -> Self {
        self.header("content-type", "application/json").body(body)
    }

    /// Sends bytes.
    pub fn body(mut self, body: impl Into<Body>) -> Self {
        *self.request.body_mut() = body.into();
        self
    }

    /// Sends the request, and holds the answer against the OpenAPI document and against what is
    /// promised of every answer.
    pub async fn send(self) -> Answer {
        let Self { app, request } = self;
        let method = request.method().clone();
        let path = request.uri().path().to_owned();
        let response = app.router.clone().oneshot(request).await.unwrap();
        let answer = Answer::read(response).await;
        answer.check_promises(&method, &path);
        app.contract.check(&method, &path, &answer);
        answer
    }
}
