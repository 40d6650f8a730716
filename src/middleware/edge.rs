//! The outermost layer: request id, whom it is for, time-out, caught panics, problem bodies, headers,
//! log line.
//!
//! It is one layer and written by hand since every request pays for it: a stack of general ones
//! that do the same leaves a third less throughput.

use std::{
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    extract::{MatchedPath, Request},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::future::BoxFuture;
use tower::{Layer, Service};

use super::host;
use crate::{
    error::{ApiError, Chain, Problem, Shape, WrittenOut},
    middleware::client_address::ClientAddress,
    telemetry::{
        metrics::Metrics,
        traces::{TracedRequest, Traces},
    },
    types::{
        clock::{Clock, Monotonic},
        ids::SiteId,
        patience::within,
        randomness::Randomness,
    },
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const MAX_REQUEST_ID_BYTES: usize = 128;

/// The site that a request was made by or about, in the extensions of its response; for the log.
#[derive(Clone, Copy)]
pub(crate) struct LoggedSite(pub(crate) Option<SiteId>);

/// Gives each response an `x-request-id`, the caller's own when it is 1–128 visible ASCII
/// characters; refuses what does not say properly whom it is for; writes out problems; turns a panic
/// into a 500 and a request that takes longer than the time-out into a 503; and logs one line a
/// request. That of a refusal says its code, and that of somebody who was not known, or tried too
/// often, the client's address: which site sends a wrong secret, and whom to keep out.
#[derive(Clone, Debug)]
pub struct EdgeLayer {
    clock: Clock,
    randomness: Randomness,
    timeout: Duration,
    metrics: Metrics,
    traces: Traces,
    /// The route whose problems are written out plainly.
    plain_at: Option<&'static str>,
}

impl EdgeLayer {
    /// An edge that answers every request within `timeout`.
    #[must_use]
    pub fn new(clock: Clock, randomness: Randomness, timeout: Duration) -> Self {
        Self {
            clock,
            randomness,
            timeout,
            metrics: Metrics::default(),
            traces: Traces::default(),
            plain_at: None,
        }
    }

    /// The same edge, where requests are counted and some of them traced.
    #[must_use]
    pub fn observed_by(self, metrics: Metrics, traces: Traces) -> Self {
        Self {
            metrics,
            traces,
            ..self
        }
    }

    /// The same edge, which writes out the problems of one route in the shape that its clients know,
    /// `{"status", "message"}`: also those that no layer of that route sees.
    #[must_use]
    pub const fn with_plain_problems_at(mut self, route: &'static str) -> Self {
        self.plain_at = Some(route);
        self
    }
}

impl<S> Layer<S> for EdgeLayer {
    type Service = Edge<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Edge {
            inner,
            layer: Arc::new(self.clone()),
        }
    }
}

/// The service that [`EdgeLayer`] makes.
#[derive(Clone, Debug)]
pub struct Edge<S> {
    inner: S,
    // Cloned for every request.
    layer: Arc<EdgeLayer>,
}

impl<S> Service<Request> for Edge<S>
where
    S: Service<Request, Response = Response> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
{
    type Response = Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let seen = Seen::new(&request, &self.layer);
        let trace = self.layer.traces.begin(&request);
        let timeout = self.layer.timeout;
        if let Some(fault) = host::fault(&request) {
            let refused = ApiError::BadRequest(fault).into_response();
            return Box::pin(async move { Ok(seen.finish(refused, trace)) });
        }
        let inner = &mut self.inner;
        // A panic before the first await is one too.
        let started = catch_unwind(AssertUnwindSafe(|| inner.call(request)));
        Box::pin(async move {
            let response = match (started, &trace) {
                (Ok(future), None) => answer(future, timeout).await?,
                (Ok(future), Some(trace)) => trace.around(answer(future, timeout)).await?,
                (Err(_), _) => panicked(),
            };
            Ok(seen.finish(response, trace))
        })
    }
}

