//! `mirrory healthcheck`

use std::{net::IpAddr, time::Duration};

use axum::{
    body::Body,
    http::{Request, StatusCode, header},
};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use super::{
    Context,
    output::{Answer, Failure},
};

/// Longer than the second that the server gives its store.
const PATIENCE: Duration = Duration::from_secs(3);

pub(super) async fn run(context: &Context) -> Result<Answer, Failure> {
    let mut address = context.config.server.listen;
    // A server that listens on every address is asked on the machine's own.
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    let (status, body) = tokio::time::timeout(PATIENCE, ask(&address.to_string()))
        .await
        .map_err(|_| Failure::new(format!("no answer from {address} within {PATIENCE:?}")))?
        .map_err(|error| Failure::new(format!("no answer from {address}: {error}")))?;
    if status != StatusCode::OK {
        return Err(Failure::new(format!("{address} is not healthy: {body}")));
    }
    Ok(Answer::One(body))
}

async fn ask(address: &str) -> Result<(StatusCode, Value), Box<dyn std::error::Error>> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let request = Request::get("/mirrory/health")
        .header(header::HOST, address)
        .body(Body::empty())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    driver.abort();
    Ok((status, serde_json::from_slice(&body)?))
}
