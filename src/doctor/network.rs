//! The addresses that are served on, and who may stand before them.

use std::{
    error::Error,
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    http::{Request, StatusCode, header},
};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};

use super::Check;
use crate::config::{Config, Server};

/// Longer than the second that the server gives its store.
const PATIENCE: Duration = Duration::from_secs(3);

pub(super) async fn examine(config: &Config) -> Vec<Check> {
    let Config {
        server, telemetry, ..
    } = config;
    let mut checks = vec![of_listening("listen", "server.listen", server.listen, api_of).await];
    if let Some(address) = telemetry.metrics_listen {
        let setting = "telemetry.metrics_listen";
        checks.push(of_listening("metrics_listen", setting, address, metrics_of).await);
    }
    checks.push(of_proxies(server));
    checks
}

/// Whether an address can be listened on. If it is taken, `ask` says how the server is that has it;
/// none if that is no server of ours.
async fn of_listening(
    check: &'static str,
    setting: &str,
    address: SocketAddr,
    ask: impl AsyncFnOnce(SocketAddr) -> Option<String>,
) -> Check {
    match TcpListener::bind(address).await {
        Ok(_) => Check::ok(check, format!("{address} is free for a server")),
        Err(error) if error.kind() == ErrorKind::AddrInUse => match ask(address).await {
            Some(found) => Check::ok(check, format!("{address} is a server's, {found}")),
            None => Check::failed(
                check,
                format!("{address} is taken by another program"),
                format!("end that program, or set {setting} to another address"),
            ),
        },
        Err(error) => Check::failed(
            check,
            format!("{address} cannot be listened on: {error}"),
            format!("set {setting} to an address of this machine, and to a port above 1023"),
        ),
    }
}

async fn api_of(address: SocketAddr) -> Option<String> {
    let (_, health) = ask_server(address).await.ok()?;
    let is_ours = health["version"].is_string();
    is_ours.then(|| format!("which is {}", health["status"]))
}

async fn metrics_of(address: SocketAddr) -> Option<String> {
    let (_, metrics) = ask(address, "/metrics").await.ok()?;
    let is_ours = String::from_utf8_lossy(&metrics).contains("\nmirrory_");
    is_ours.then(|| "which shows its metrics".to_owned())
}

/// Whether a network is larger than any that is one operator's: 10.0.0.0/8 and `fc00::/7` are the
/// largest private ones.
fn is_of_strangers(network: &IpNet) -> bool {
    match network {
        IpNet::V4(network) => network.prefix_len() < 8,
        IpNet::V6(network) => network.prefix_len() < 7,
    }
}

fn of_proxies(server: &Server) -> Check {
    const CHECK: &str = "trusted_proxies";
    if !server.trusted_proxies.is_empty() {
        let networks: Vec<_> = server
            .trusted_proxies
            .iter()
            .map(IpNet::to_string)
            .collect();
        let networks = networks.join(", ");
        if server.trusted_proxies.iter().any(is_of_strangers) {
            let advice = "list the addresses of your own proxies alone: whoever calls from one of these \
                          networks may write any address into X-Forwarded-For, and escape the limits \
                          of failures";
            return Check::warning(CHECK, networks, advice);
        }
        return Check::ok(CHECK, networks);
    }
    if server.listen.ip().is_loopback() {
        let unless = "none, and only this machine can call; if a proxy on it does, list its address: \
                      else all clients count as one";
        return Check::ok(CHECK, unless);
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
    let (status, body) = ask(listen, "/mirrory/health").await?;
    let health = serde_json::from_slice(&body);
    let health = health.map_err(|error| format!("no answer from {listen}: {error}"))?;
    Ok((status, health))
}

async fn ask(listen: SocketAddr, path: &str) -> Result<(StatusCode, Bytes), String> {
    let mut address = listen;
    // A server that listens on every address is asked on the machine's own.
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    tokio::time::timeout(PATIENCE, get(&address.to_string(), path))
        .await
        .map_err(|_| format!("no answer from {address} within {PATIENCE:?}"))?
        .map_err(|error| format!("no answer from {address}: {error}"))
}

async fn get(
    address: &str,
    path: &str,
) -> Result<(StatusCode, Bytes), Box<dyn Error + Send + Sync>> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let request = Request::get(path)
        .header(header::HOST, address)
        .body(Body::empty())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    driver.abort();
    Ok((status, body))
}
