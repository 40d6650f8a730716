//! One contract suite for the store and the rooms over it, run on SQLite and on PostgreSQL.
//!
//! Each file lists its tests in `on_both_stores!`, which makes of every one a test on each store:
//! `tokens::sqlite::…` and `tokens::postgres::…`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "these are tests all through"
)]
#![allow(
    clippy::large_futures,
    reason = "there are few of them, and no test is short of memory"
)]

#[path = "../support/postgres.rs"]
mod postgres;
#[path = "../support/small_disk.rs"]
mod small_disk;

mod harness;
mod histories;
mod household;
mod wire;

mod abandoned;
mod batches;
mod binding;
mod blocks;
mod changes;
mod clock;
mod crowds;
mod doctor;
mod files;
mod follower;
mod full_disk;
mod idempotency;
mod janitor;
mod keys;
mod last_use;
mod leases;
mod listener;
mod listings;
mod master_key;
mod migrations;
mod models;
mod moving;
mod needs;
mod outages;
mod partitions;
mod quota;
mod schema;
mod secrets;
mod servers;
mod sites;
mod tokens;
mod told_otherwise;
mod upgrade_steps;
mod upgrades;
mod usage;
mod vault;
