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

mod cli;
mod client;
mod clients;
mod crash;
mod doctor;
mod drain;
mod failover;
mod first_start;
mod harness;
mod instances;
mod load;
mod moving;
mod obedience;
mod outage;
mod pasted;
mod pooler;
mod programs;
mod rolling;
mod secrets;
mod server;
mod settings;
mod sockets;
mod telemetry;
