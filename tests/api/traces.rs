//! What a collector of traces is sent.

use std::time::Duration;

use opentelemetry_proto::tonic::trace::v1::{
    Span, span::SpanKind, status::StatusCode as SpanStatus,
};
use tokio::{net::TcpListener, time::timeout};

use crate::{
    collector::{Collector, attribute, hex},
    harness::{Store, TestApp},
    metrics::{count, scrape},
};

const PROXY: (&str, &str) = ("server.trusted_proxies", "192.0.2.0/24");
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

on_both_stores! {
    a_request_is_a_span_and_its_steps_in_the_store_are_its_children,
    a_refusal_is_told_by_its_code_and_a_fault_as_an_error,
    nothing_secret_is_sent,
}

/// A service that sends its traces there.
async fn app_for(collector: &Collector, store: Store, settings: &[(&str, &str)]) -> TestApp {
    let endpoint = ("telemetry.otlp_endpoint", collector.endpoint.as_str());
    TestApp::with(store, &[&[endpoint], settings].concat()).await
}

/// Everything that was sent when `app` has sent all.
async fn all_spans(collector: &Collector, app: &TestApp) -> Vec<Span> {
    app.state.traces.close().await;
    collector.spans()
}

fn traceparent(flags: &str) -> String {
    format!("00-{TRACE}-{PARENT}-{flags}")
}

async fn ask(app: &TestApp, traceparent: &str) {
    let call = app.request("GET", "/livez");
    call.header("traceparent", traceparent).send().await.ok();
}

/// The traces of requests with these trace contexts, from 192.0.2.1.
async fn traces_of(settings: &[(&str, &str)], contexts: &[&str]) -> Vec<Span> {
    let collector = Collector::start().await;
    let app = app_for(&collector, Store::Sqlite, settings).await;
    for context in contexts {
        ask(&app, context).await;
    }
    all_spans(&collector, &app).await
}

#[tokio::test]
async fn nothing_is_traced_unless_there_is_a_collector() {
    let app = TestApp::with(Store::Sqlite, &[("telemetry.trace_ratio", "1")]).await;
    assert_eq!(format!("{:?}", app.state.traces), "Traces(off)");
    ask(&app, &traceparent("01")).await;
}

async fn a_request_is_a_span_and_its_steps_in_the_store_are_its_children(store: Store) {
    let collector = Collector::start().await;
    let app = app_for(&collector, store, &[("telemetry.trace_ratio", "1")]).await;
    let site = app.site("free").await;
    app.issue(&site).await;
    let spans = all_spans(&collector, &app).await;
    let is_root = |span: &&Span| span.parent_span_id.is_empty();
    let roots: Vec<&Span> = spans.iter().filter(is_root).collect();
    let [root] = roots[..] else {
        panic!("{roots:?}");
    };
    assert_eq!(root.name, "POST /mirrory/generate-token");
    assert_eq!(root.kind, i32::from(SpanKind::Server));
    for (name, expected) in [
        ("http.request.method", "POST"),
        ("http.route", "/mirrory/generate-token"),
        ("http.response.status_code", "200"),
        ("mirrory.site.id", &site.id.to_string()),
    ] {
        assert_eq!(attribute(&root.attributes, name), expected);
    }
    let children = spans.iter().filter(|span| !span.parent_span_id.is_empty());
    let mut names = Vec::new();
    for child in children {
        assert_eq!(child.trace_id, root.trace_id);
        assert_eq!(child.parent_span_id, root.span_id);
        names.push(child.name.as_str());
    }
    assert!(names.contains(&"insert tokens"), "{names:?}");
    assert!(names.contains(&"run a statement"), "{names:?}");
}

async fn a_refusal_is_told_by_its_code_and_a_fault_as_an_error(store: Store) {
    let collector = Collector::start().await;
    let app = app_for(&collector, store, &[("telemetry.trace_ratio", "1")]).await;
    let site = app.site("free").await;
    app.get("/nowhere").await;
    app.break_store().await;
    app.generate_for(&site).await;
    let spans = all_spans(&collector, &app).await;
    let named = |name: &str| spans.iter().find(|span| span.name == name).unwrap();
    let status = |span: &Span| span.status.as_ref().map_or(0, |status| status.code);
    let lost = named("GET");
    assert_eq!(attribute(&lost.attributes, "error.type"), "not_found");
    assert_eq!(status(lost), i32::from(SpanStatus::Unset));
    let failed = named("POST /mirrory/generate-token");
    let code = attribute(&failed.attributes, "error.type");
    assert_eq!(code, "store_unavailable");
    assert_eq!(status(failed), i32::from(SpanStatus::Error));
}

