//! What every request may use.

use std::{ops::Deref, sync::Arc};

use axum::extract::FromRef;

use crate::{
    accounts::Accounts,
    api_tokens::ApiTokens,
    attempts::Attempts,
    audit::{AuditLog, Tally},
    callers::Crowds,
    config::Config,
    health::Health,
    keys::Keys,
    middleware::admission::Admission,
    passwords::Passwords,
    quota::Ledger,
    sessions::Sessions,
    sites::Sites,
    store::{Database, freshness::Freshness},
    telemetry::{metrics::Metrics, traces::Traces},
    tokens::Tokens,
    two_factor::TwoFactor,
    types::{clock::Clock, randomness::Randomness},
};

/// The rooms, and what they were given. One handle to them all, since every request clones it.
#[derive(Clone)]
pub struct AppState(Arc<Rooms>);

/// What an [`AppState`] is made of.
pub struct Rooms {
    /// The configuration in force.
    pub config: Config,
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
    pub attempts: Attempts,
    /// The tokens.
    pub tokens: Tokens,
    /// The people who run sites.
    pub accounts: Accounts,
    /// The queue before the hashing of passwords.
    pub passwords: Passwords,
    /// Sign-ins that go on.
    pub sessions: Sessions,
    /// Second factors.
    pub two_factor: TwoFactor,
    /// What scripts call with.
    pub api_tokens: ApiTokens,
    /// What strangers cause, until it is in the audit log.
    pub tally: Tally,
    /// Who did what.
    pub audit_log: AuditLog,
    /// How the service is.
    pub health: Health,
    /// How many requests about tokens are worked on at once.
    pub admission: Admission,
    /// Who is at work in the management API.
    pub crowds: Crowds,
    /// Whether what is in memory may be trusted.
    pub freshness: Freshness,
    /// What is counted.
    pub metrics: Metrics,
    /// Where traces begin.
    pub traces: Traces,
}

impl From<Rooms> for AppState {
    fn from(rooms: Rooms) -> Self {
        Self(Arc::new(rooms))
    }
}

impl Deref for AppState {
    type Target = Rooms;

    fn deref(&self) -> &Rooms {
        &self.0
    }
}

/// Lets an endpoint ask for the one room that it needs.
macro_rules! room {
    ($field:ident: $Room:ty) => {
        impl FromRef<AppState> for $Room {
            fn from_ref(state: &AppState) -> Self {
                state.$field.clone()
            }
        }
    };
}

room!(database: Database);
room!(accounts: Accounts);
room!(passwords: Passwords);
room!(sessions: Sessions);
room!(two_factor: TwoFactor);
room!(api_tokens: ApiTokens);
room!(clock: Clock);
room!(crowds: Crowds);
room!(keys: Keys);
room!(tokens: Tokens);
room!(sites: Sites);
room!(ledger: Ledger);
room!(audit_log: AuditLog);
room!(health: Health);
