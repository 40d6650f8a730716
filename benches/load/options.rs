//! What can be chosen.

use std::net::SocketAddr;

use clap::Parser;

/// Measures the service on both stores beside a bare axum server.
#[derive(Debug, Parser)]
#[command(name = "cargo bench --bench load --")]
pub struct Options {
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 4)]
    pub seconds: u64,
    /// Rounds in which every server is measured once; a first one is not counted.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// Connections that each send one request after another.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    pub connections: u32,
    /// Live bound tokens that are validated in turn.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..))]
    pub tokens: u32,
    /// Sites that the tokens are of and the calls are charged to.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub sites: u32,
    /// Serve as the bare axum server.
    #[arg(long, hide = true, value_name = "ADDRESS")]
    pub serve_bare: Option<SocketAddr>,
    /// What `cargo bench` says to every bench, and `cargo test` does not.
    #[arg(long, hide = true)]
    pub bench: bool,
}
