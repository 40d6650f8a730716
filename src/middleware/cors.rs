//! Cross-origin requests (the Fetch standard, section 3.2), for apps that run in a web view.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    extract::Request,
    http::{HeaderName, HeaderValue, Method, header},
    response::Response,
    routing::MethodRouter,
};
use futures_util::future::Either;
use tower::{Layer, Service};
use tower_http::cors::{AllowOrigin, Cors, CorsLayer, ResponseFuture};

/// How long a browser may remember the answer to a preflight request.
const PREFLIGHT_MAX_AGE: Duration = Duration::from_mins(10);

/// Lets apps of these origins call a route, without credentials. No origins: no layer.
pub fn layered<S>(route: MethodRouter<S>, origins: &[HeaderValue]) -> MethodRouter<S>
where
    S: Clone + Send + Sync + 'static,
{
    if origins.is_empty() {
        route
    } else {
        route.layer(CrossOriginLayer::new(origins))
    }
}

/// Answers preflight requests of the allowed origins, and marks what they may read. Any other
/// `OPTIONS` goes on to the route, which has no such method.
#[derive(Clone, Debug)]
pub struct CrossOriginLayer {
    origins: Arc<[HeaderValue]>,
    cors: CorsLayer,
}

impl CrossOriginLayer {
    /// A layer that knows these origins, each as in `https://app.example`.
    #[must_use]
    pub fn new(origins: &[HeaderValue]) -> Self {
        let cors = CorsLayer::new()
            .allow_origin(AllowOrigin::list(origins.iter().cloned()))
            .allow_methods([Method::GET, Method::POST])
            .allow_headers([header::CONTENT_TYPE, X_REQUEST_ID])
            .expose_headers([header::RETRY_AFTER, X_REQUEST_ID])
            .max_age(PREFLIGHT_MAX_AGE);
        Self {
            origins: origins.into(),
            cors,
        }
    }

    fn is_foreign_options(&self, request: &Request) -> bool {
        let headers = request.headers();
        let is_preflight = headers
            .get(header::ORIGIN)
            .is_some_and(|origin| self.origins.contains(origin))
            && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        request.method() == Method::OPTIONS && !is_preflight
    }
}

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

impl<S: Clone> Layer<S> for CrossOriginLayer {
    type Service = CrossOrigin<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CrossOrigin {
            shared: self.cors.layer(inner.clone()),
            plain: inner,
            layer: self.clone(),
        }
    }
}

/// The service that [`CrossOriginLayer`] makes.
#[derive(Clone, Debug)]
pub struct CrossOrigin<S> {
    plain: S,
    shared: Cors<S>,
    layer: CrossOriginLayer,
}

impl<S> Service<Request> for CrossOrigin<S>
where
    S: Service<Request, Response = Response>,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Either<S::Future, ResponseFuture<S::Future>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        std::task::ready!(self.plain.poll_ready(context))?;
        self.shared.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        if self.layer.is_foreign_options(&request) {
            Either::Left(self.plain.call(request))
        } else {
            Either::Right(self.shared.call(request))
        }
    }
}
