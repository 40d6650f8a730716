//! The listener for metrics, and traces that are sent before the end.

use std::net::TcpListener;

use serde_json::Value;

use crate::{
    client::Client,
    collector::{Collector, attribute, hex},
    harness::{Place, free_address},
};

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_on_a_listener_of_their_own_until_the_end() {
    let address = free_address();
    let place = Place::sqlite().with("MIRRORY__TELEMETRY__METRICS_LISTEN", &address);
    let mut server = place.start().await;
    let mut prometheus = Client::new(address.parse().unwrap());
    let text = prometheus.get("/metrics").await.unwrap().ok().text;
    assert!(text.contains("\nmirrory_ready 1\n"), "{text}");
    let counted = r#"mirrory_http_requests_total{method="GET",route="/readyz",status="200"}"#;
    assert!(text.contains(counted), "{text}");
    let elsewhere = prometheus.get("/readyz").await.unwrap();
    assert_eq!(elsewhere.status, 404);
    assert_eq!(server.client().get("/metrics").await.unwrap().status, 404);
    // Its connection is open, and holds nothing up.
    server.signal("TERM");
    assert_eq!(server.ended().await, Some(0), "{}", server.stderr());
    assert!(
        Client::new(address.parse().unwrap())
            .get("/metrics")
            .await
            .is_err()
    );
}

#[test]
fn an_address_for_metrics_that_is_in_use_stops_the_start_with_one_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let done = Place::sqlite()
        .with("MIRRORY__TELEMETRY__METRICS_LISTEN", &address)
        .run(["serve"]);
    assert_eq!(done.code, Some(1));
    let line = done.complaint();
    assert!(line.contains(&address), "{line}");
    assert!(line.contains("telemetry.metrics_listen"), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_traced_is_sent_before_the_end_and_the_log_names_the_trace() {
    let collector = Collector::start().await;
    let place = Place::sqlite()
        .with("MIRRORY__TELEMETRY__OTLP_ENDPOINT", &collector.endpoint)
        .with("MIRRORY__TELEMETRY__TRACE_RATIO", "1")
        .with("MIRRORY__LOG__FORMAT", "json");
    let mut server = place.start().await;
    server.client().get("/openapi.json").await.unwrap().ok();
    server.signal("TERM");
    assert_eq!(server.ended().await, Some(0), "{}", server.stderr());

    let spans = collector.spans();
    let span = spans.iter().find(|span| span.name == "GET /openapi.json");
    let span = span.expect("it was sent");
    let stderr = server.stderr();
    let lines = stderr.lines().map(serde_json::from_str::<Value>);
    let mut lines = lines.map(Result::unwrap);
    let line = lines.find(|line| line["path"] == "/openapi.json").unwrap();
    assert_eq!(line["trace.id"], hex(&span.trace_id));
    let request_id = attribute(&span.attributes, "mirrory.request.id");
    assert_eq!(line["request.id"], request_id);
}
