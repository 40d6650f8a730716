//! Starts the real program, as its users do: on ports and in folders of its own, over both stores.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "what a test cannot do fails it"
)]

#[path = "../support/collector.rs"]
mod collector;
#[path = "../support/postgres.rs"]
mod postgres;
#[path = "../support/small_disk.rs"]
mod small_disk;

mod cli;
mod client;
mod clients;
mod clocks;
mod connections;
mod crash;
mod doctor;
mod drain;
mod failover;
mod fairness;
mod first_start;
mod full_disk;
mod hangups;
mod harness;
mod health;
mod instances;
mod load;
mod moving;
mod obedience;
mod outage;
mod pasted;
mod pooler;
mod prefix;
mod programs;
mod raw_http2;
mod refusals;
mod rolling;
mod secrets;
mod server;
mod settings;
mod sockets;
mod stalled;
mod telemetry;
