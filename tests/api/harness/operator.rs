//! What an operator does with the command line.

use std::time::Duration;

use mirrory::{
    keys::{Algorithm, KeyInfo, Kid, SIGNS_AFTER},
    sites::{Rotated, Site},
    store::changes::Actor,
};

use super::{TestApp, TestSite};

/// A change of a site, as the command line makes one.
macro_rules! site_change {
    ($(#[$doc:meta] $name:ident),* $(,)?) => {
        impl TestApp {
            $(#[$doc]
            pub async fn $name(&self, site: &TestSite) -> Site {
                let mut tx = self.state.database.begin().await.unwrap();
                let changed = self.state.sites.$name(&mut tx, Actor::Operator, site.id).await;
                tx.commit().await.unwrap();
                changed.unwrap().expect("there is such a site")
            })*
        }
    };
}

site_change! {
    /// Suspends a site.
    suspend,
    /// Resumes a site.
    resume,
    /// Deletes a site.
    delete,
}

impl TestApp {
    /// Puts a site on another plan.
    pub async fn set_plan(&self, site: &TestSite, plan: &str) {
        let mut tx = self.state.database.begin().await.unwrap();
        let actor = Actor::Operator;
        let changed = self.state.sites.set_plan(&mut tx, actor, site.id, plan);
        changed.await.unwrap().expect("there is such a site");
        tx.commit().await.unwrap();
    }

    /// Gives a site a new secret, and its old one `grace`.
    pub async fn rotate_secret(&self, site: &TestSite, grace: Duration) -> (TestSite, Rotated) {
        let mut tx = self.state.database.begin().await.unwrap();
        let actor = Actor::Operator;
        let rotated = self
            .state
            .sites
            .rotate_secret(&mut tx, actor, site.id, grace);
        let rotated = rotated.await.unwrap().expect("there is such a site");
        tx.commit().await.unwrap();
        let site = TestSite {
            id: site.id,
            secret: rotated.secret.reveal().to_owned(),
        };
        (site, rotated)
    }

    /// Makes a new signing key; it signs 2 s from now.
    pub async fn rotate_key(&self, algorithm: Algorithm) -> Kid {
        let keys = &self.state.keys;
        let key = keys.generate(algorithm).await.unwrap();
        let mut tx = self.state.database.begin().await.unwrap();
        let signs_from = self.now().after(SIGNS_AFTER);
        let last_token_ends = self.state.tokens.latest_end(&mut tx, signs_from);
        let last_token_ends = last_token_ends.await.unwrap();
        let made = keys.rotate(&mut tx, Actor::Operator, &key, last_token_ends);
        let made = made.await.unwrap();
        tx.commit().await.unwrap();
        made.kid
    }

    /// Ends a signing key at once.
    pub async fn revoke_key(&self, kid: &Kid) {
        let mut tx = self.state.database.begin().await.unwrap();
        let revoked = self.state.keys.revoke(&mut tx, Actor::Operator, kid);
        assert!(revoked.await.unwrap(), "the key was not revoked before");
        tx.commit().await.unwrap();
    }

    /// Every key, the oldest first.
    pub async fn keys(&self) -> Vec<KeyInfo> {
        self.state.keys.list().await.unwrap()
    }

    /// How many calls a site has used, of its day and of its month.
    pub async fn used(&self, site: &TestSite) -> (u64, u64) {
        let ledger = &self.state.ledger;
        let standing = ledger.standing(site.id, "enterprise").await.unwrap();
        (standing.day.used, standing.month.used)
    }
}
