//! The trace of one request.

use axum::{
    extract::{MatchedPath, Request},
    http::StatusCode,
};
use opentelemetry::{
    Context, KeyValue,
    trace::{FutureExt, SpanKind, Status, TraceContextExt, TraceId, Tracer},
};
use opentelemetry_sdk::trace::SdkTracer;

use crate::{telemetry::metrics::usual, types::ids::SiteId};

/// A request that is traced. Its span ends with it, also when its caller hangs up.
pub(crate) struct TracedRequest(Context);

impl TracedRequest {
    /// The names are those of OpenTelemetry's semantic conventions for HTTP.
    pub(super) fn begin(tracer: &SdkTracer, parent: &Context, request: &Request) -> Self {
        let route = request.extensions().get::<MatchedPath>();
        let method = usual(request.method()).to_owned();
        let name = match route {
            Some(route) => format!("{method} {}", route.as_str()),
            None => method.clone(),
        };
        let route = route.map(|route| KeyValue::new("http.route", route.as_str().to_owned()));
        let attributes = route
            .into_iter()
            .chain([KeyValue::new("http.request.method", method)]);
        let span = tracer
            .span_builder(name)
            .with_kind(SpanKind::Server)
            .with_attributes(attributes)
            .start_with_context(tracer, parent);
        Self(parent.with_span(span).with_value(tracer.clone()))
    }

    /// Does work as a part of this request: what it does in turn finds its trace.
    pub(crate) fn around<F: Future>(&self, work: F) -> impl Future<Output = F::Output> + use<F> {
        work.with_context(self.0.clone())
    }

    pub(crate) fn trace_id(&self) -> TraceId {
        self.0.span().span_context().trace_id()
    }

    /// Says what came of it.
    pub(crate) fn end(
        self,
        status: StatusCode,
        problem: Option<&'static str>,
        request_id: &str,
        site_id: Option<SiteId>,
    ) {
        let span = self.0.span();
        let code = i64::from(status.as_u16());
        span.set_attribute(KeyValue::new("http.response.status_code", code));
        span.set_attribute(KeyValue::new("mirrory.request.id", request_id.to_owned()));
        if let Some(problem) = problem {
            span.set_attribute(KeyValue::new("error.type", problem));
        }
        if let Some(site_id) = site_id {
            span.set_attribute(KeyValue::new("mirrory.site.id", site_id.to_string()));
        }
        if status.is_server_error() {
            span.set_status(Status::error(""));
        }
        span.end();
    }
}
