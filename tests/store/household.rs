//! What a store is kept for: a site with its secret, a token that is bound, and all that they need.
//! It must be good still, wherever its rows have gone and whatever became of their tables.

use mirrory::{
    quota::{Ledger, Outcome},
    tokens::{Idempotency, Inserted, KeyUse, TokenRecord},
    types::{ids::SiteId, secret::ProxySecret},
};

use crate::{
    harness::{Store, machine, user},
    quota::{ledger, plans, reserve, used},
};

pub struct Household {
    site_id: SiteId,
    secret: ProxySecret,
    record: TokenRecord,
    token: String,
}

fn key() -> Idempotency {
    Idempotency::new("key", user(1), None)
}

async fn ledger_of(store: &Store) -> Ledger {
    ledger(store, store.open().await, plans(&[("plan", 10, 100)]))
}

impl Household {
    pub async fn settle(store: &Store) -> Self {
        let (state, _) = store.state().await;
        let instance = store.instance().await;
        let (site_id, secret) = instance.create_site().await;
        let record = instance.tokens.draft(site_id, user(1), None);
        let inserted = instance.tokens.insert(&record, Some(&key())).await;
        assert_eq!(inserted.unwrap(), Inserted::Yes);
        let claims = record.claims();
        let bound = instance.tokens.bind(claims, &machine("mine")).await;
        assert!(bound.unwrap().is_some());
        let calls = ledger_of(store).await;
        for _ in 0..3 {
            let permit = reserve(&calls, site_id).await;
            permit.settle(Some(Outcome::Issued)).await;
        }
        calls.close().await.unwrap();
        Self {
            token: state.keys.sign(&claims).await.unwrap(),
            site_id,
            secret,
            record,
        }
    }

    /// Checks what lies in the tables that `has` says are there.
    pub async fn check(&self, store: &Store, has: impl Fn(&str) -> bool) {
        let instance = store.instance().await;
        if has("proxy_secrets") {
            let proven = instance.sites.authenticate(&self.secret).await.unwrap();
            assert!(proven.is_some());
        }
        if has("signing_keys") {
            let (state, _) = store.state().await;
            let verified = state.keys.verify(&self.token).await.unwrap();
            assert_eq!(verified.unwrap(), self.record.claims());
        }
        if has("usage") {
            let calls = ledger_of(store).await;
            assert_eq!(used(&calls, self.site_id).await, (3, 3));
            assert_eq!(calls.history(self.site_id).await.unwrap()[0].issued, 3);
        }
        if has("tokens") {
            let held = instance.tokens.find(self.record.token_id).await.unwrap();
            assert_eq!(held.unwrap().record.machine_id, Some(machine("mine")));
            match instance.tokens.find_key(self.site_id, &key()).await {
                Ok(Some(KeyUse::Same(first))) => assert_eq!(first.token_id, self.record.token_id),
                other => panic!("{other:?}"),
            }
        }
    }
}
