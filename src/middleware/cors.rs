//! Cross-origin requests (the Fetch standard, section 3.2), for apps that run in a web view.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    extract::Request,
    http::{HeaderName, HeaderValue, Method, header},
    response::Response,
};
use futures_util::future::Either;
use tower::{Layer, Service};
use tower_http::cors::{AllowOrigin, CorsLayer, ResponseFuture};

/// How long a browser may remember the answer to a preflight request.
const PREFLIGHT_MAX_AGE: Duration = Duration::from_mins(10);

/// Lets apps of some origins call a route, without credentials: answers their preflight requests, and
/// marks what they may read. Any other `OPTIONS` goes on to the route, which has no such method. With
/// no origins at all it does nothing, and costs next to nothing.
#[derive(Clone, Debug)]
pub struct CrossOriginLayer(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    origins: Vec<HeaderValue>,
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
        Self(Arc::new(Shared {
            origins: origins.to_vec(),
            cors,
        }))
    }
}

impl Shared {
    /// Whether the answer is to be made, or marked, for web pages of other origins.
    fn concerns(&self, request: &Request) -> bool {
        !self.origins.is_empty() && !self.is_foreign_options(request)
    }

    fn is_foreign_options(&self, request: &Request) -> bool {
        let headers = request.headers();
        let is_preflight = || {
            headers
                .get(header::ORIGIN)
                .is_some_and(|origin| self.origins.contains(origin))
                && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
        };
        request.method() == Method::OPTIONS && !is_preflight()
    }
}

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

impl<S> Layer<S> for CrossOriginLayer {
    type Service = CrossOrigin<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CrossOrigin {
            inner,
            shared: Arc::clone(&self.0),
        }
    }
}

/// The service that [`CrossOriginLayer`] makes.
#[derive(Clone, Debug)]
pub struct CrossOrigin<S> {
    inner: S,
    // Cloned for every request.
    shared: Arc<Shared>,
}

impl<S> Service<Request> for CrossOrigin<S>
where
    S: Service<Request, Response = Response> + Clone,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Either<S::Future, Pin<Box<ResponseFuture<S::Future>>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        if self.shared.concerns(&request) {
            let clone = self.inner.clone();
            let inner = std::mem::replace(&mut self.inner, clone);
            let answer = self.shared.cors.layer(inner).call(request);
            Either::Right(Box::pin(answer))
        } else {
            Either::Left(self.inner.call(request))
        }
    }
}
