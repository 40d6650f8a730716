//! What an instance remembers of the token records: those that are bound, or revoked. A binding is no
//! change that others hear of, so what can still be bound must be read each time.

use std::{fmt, sync::Arc};

use super::record::{HeldToken, NotedRecord, TokenState};
use crate::{
    sites::Sites,
    store::{
        changes::SeenChange,
        follower::{Following, Follows},
        freshness::Freshness,
        memory::{Memory, Reading},
    },
    telemetry::metrics::Metrics,
    types::{clock::Monotonic, ids::TokenId},
};

/// Clones share it.
#[derive(Clone)]
pub(super) struct TokenMemory(Arc<Memory<TokenId, Arc<NotedRecord>>>);

impl TokenMemory {
    pub(super) fn new(capacity: usize, freshness: Freshness) -> Self {
        Self(Arc::new(Memory::new(capacity, freshness)))
    }

    pub(super) fn measured_by(&self, metrics: &Metrics) {
        if let Some(lookups) = metrics.lookups("tokens") {
            self.0.measured_by(lookups);
        }
    }

    /// A token with the state of its site, if both are remembered and may be trusted now.
    pub(super) fn get(
        &self,
        token_id: TokenId,
        sites: &Sites,
        now: Monotonic,
    ) -> Option<HeldToken> {
        let record = self.0.get(&token_id, now)?;
        let site = sites.remembered(record.site_id, now)?;
        Some(HeldToken { record, site })
    }

    /// To be taken before a record is read.
    pub(super) fn reading(&self) -> Reading {
        self.0.reading()
    }

    /// Remembers a record that was read, if it is one that only changes can make untrue.
    pub(super) fn keep(&self, reading: Reading, record: &Arc<NotedRecord>) {
        let is_revoked = record.state != TokenState::Active;
        if is_revoked || record.machine_id.is_some() {
            self.0.keep(reading, record.token_id, Arc::clone(record));
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
