//! The address that is served on, and who may stand before it.

use std::{
    error::Error,
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use axum::{
    body::Body,
    http::{Request, StatusCode, header},
};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};

use super::Check;
use crate::config::Server;

/// Longer than the second that the server gives its store.
const PATIENCE: Duration = Duration::from_secs(3);

pub(super) async fn examine(server: &Server) -> [Check; 2] {
    [of_listening(server.listen).await, of_proxies(server)]
}

async fn of_listening(address: SocketAddr) -> Check {
    const CHECK: &str = "listen";
    match TcpListener::bind(address).await {
        Ok(_) => Check::ok(CHECK, format!("{address} is free for a server")),
        Err(error) if error.kind() == ErrorKind::AddrInUse => match ask_server(address).await {
            Ok((_, health)) if health["version"].is_string() => Check::ok(
                CHECK,
                format!("{address} is a server's, which is {}", health["status"]),
            ),
            _ => Check::failed(
                CHECK,
                format!("{address} is taken by another program"),
                "end that program, or set server.listen to another address",
            ),
        },
        Err(error) => Check::failed(
            CHECK,
            format!("{address} cannot be listened on: {error}"),
            "set server.listen to an address of this machine, and to a port above 1023",
        ),
    }
}

fn of_proxies(server: &Server) -> Check {
    const CHECK: &str = "trusted_proxies";
    if !server.trusted_proxies.is_empty() {
        return Check::ok(CHECK, format!("{} networks", server.trusted_proxies.len()));
    }
    if server.listen.ip().is_loopback() {
        return Check::ok(CHECK, "none, and only this machine can call");
    }
    Check::warning(
        CHECK,
        "none, and other machines can call",
        "if a load balancer stands before it, list it in server.trusted_proxies: else all clients \
         count as one; if none does, put one there for TLS",
    )
}

/// Asks the server that listens at an address how it is.
///
/// # Errors
/// In one line, when no answer comes.
pub(crate) async fn ask_server(listen: SocketAddr) -> Result<(StatusCode, Value), String> {
    let mut address = listen;
    // A server that listens on every address is asked on the machine's own.
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    tokio::time::timeout(PATIENCE, ask(&address.to_string()))
        .await
        .map_err(|_| format!("no answer from {address} within {PATIENCE:?}"))?
        .map_err(|error| format!("no answer from {address}: {error}"))
}

async fn ask(address: &str) -> Result<(StatusCode, Value), Box<dyn Error + Send + Sync>> {
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
