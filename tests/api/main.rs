//! The API, driven in-process on both stores: the router behind no socket, time moved by hand.
//!
//! One file a subject. A test of behaviour takes the [`Store`](harness::Store) that it runs on and
//! is listed once in its file's [`on_both_stores!`], which makes a `sqlite` and a `postgres` test.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a test that cannot go on fails"
)]

#[path = "../support/collector.rs"]
mod collector;
#[path = "../support/postgres.rs"]
mod postgres;

/// Makes a test on each store of every function that is named.
macro_rules! on_both_stores {
    ($($test:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $test() {
                super::$test(crate::harness::Store::Sqlite).await;
            })*
        }
        mod postgres {
            $(#[tokio::test]
            async fn $test() {
                super::$test(crate::harness::Store::Postgres).await;
            })*
        }
    };
}

mod account;
mod account_forgeries;
mod account_races;
mod api_tokens;
mod as_typed;
mod attempts;
mod audit;
mod bodies;
mod charges;
mod clock;
mod conventions;
mod cors;
mod edge;
mod fairness;
mod first_sight;
mod forgeries;
mod forwarded;
mod freshness;
mod generate;
mod harness;
mod health;
mod idempotency;
mod keys;
mod last_use;
mod manage;
mod metrics;
mod observability;
mod overload;
mod problems;
mod promtool;
mod properties;
mod quota;
mod races;
mod ratelimit;
mod refresh;
mod revoke;
mod secrecy;
mod sign_in;
mod site_management;
mod site_races;
mod site_tokens;
mod site_usage;
mod sites;
mod stale_callers;
mod traces;
mod two_factor;
mod validate;
mod wild_texts;
