//! Metrics: what an instance counts, for Prometheus.
//!
//! [`Metrics`] is handed in, like the clock, and off unless something listens for it: then to
//! measure is to look at an empty handle. `instruments` lists every metric. What is known elsewhere
//! already, as the use of the pools, is looked at when it is asked for, by [`exposition`].
//!
//! No label has a value that a client can choose, so the memory that all this takes is bounded.

pub mod exposition;
mod instruments;

use std::{fmt, sync::Arc, time::Duration};

use axum::http::{Method, StatusCode};
use prometheus::{Histogram, IntCounter, IntGauge};

use self::instruments::Instruments;
pub use self::instruments::MetricsError;

/// In the place of what a client may call anything.
const OTHER: &str = "other";

/// Where measurements go; clones share it. The default measures nothing.
#[derive(Clone, Default)]
pub struct Metrics(Option<Arc<Instruments>>);

/// What counts the look-ups in something that is kept in memory.
#[derive(Clone, Debug)]
pub(crate) struct Lookups {
    hits: IntCounter,
    misses: IntCounter,
}

impl Lookups {
    pub(crate) fn count(&self, is_hit: bool) {
        let counter = if is_hit { &self.hits } else { &self.misses };
        counter.inc();
    }
}

impl Metrics {
    /// Nothing measured yet.
    ///
    /// # Errors
    /// When the metrics do not go together.
    pub fn new() -> Result<Self, MetricsError> {
        Ok(Self(Some(Arc::new(Instruments::new()?))))
    }

    /// Counts a request that was answered; `route` is the one that it matched, if it did.
    pub(crate) fn request(
        &self,
        method: &Method,
        route: Option<&str>,
        status: StatusCode,
        duration: Duration,
        problem: Option<&'static str>,
    ) {
        let Some(instruments) = &self.0 else {
            return;
        };
        let method = usual(method);
        let route = route.unwrap_or(OTHER);
        let requests = &instruments.requests;
        requests
            .with_label_values(&[method, route, status.as_str()])
            .inc();
        let seconds = &instruments.request_seconds;
        seconds
            .with_label_values(&[method, route])
            .observe(duration.as_secs_f64());
        if let Some(problem) = problem {
            let problems = &instruments.problems;
            problems.with_label_values(&[route, problem]).inc();
        }
    }

    /// Counts what was said of a token.
    pub(crate) fn verdict(&self, verdict: &'static str) {
        if let Some(instruments) = &self.0 {
            instruments.verdicts.with_label_values(&[verdict]).inc();
        }
    }

    /// Counts a call that was refused since its site's plan is used up: one of the configuration,
    /// for no call of another comes so far.
    pub(crate) fn quota_refusal(&self, plan: &str) {
        if let Some(instruments) = &self.0 {
            instruments.quota_refusals.with_label_values(&[plan]).inc();
        }
    }

    /// Counts rows that were cleaned up.
    pub(crate) fn removed(&self, table: &'static str, rows: u64) {
        if let Some(instruments) = &self.0 {
            let removed = &instruments.removed_rows;
            removed.with_label_values(&[table]).inc_by(rows);
        }
    }

    /// Counts a batch of spans that could not be sent.
    pub(crate) fn trace_export_failed(&self) {
        if let Some(instruments) = &self.0 {
            instruments.trace_export_failures.inc();
        }
    }

    /// What counts the failures of a piece of background work.
    pub(crate) fn failures_of(&self, work: &'static str) -> Option<IntCounter> {
        let instruments = self.0.as_ref()?;
        Some(instruments.background_failures.with_label_values(&[work]))
    }

    pub(crate) fn lookups(&self, cache: &'static str) -> Option<Lookups> {
        let lookups = &self.0.as_ref()?.lookups;
        Some(Lookups {
            hits: lookups.with_label_values(&[cache, "hit"]),
            misses: lookups.with_label_values(&[cache, "miss"]),
        })
    }

    /// What is told how many calls a batch has.
    pub(crate) fn batch_calls(&self, batch: &'static str) -> Option<Histogram> {
        let instruments = self.0.as_ref()?;
        Some(instruments.batch_calls.with_label_values(&[batch]))
    }

    /// What counts the passwords that were not looked at.
    pub(crate) fn hashing_refusals(&self) -> Option<IntCounter> {
        let instruments = self.0.as_ref()?;
        Some(instruments.hashing_refusals.clone())
    }

    /// What says whether changes are heard of at once.
    pub(crate) fn change_listener(&self) -> Option<IntGauge> {
        let instruments = self.0.as_ref()?;
        Some(instruments.change_listener.clone())
    }
}

/// A client may send any word as its method.
pub(super) fn usual(method: &Method) -> &str {
    match *method {
        Method::GET
        | Method::HEAD
        | Method::POST
        | Method::PUT
        | Method::PATCH
        | Method::DELETE
        | Method::OPTIONS => method.as_str(),
        _ => OTHER,
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self.0 {
            Some(_) => "Metrics(on)",
            None => "Metrics(off)",
        })
    }
}
