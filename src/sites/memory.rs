//! What an instance remembers of the sites: their states, and whose secrets are whose.

use std::{fmt, sync::Arc};

use super::SiteState;
use crate::{
    store::{
        changes::SeenChange,
        follower::{Following, Follows},
        freshness::Freshness,
        memory::{Memory, Reading},
    },
    telemetry::metrics::Metrics,
    types::{
        clock::{Monotonic, Timestamp},
        ids::{SecretId, SiteId},
        secret::SecretDigest,
    },
};

/// How many sites, and how many secrets.
const CAPACITY: usize = 16_384;

/// Which secret is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum SecretName {
    /// One of the store, by the id inside it.
    Made(SecretId),
    /// The one of the configuration.
    Configured,
}

/// A secret, and whose it is.
#[derive(Debug)]
pub(super) struct KnownSecret {
    pub(super) site_id: SiteId,
    pub(super) digest: SecretDigest,
    pub(super) expires_at: Option<Timestamp>,
}

impl KnownSecret {
    /// Whether what was presented is this secret, and this one is still live.
    pub(super) fn is_good(&self, presented: &SecretDigest, now: Timestamp) -> bool {
        let is_live = self.expires_at.is_none_or(|end| now < end);
        is_live && self.digest.matches(presented)
    }
}

/// Clones share it.
#[derive(Clone)]
pub(super) struct SiteMemory {
    states: Arc<Memory<SiteId, SiteState>>,
    secrets: Arc<Memory<SecretName, Arc<KnownSecret>>>,
}

/// The moment before a site was read.
#[derive(Clone, Copy, Debug)]
pub struct SiteReading {
    state: Reading,
    secret: Reading,
}

impl SiteMemory {
    pub(super) fn new(freshness: &Freshness) -> Self {
        Self {
            states: Arc::new(Memory::new(CAPACITY, freshness.clone())),
            secrets: Arc::new(Memory::new(CAPACITY, freshness.clone())),
        }
    }

    pub(super) fn measured_by(&self, metrics: &Metrics) {
        if let Some(lookups) = metrics.lookups("sites") {
            self.states.measured_by(lookups);
        }
        if let Some(lookups) = metrics.lookups("secrets") {
            self.secrets.measured_by(lookups);
        }
    }

    pub(super) fn state(&self, site_id: SiteId, now: Monotonic) -> Option<SiteState> {
        self.states.get(&site_id, now)
    }

    pub(super) fn secret(&self, name: SecretName, now: Monotonic) -> Option<Arc<KnownSecret>> {
        self.secrets.get(&name, now)
    }

    pub(super) fn reading(&self) -> SiteReading {
        SiteReading {
            state: self.states.reading(),
            secret: self.secrets.reading(),
        }
    }

    pub(super) fn keep_state(&self, reading: SiteReading, site_id: SiteId, state: SiteState) {
        self.states.keep(reading.state, site_id, state);
    }

    pub(super) fn keep_secret(
        &self,
        reading: SiteReading,
        name: SecretName,
        secret: Arc<KnownSecret>,
    ) {
        self.secrets.keep(reading.secret, name, secret);
    }
}

impl Follows for SiteMemory {
    fn apply<'a>(&'a self, changes: &'a [SeenChange]) -> Following<'a> {
        self.states
            .forget(changes.iter().filter_map(SeenChange::site));
        // Whose the configured secret is changes when the site `default` is deleted or made anew.
        self.secrets.forget([SecretName::Configured]);
        // Rotations are rare: that one costs every site a reading is cheaper than an index.
        if changes.iter().any(SeenChange::is_of_secrets) {
            self.secrets.forget_all();
        }
        Box::pin(async { Ok(()) })
    }

    fn reset(&self) -> Following<'_> {
        self.states.forget_all();
        self.secrets.forget_all();
        Box::pin(async { Ok(()) })
    }
}

impl fmt::Debug for SiteMemory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SiteMemory")
    }
}
