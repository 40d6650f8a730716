//! A collector of traces: an OTLP/HTTP receiver that keeps what it is sent.

use std::sync::{Arc, Mutex};

use axum::{Router, body::Bytes, extract::State, http::StatusCode, routing::post};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    trace::v1::Span,
};
use prost::Message;
use tokio::net::TcpListener;

type Received = Arc<Mutex<Vec<Bytes>>>;

/// Takes in whatever comes, on a free port, until the test ends.
pub struct Collector {
    pub endpoint: String,
    received: Received,
}

impl Collector {
    pub async fn start() -> Self {
        let received = Received::default();
        let router = Router::new()
            .route("/v1/traces", post(take))
            .with_state(Arc::clone(&received));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { endpoint, received }
    }

    /// Every byte that was sent.
    #[allow(
        dead_code,
        reason = "not every test binary that takes this in looks at it"
    )]
    pub fn bytes(&self) -> Vec<u8> {
        self.received.lock().unwrap().concat()
    }

    /// Every span that was sent.
    pub fn spans(&self) -> Vec<Span> {
        let received = self.received.lock().unwrap();
        let requests = received
            .iter()
            .map(|body| ExportTraceServiceRequest::decode(body.clone()).unwrap());
        let resources = requests.flat_map(|request| request.resource_spans);
        let scopes = resources.flat_map(|resource| {
            let attributes = resource.resource.unwrap().attributes;
            assert_eq!(attribute(&attributes, "service.name"), "mirrory");
            resource.scope_spans
        });
        scopes.flat_map(|scope| scope.spans).collect()
    }
}

async fn take(State(received): State<Received>, body: Bytes) -> StatusCode {
    received.lock().unwrap().push(body);
    StatusCode::OK
}

/// What an attribute says.
pub fn attribute(attributes: &[KeyValue], name: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == name);
    let found = found.unwrap_or_else(|| panic!("no {name} in {attributes:?}"));
    match found.value.clone().unwrap().value.unwrap() {
        Value::StringValue(text) => text,
        Value::IntValue(number) => number.to_string(),
        other => panic!("{other:?}"),
    }
}

/// An id as it is written in text.
pub fn hex(id: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(id)
}
