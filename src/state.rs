//! What every request may use.

use std::sync::Arc;

use axum::extract::FromRef;

use crate::{
    attempts::Attempts,
    config::Config,
    health::Health,
    keys::Keys,
    quota::Ledger,
    sites::Sites,
    store::Database,
    tokens::Tokens,
    types::{clock::Clock, randomness::Randomness},
};

/// The rooms, and what they were given. Cheap to clone.
#[derive(Clone, FromRef)]
pub struct AppState {
    /// The configuration in force.
    pub config: Arc<Config>,
    /// The store.
    pub database: Database,
    /// The time.
    pub clock: Clock,
    /// Randomness.
    pub randomness: Randomness,
    /// The sites and their secrets.
    pub sites: Sites,
    /// The signing keys.
    pub keys: Keys,
    /// What sites have used of their plans.
    pub ledger: Ledger,
    /// Failures by address and the like.
    pub attempts: Arc<Attempts>,
    /// The tokens.
    pub tokens: Tokens,
    /// How the service is.
    pub health: Health,
}
