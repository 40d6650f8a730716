//! Traces: what a few of the requests spend their time on, sent to a collector by OTLP over HTTP.
//!
//! Whether a request is traced is decided at the edge before anything is made for it, so one that
//! is not costs next to nothing. Therefore this uses OpenTelemetry's own interface and no layer of
//! `tracing`, for which each request would need a span.
//!
//! Spans wait in a bounded queue for the thread that sends them. When the collector is slow or
//! gone, spans are lost and no request waits.

mod exporter;
mod request;

use std::{fmt, sync::Arc, time::Duration};

use axum::extract::Request;
use ipnet::IpNet;
use opentelemetry::{
    Context, KeyValue,
    propagation::TextMapPropagator,
    trace::{FutureExt, SpanKind, Status, TraceContextExt, Tracer, TracerProvider},
};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_otlp::ExporterBuildError;
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{Sampler, SdkTracer, SdkTracerProvider},
};
use url::Url;

pub(crate) use self::request::TracedRequest;
use super::metrics::Metrics;
use crate::{
    config::Config,
    middleware::client_address::peer,
    types::{clock::Clock, randomness::Randomness},
};

/// How long the last spans may take at the end.
const LAST_SPANS: Duration = Duration::from_secs(3);

/// Traces cannot be sent to where the configuration says.
#[derive(Debug, thiserror::Error)]
#[error("traces cannot be sent to telemetry.otlp_endpoint")]
pub struct TracesError(#[from] ExporterBuildError);

/// Where traces begin; clones share it. The default traces nothing.
#[derive(Clone, Default)]
pub struct Traces(Option<Arc<Tracing>>);

struct Tracing {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    ratio: f64,
    trusted_proxies: Vec<IpNet>,
    randomness: Randomness,
}

impl Traces {
    /// What the configuration wants to be traced.
    ///
    /// # Errors
    /// When nothing can be sent to `telemetry.otlp_endpoint`.
    pub fn new(
        config: &Config,
        clock: &Clock,
        randomness: &Randomness,
        metrics: &Metrics,
    ) -> Result<Self, TracesError> {
        let Some(endpoint) = &config.telemetry.otlp_endpoint else {
            return Ok(Self::default());
        };
        let instance = randomness.uuid_v7(clock.now()).to_string();
        let resource = Resource::builder()
            .with_service_name("mirrory")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .with_attribute(KeyValue::new("service.instance.id", instance))
            .build();
        // What is not to be sampled does not come so far.
        let provider = SdkTracerProvider::builder()
            .with_sampler(Sampler::AlwaysOn)
            .with_resource(resource)
            .with_batch_exporter(exporter::to(&of_traces(endpoint), metrics.clone())?)
            .build();
        Ok(Self(Some(Arc::new(Tracing {
            tracer: provider.tracer("mirrory"),
            provider,
            ratio: config.telemetry.trace_ratio,
            trusted_proxies: config.server.trusted_proxies.clone(),
            randomness: randomness.clone(),
        }))))
    }

    /// Begins the trace of a request, if it is to be traced.
    pub(crate) fn begin(&self, request: &Request) -> Option<TracedRequest> {
        let tracing = self.0.as_ref()?;
        let parent = tracing.parent(request);
        let is_wanted = match &parent {
            Some(parent) => parent.span().span_context().is_sampled(),
            None => tracing.draw(),
        };
        is_wanted.then(|| {
            let parent = parent.unwrap_or_default();
            TracedRequest::begin(&tracing.tracer, &parent, request)
        })
    }

    /// Sends what is still to be sent, for some seconds at most. Nothing is traced any more then.
    pub async fn close(&self) {
        let Some(tracing) = self.0.clone() else {
            return;
        };
        let closing = move || tracing.provider.shutdown_with_timeout(LAST_SPANS);
        // The provider's thread sends; this one only waits for it.
        if !matches!(tokio::task::spawn_blocking(closing).await, Ok(Ok(()))) {
            tracing::warn!("the last traces could not be sent");
        }
    }
}

impl Tracing {
    /// The W3C trace context that a trusted proxy handed on. A stranger's is not taken: it could
    /// have all of its requests traced, or none, and write into traces that are not its own.
    fn parent(&self, request: &Request) -> Option<Context> {
        if self.trusted_proxies.is_empty() || !request.headers().contains_key("traceparent") {
            return None;
        }
        let peer = peer(request.extensions())?;
        if !self.trusted_proxies.iter().any(|net| net.contains(&peer)) {
            return None;
        }
        let headers = HeaderExtractor(request.headers());
        let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &headers);
        parent.span().span_context().is_valid().then_some(parent)
    }

    fn draw(&self) -> bool {
        let drawn = u32::from_ne_bytes(self.randomness.bytes());
        f64::from(drawn) < self.ratio * (f64::from(u32::MAX) + 1.0)
    }
}

/// The endpoint of the settings is that of all signals.
fn of_traces(endpoint: &Url) -> String {
    let base = endpoint.as_str().trim_end_matches('/');
    format!("{base}/v1/traces")
}

/// A step of the request that is traced here; of one that is not, just the work.
pub(crate) async fn step<T, E>(
    name: &'static str,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let Some(context) = Context::map_current(|current| current.get().map(begun(name, current)))
    else {
        return work.await;
    };
    let outcome = work.with_context(context.clone()).await;
    if outcome.is_err() {
        context.span().set_status(Status::error(""));
    }
    outcome
}

fn begun(name: &'static str, current: &Context) -> impl FnOnce(&SdkTracer) -> Context {
    move |tracer| {
        let step = tracer.span_builder(name).with_kind(SpanKind::Client);
        current.with_span(step.start_with_context(tracer, current))
    }
}

impl fmt::Debug for Traces {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self.0 {
            Some(_) => "Traces(on)",
            None => "Traces(off)",
        })
    }
}
