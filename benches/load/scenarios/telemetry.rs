//! Known tokens while requests are counted, and while one of a hundred is traced, beside neither.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{Router, body::Bytes, extract::State, http::StatusCode, routing::post};
use tokio::net::TcpListener;

use crate::{
    Outcome,
    bench::Bench,
    measure::Contender,
    requests::{self, Endpoint},
};

pub async fn measure(bench: &mut Bench) -> Outcome<()> {
    let service = bench.on_postgres().await;
    let instance = bench.start(&service).await?;
    let counting = service.with("TELEMETRY__METRICS_LISTEN", "127.0.0.1:0");
    let counting = counting.start(&bench.cores).await?;
    let received = Received::default();
    let collector = collect(Arc::clone(&received)).await?;
    let tracing = service
        .with("TELEMETRY__OTLP_ENDPOINT", &format!("http://{collector}"))
        .with("TELEMETRY__TRACE_RATIO", "0.01");
    let tracing = tracing.start(&bench.cores).await?;

    let requests = requests::validate(&instance.tokens);
    let load = bench.load(&instance.server, Endpoint::Validate, requests);
    let contenders = [
        Contender::new("neither", &instance.server, load.clone()).on_postgres()?,
        Contender::new("metrics", &counting, load.to(counting.address)).on_postgres()?,
        Contender::new("traces of 1 %", &tracing, load.to(tracing.address)).on_postgres()?,
    ];
    let title = "Validate with metrics and traces, PostgreSQL";
    let [neither, counted, traced] = bench.compare(title, &contenders).await?;
    let report = &mut bench.report;
    let name = "8. validate with metrics, of validate without";
    report.add_rate(&counted, &neither, name, 0.95);
    let name = "8. validate with traces of 1 %, of validate without";
    report.add_rate(&traced, &neither, name, 0.85);
    if received.load(Ordering::Relaxed) == 0 {
        report.fault("no trace came to the collector".to_owned());
    }
    Ok(())
}

/// How many bytes of traces came.
type Received = Arc<AtomicUsize>;

/// Takes traces in and forgets them.
async fn collect(received: Received) -> Outcome<SocketAddr> {
    let take = async |State(received): State<Received>, traces: Bytes| {
        received.fetch_add(traces.len(), Ordering::Relaxed);
        StatusCode::OK
    };
    let router = Router::new()
        .route("/v1/traces", post(take))
        .with_state(received);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(address)
}
