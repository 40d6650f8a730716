//! What every request may use.

use std::sync::Arc;

use axum::extract::FromRef;

use crate::{
    accounts::Accounts,
    attempts::Attempts,
    audit::Tally,
    config::Config,
    health::Health,
    keys::Keys,
    passwords::Passwords,
    quota::Ledger,
    sessions::Sessions,
    sign_in::SignIn,
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
    /// The people who run sites.
    pub accounts: Accounts,
    /// The queue before the hashing of passwords.
    pub passwords: Passwords,
    /// Sign-ins that go on.
    pub sessions: Sessions,
    /// Proving who somebody is.
    pub sign_in: SignIn,
    /// What strangers cause, until it is in the audit log.
    pub tally: Tally,
    /// How the service is.
    pub health: Health,
}
