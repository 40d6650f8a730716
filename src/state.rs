//! What every request may use.

use std::{ops::Deref, sync::Arc};

use axum::extract::FromRef;

use crate::{
    attempts::Attempts,
    config::Config,
    health::Health,
    keys::Keys,
    middleware::admission::Admission,
    quota::Ledger,
    sites::Sites,
    store::Database,
    tokens::Tokens,
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
    /// How the service is.
    pub health: Health,
    /// How many requests about tokens are worked on at once.
    pub admission: Admission,
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
room!(keys: Keys);
room!(tokens: Tokens);
room!(health: Health);
