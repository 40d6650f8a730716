//! What an instance remembers of the token records: those that are active and bound. A binding is
//! no change that others hear of, so what is not bound must be read each time.

use std::{fmt, sync::Arc};

use super::{
    last_use::LastNoted,
    record::{HeldToken, TokenRecord, TokenState},
};
use crate::{
    sites::Sites,
    store::{
        changes::SeenChange,
        follower::{Following, Follows},
        freshness::Freshness,
        memory::{Memory, Reading},
    },
    types::ids::TokenId,
};

/// Clones share it.
#[derive(Clone)]
pub(super) struct TokenMemory(Arc<Memory<TokenId, Remembered>>);

/// What of a [`HeldToken`] is the token's own; its site is remembered by itself.
#[derive(Clone)]
struct Remembered {
    record: Arc<TokenRecord>,
    last_noted: Arc<LastNoted>,
}

impl TokenMemory {
    pub(super) fn new(capacity: usize, freshness: Freshness) -> Self {
        Self(Arc::new(Memory::new(capacity, freshness)))
    }

    /// A token with the state of its site, if both are remembered and may be trusted.
    pub(super) fn get(&self, token_id: TokenId, sites: &Sites) -> Option<HeldToken> {
        let Remembered { record, last_noted } = self.0.get(&token_id)?;
        Some(HeldToken {
            site: sites.remembered(record.site_id)?,
            record,
            last_noted,
        })
    }

    /// To be taken before a record is read.
    pub(super) fn reading(&self) -> Reading {
        self.0.reading()
    }

    /// Remembers a record that was read, if it is one that only changes can make untrue.
    pub(super) fn keep(&self, reading: Reading, held: &HeldToken) {
        let record = &held.record;
        if record.state == TokenState::Active && record.machine_id.is_some() {
            let remembered = Remembered {
                record: Arc::clone(record),
                last_noted: Arc::clone(&held.last_noted),
            };
            self.0.keep(reading, record.token_id, remembered);
        }
    }
}

impl Follows for TokenMemory {
    fn apply<'a>(&'a self, changes: &'a [SeenChange]) -> Following<'a> {
        self.0.forget(changes.iter().filter_map(SeenChange::token));
        Box::pin(async { Ok(()) })
    }

    fn reset(&self) -> Following<'_> {
        self.0.forget_all();
        Box::pin(async { Ok(()) })
    }
}

impl fmt::Debug for TokenMemory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("TokenMemory")
    }
}
