//! Every metric: its name, what it tells, its labels.

use prometheus::{
    Gauge, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, core::Collector,
};

/// From half of the fastest answers to what a request may take.
const SECONDS: [f64; 15] = [
    0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
    15.0,
];

/// Up to the largest batch.
const CALLS: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// Two metrics have one name, or one has a bad name.
#[derive(Debug, thiserror::Error)]
#[error("the metrics do not go together")]
pub struct MetricsError(#[from] prometheus::Error);

/// The metrics of one instance.
pub(super) struct Instruments {
    pub(super) registry: Registry,
    pub(super) requests: IntCounterVec,
    pub(super) request_seconds: HistogramVec,
    pub(super) problems: IntCounterVec,
    pub(super) verdicts: IntCounterVec,
    pub(super) quota_refusals: IntCounterVec,
    pub(super) lookups: IntCounterVec,
    pub(super) batch_calls: HistogramVec,
    pub(super) removed_rows: IntCounterVec,
    pub(super) background_failures: IntCounterVec,
    pub(super) trace_export_failures: IntCounter,
    pub(super) hashing_refusals: IntCounter,
    pub(super) hashing: IntGaugeVec,
    pub(super) admitted: IntGauge,
    pub(super) admitted_most: IntGauge,
    pub(super) connections: IntGaugeVec,
    pub(super) connections_most: IntGaugeVec,
    pub(super) change_listener: IntGauge,
    pub(super) change_log_age: Gauge,
    pub(super) ready: IntGauge,
    pub(super) uptime: Gauge,
}

impl Instruments {
    pub(super) fn new() -> Result<Self, MetricsError> {
        let make = Maker(Registry::new());
        let build = make.gauges("build_info", "Which version runs; always 1.", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Ok(Self {
            requests: make.counters(
                "http_requests_total",
                "Requests that were answered.",
                &["method", "route", "status"],
            )?,
            request_seconds: make.histograms(
                "http_request_duration_seconds",
                "How long requests took, from their head to their answer.",
                &["method", "route"],
                &SECONDS,
            )?,
            problems: make.counters(
                "http_problems_total",
                "Requests that were refused, by the code of the problem.",
                &["route", "error"],
            )?,
            verdicts: make.counters(
                "validation_verdicts_total",
                "Verdicts on tokens: valid, or the reason why not.",
                &["verdict"],
            )?,
            quota_refusals: make.counters(
                "quota_refusals_total",
                "Calls that were refused since the site's plan is used up.",
                &["plan"],
            )?,
            lookups: make.counters(
                "cache_lookups_total",
                "Look-ups in memory, and whether it could answer.",
                &["cache", "result"],
            )?,
            batch_calls: make.histograms(
                "store_batch_calls",
                "Calls that were done by one statement.",
                &["batch"],
                &CALLS,
            )?,
            removed_rows: make.counters(
                "janitor_removed_rows_total",
                "Rows that this instance has cleaned up.",
                &["table"],
            )?,
            background_failures: make.counters(
                "background_failures_total",
                "Rounds of background work that failed.",
                &["work"],
            )?,
            trace_export_failures: make.counter(
                "trace_export_failures_total",
                "Batches of spans that the collector did not take.",
            )?,
            hashing_refusals: make.counter(
                "password_hashing_refused_total",
                "Passwords that were not looked at, since too many waited.",
            )?,
            hashing: make.gauges(
                "password_hashing",
                "Requests with a place in the queue before argon2, and what they do.",
                &["state"],
            )?,
            admitted: make.gauge(
                "admitted_requests",
                "Requests about tokens that are worked on.",
            )?,
            admitted_most: make.gauge(
                "admitted_requests_max",
                "How many may be worked on: server.concurrent_requests.",
            )?,
            connections: make.gauges(
                "store_connections",
                "Open connections to the store.",
                &["pool", "state"],
            )?,
            connections_most: make.gauges(
                "store_connections_max",
                "How many connections may be open.",
                &["pool"],
            )?,
            change_listener: make.gauge(
                "change_listener_up",
                "Whether changes are heard of at once (PostgreSQL); else they are found by looking.",
            )?,
            change_log_age: make.seconds(
                "change_log_age_seconds",
                "How long ago the change log was read to its end; above 1, memory is not used.",
            )?,
            ready: make.gauge("ready", "Whether /readyz would say so.")?,
            uptime: make.seconds("uptime_seconds", "How long the process runs.")?,
            registry: make.0,
        })
    }
}

/// Makes metrics and registers them.
struct Maker(Registry);

impl Maker {
    fn registered<M: Collector + Clone + 'static>(
        &self,
        metric: Result<M, prometheus::Error>,
    ) -> Result<M, MetricsError> {
        let metric = metric?;
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, MetricsError> {
        self.registered(IntCounter::with_opts(options(name, help)))
    }

    fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec, MetricsError> {
        self.registered(IntCounterVec::new(options(name, help), labels))
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, MetricsError> {
        self.registered(IntGauge::with_opts(options(name, help)))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, MetricsError> {
        self.registered(IntGaugeVec::new(options(name, help), labels))
    }

    fn seconds(&self, name: &str, help: &str) -> Result<Gauge, MetricsError> {
        self.registered(Gauge::with_opts(options(name, help)))
    }

    fn histograms(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: &[f64],
    ) -> Result<HistogramVec, MetricsError> {
        let options = HistogramOpts::from(options(name, help)).buckets(buckets.to_vec());
        self.registered(HistogramVec::new(options, labels))
    }
}

fn options(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace("mirrory")
}