async fn nothing_secret_is_sent(store: Store) {
    let collector = Collector::start().await;
    let app = app_for(&collector, store, &[("telemetry.trace_ratio", "1")]).await;
    let site = app.site("free").await;
    let issued = app.issue(&site).await;
    app.validate(&issued.token, "a-machine").await.ok();
    assert!(all_spans(&collector, &app).await.len() > 2);
    let sent = collector.bytes();
    let sent = String::from_utf8_lossy(&sent);
    for private in [&site.secret, &issued.token, "a-machine", "192.0.2.1"] {
        assert!(!sent.contains(private), "{private}");
    }
}

#[tokio::test]
async fn the_share_that_is_configured_is_traced() {
    let none = vec!["none"; 200];
    let traced = async |ratio| {
        let spans = traces_of(&[("telemetry.trace_ratio", ratio)], &none).await;
        spans.len()
    };
    assert_eq!(traced("0").await, 0);
    assert_eq!(traced("1").await, 200);
    // Each of two hundred is drawn for itself.
    assert!((1..200).contains(&traced("0.5").await));
}

#[tokio::test]
async fn the_trace_of_a_trusted_proxy_is_gone_on_with() {
    let context = traceparent("01");
    let spans = traces_of(&[PROXY, ("telemetry.trace_ratio", "0")], &[&context]).await;
    assert_eq!(spans.len(), 1);
    assert_eq!(hex(&spans[0].trace_id), TRACE);
    assert_eq!(hex(&spans[0].parent_span_id), PARENT);
}

#[tokio::test]
async fn what_a_trusted_proxy_does_not_trace_is_not_traced() {
    let context = traceparent("00");
    let spans = traces_of(&[PROXY, ("telemetry.trace_ratio", "1")], &[&context]).await;
    assert!(spans.is_empty(), "{spans:?}");
}

#[tokio::test]
async fn a_strangers_trace_context_is_not_taken() {
    let elsewhere = ("server.trusted_proxies", "198.51.100.0/24");
    let context = traceparent("01");
    for settings in [vec![], vec![elsewhere]] {
        let never = [&settings[..], &[("telemetry.trace_ratio", "0")]].concat();
        assert!(traces_of(&never, &[&context]).await.is_empty());
        let always = [&settings[..], &[("telemetry.trace_ratio", "1")]].concat();
        let spans = traces_of(&always, &[&context, &traceparent("00")]).await;
        assert_eq!(spans.len(), 2);
        for span in spans {
            assert_ne!(hex(&span.trace_id), TRACE);
            assert!(span.parent_span_id.is_empty());
        }
    }
}

#[tokio::test]
async fn a_trace_context_that_is_none_is_as_if_there_were_none() {
    let contexts = [
        "",
        "00",
        "00-0-0-01",
        "ff-x",
        &format!("00-{}-{PARENT}-01", "0".repeat(32)),
    ];
    let never = traces_of(&[PROXY, ("telemetry.trace_ratio", "0")], &contexts).await;
    assert!(never.is_empty(), "{never:?}");
    let always = traces_of(&[PROXY, ("telemetry.trace_ratio", "1")], &contexts).await;
    assert_eq!(always.len(), contexts.len());
}

#[tokio::test]
async fn a_collector_that_is_gone_hurts_no_request_and_is_counted() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let settings = [
        ("telemetry.otlp_endpoint", endpoint.as_str()),
        ("telemetry.trace_ratio", "1"),
        ("telemetry.metrics_listen", "127.0.0.1:0"),
    ];
    let app = TestApp::with(Store::Sqlite, &settings).await;
    for _ in 0..3000 {
        app.get("/livez").await.ok();
    }
    app.state.traces.close().await;
    let failures = count(&scrape(&app).await, "mirrory_trace_export_failures_total");
    assert!(failures > 0);
}

#[tokio::test]
async fn a_collector_that_never_answers_does_not_hold_up_the_end() {
    // Connections come about and nobody answers them.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let settings = [
        ("telemetry.otlp_endpoint", endpoint.as_str()),
        ("telemetry.trace_ratio", "1"),
    ];
    let app = TestApp::with(Store::Sqlite, &settings).await;
    app.get("/livez").await.ok();
    let closing = timeout(Duration::from_secs(30), app.state.traces.close());
    closing.await.expect("it gives up");
}