async fn answer<E>(
    future: impl Future<Output = Result<Response, E>>,
    timeout: Duration,
) -> Result<Response, E> {
    let mut future = std::pin::pin!(future);
    let caught =
        poll_fn(
            |context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
                Ok(polled) => polled,
                Err(_) => Poll::Ready(Ok(panicked())),
            },
        );
    let answered = within(timeout, caught).await;
    answered.unwrap_or_else(|| Ok(ApiError::Overloaded.into_response()))
}

/// The panic hook has written where and why to the log.
fn panicked() -> Response {
    ApiError::internal("the request's handler panicked").into_response()
}

/// What is remembered of a request until its response is there.
struct Seen {
    method: Method,
    path: Option<MatchedPath>,
    shape: Shape,
    request_id: HeaderValue,
    client: Option<ClientAddress>,
    started: Monotonic,
    layer: Arc<EdgeLayer>,
}

impl Seen {
    fn new(request: &Request, layer: &Arc<EdgeLayer>) -> Self {
        let path = request.extensions().get::<MatchedPath>().cloned();
        let is_plain =
            layer.plain_at.is_some() && layer.plain_at == path.as_ref().map(MatchedPath::as_str);
        Self {
            method: request.method().clone(),
            shape: if is_plain {
                Shape::Plain
            } else {
                Shape::Details
            },
            path,
            request_id: request_id(request.headers(), layer),
            client: request.extensions().get().copied(),
            started: layer.clock.monotonic(),
            layer: Arc::clone(layer),
        }
    }

    fn finish(self, response: Response, trace: Option<TracedRequest>) -> Response {
        let WrittenOut {
            mut response,
            code,
            cause,
        } = Problem::write_out(response, self.shape, &self.request_id);
        let request_id = self.request_id.to_str().unwrap_or_default();
        if let Some(cause) = cause {
            tracing::error!(
                request.id = request_id,
                error = %Chain(cause.as_ref()),
                "a request failed on our side"
            );
        }
        let site = response.extensions().get::<LoggedSite>();
        let site_id = site.and_then(|LoggedSite(site_id)| *site_id);
        let route = self.path.as_ref().map(MatchedPath::as_str);
        let status = response.status();
        let client = self.client.filter(|_| is_told_of_client(status));
        let client = client.map(|ClientAddress(address)| address);
        let duration = self.layer.clock.monotonic().since(self.started);
        self.layer
            .metrics
            .request(&self.method, route, status, duration, code);
        tracing::info!(
            method = self.method.as_str(),
            path = route,
            status = status.as_u16(),
            error.code = code,
            client.address = client.map(tracing::field::display),
            duration_ms = milliseconds(duration),
            request.id = request_id,
            site.id = site_id.map(tracing::field::display),
            trace.id = trace
                .as_ref()
                .map(TracedRequest::trace_id)
                .map(tracing::field::display),
            "request"
        );
        if let Some(trace) = trace {
            trace.end(status, code, request_id, site_id);
        }
        let headers = response.headers_mut();
        headers.insert(REQUEST_ID, self.request_id);
        headers.insert(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        );
        response
    }
}

fn is_told_of_client(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::UNAUTHORIZED | StatusCode::TOO_MANY_REQUESTS
    )
}

/// To the microsecond, so that the number is no longer than it needs to be.
#[expect(
    clippy::cast_precision_loss,
    reason = "exact for some three hundred years"
)]
fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}

fn request_id(headers: &HeaderMap, layer: &EdgeLayer) -> HeaderValue {
    let own = headers.get(REQUEST_ID).filter(|id| {
        (1..=MAX_REQUEST_ID_BYTES).contains(&id.len())
            && id.as_bytes().iter().all(u8::is_ascii_graphic)
    });
    own.cloned().unwrap_or_else(|| {
        let id = layer.randomness.uuid_v7(layer.clock.now());
        let mut buffer = uuid::Uuid::encode_buffer();
        HeaderValue::from_str(id.as_hyphenated().encode_lower(&mut buffer))
            .unwrap_or(HeaderValue::from_static("unknown"))
    })
}
