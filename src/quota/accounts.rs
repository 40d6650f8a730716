//! The accounts of all sites that call this instance.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use super::{account::Account, store::QuotaStore};
use crate::types::ids::SiteId;

/// So many parts, each with a lock of its own, that calls of different sites seldom meet.
const SHARDS: u8 = 16;

type Shard = RwLock<HashMap<SiteId, Arc<Account>>>;

pub(super) struct Accounts {
    store: QuotaStore,
    shards: Vec<Shard>,
}

impl Accounts {
    pub(super) fn new(store: QuotaStore) -> Self {
        Self {
            store,
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
        }
    }

    pub(super) fn find(&self, site_id: SiteId) -> Option<Arc<Account>> {
        let shard = self.shard(site_id).read();
        let accounts = shard.unwrap_or_else(PoisonError::into_inner);
        accounts.get(&site_id).map(Arc::clone)
    }

    pub(super) fn find_or_open(&self, site_id: SiteId) -> Arc<Account> {
        if let Some(account) = self.find(site_id) {
            return account;
        }
        let shard = self.shard(site_id).write();
        let mut accounts = shard.unwrap_or_else(PoisonError::into_inner);
        let account = accounts
            .entry(site_id)
            .or_insert_with(|| Arc::new(Account::new(site_id, self.store.clone())));
        Arc::clone(account)
    }

    pub(super) fn all(&self) -> Vec<Arc<Account>> {
        let shards = self.shards.iter();
        shards
            .flat_map(|shard| {
                let accounts = shard.read().unwrap_or_else(PoisonError::into_inner);
                accounts.values().map(Arc::clone).collect::<Vec<_>>()
            })
            .collect()
    }

    /// Forgets accounts that nobody uses and that hold nothing.
    pub(super) fn forget_blank(&self) {
        for shard in &self.shards {
            let mut accounts = shard.write().unwrap_or_else(PoisonError::into_inner);
            accounts.retain(|_, account| Arc::strong_count(account) > 1 || !account.is_blank());
        }
    }

    fn shard(&self, site_id: SiteId) -> &Shard {
        // The last byte of a UUIDv7 is random.
        let [.., last] = *site_id.as_uuid().as_bytes();
        &self.shards[usize::from(last % SHARDS)]
    }
}
