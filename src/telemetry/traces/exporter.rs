//! Sending spans, and telling when that fails.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use opentelemetry_otlp::{ExporterBuildError, Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{SpanData, SpanExporter as Exports},
};

use crate::telemetry::metrics::Metrics;

/// How long a collector may take for a batch.
const PATIENCE: Duration = Duration::from_secs(2);

/// Sends spans. Of failures that follow each other only the first is logged, and that they are over:
/// with a collector that is gone there would be one every few seconds.
#[derive(Debug)]
pub(super) struct Watched {
    exporter: SpanExporter,
    metrics: Metrics,
    is_failing: AtomicBool,
}

/// Sends spans to a collector.
pub(super) fn to(endpoint: &str, metrics: Metrics) -> Result<Watched, ExporterBuildError> {
    let exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(endpoint)
        .with_timeout(PATIENCE)
        .build()?;
    Ok(Watched {
        exporter,
        metrics,
        is_failing: AtomicBool::new(false),
    })
}

impl Exports for Watched {
    async fn export(&self, spans: Vec<SpanData>) -> OTelSdkResult {
        let sent = self.exporter.export(spans).await;
        let was_failing = self.is_failing.swap(sent.is_err(), Ordering::Relaxed);
        match &sent {
            Ok(()) if was_failing => tracing::info!("traces are sent again"),
            Ok(()) => {}
            Err(error) => {
                self.metrics.trace_export_failed();
                if !was_failing {
                    tracing::warn!(error = %error, "traces cannot be sent and are lost");
                }
            }
        }
        // An error would be logged each time.
        Ok(())
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
