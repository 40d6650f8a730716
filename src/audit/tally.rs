//! What strangers cause: counted in memory, written after the answer.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::{Value, json};

use super::store;
use crate::{
    store::{Database, StoreError},
    types::{
        clock::{Clock, Timestamp},
        ids::{AccountId, AuditId, SiteId},
        randomness::Randomness,
    },
};

/// The most rows that wait to be written; what comes beyond is not counted.
const WAITING: usize = 4096;

/// How many rows one transaction writes.
const AT_ONCE: usize = 100;

const MICROS_PER_HOUR: i64 = 3_600_000_000;

/// One event that a stranger caused.
#[derive(Clone, Debug)]
pub struct Incident {
    /// What happened, as in `sign_in.failed`.
    pub event: &'static str,
    /// What it is counted by: an address, or the id of a token.
    pub counted_by: String,
    /// The id of what was tried, when it is one of ours.
    pub subject: Option<String>,
    /// The account that was tried, if there is such an account.
    pub account_id: Option<AccountId>,
    /// The site that it is about.
    pub site_id: Option<SiteId>,
    /// The client's address.
    pub address: Option<IpAddr>,
    /// What the client calls itself.
    pub user_agent: Option<Arc<str>>,
}

/// A row that is to be added to.
#[derive(Clone, Debug)]
pub(super) struct Counted {
    pub(super) key: String,
    pub(super) id: AuditId,
    pub(super) first_at: Timestamp,
    pub(super) event: &'static str,
    pub(super) subject: Option<String>,
    pub(super) account_id: Option<AccountId>,
    pub(super) site_id: Option<SiteId>,
    pub(super) address: Option<IpAddr>,
    pub(super) user_agent: Option<Arc<str>>,
    pub(super) detail: Value,
    pub(super) count: i64,
}

/// Counts incidents: one row for what each is counted by and hour. Clones share it.
#[derive(Clone)]
pub struct Tally(Arc<Shared>);

struct Shared {
    database: Database,
    clock: Clock,
    randomness: Randomness,
    waiting: Mutex<HashMap<String, Counted>>,
}

impl Tally {
    /// Nothing counted yet.
    #[must_use]
    pub fn new(database: Database, clock: Clock, randomness: Randomness) -> Self {
        Self(Arc::new(Shared {
            database,
            clock,
            randomness,
            waiting: Mutex::default(),
        }))
    }

    /// Counts an incident; it is written by the next [`Self::flush`].
    pub fn count(&self, incident: Incident) {
        let now = self.0.clock.now();
        let hour = now.as_micros().div_euclid(MICROS_PER_HOUR);
        let key = format!("{} {} {hour}", incident.event, incident.counted_by);
        self.add(key, now, incident, json!({}));
    }

    /// Counts a call that a site is refused because a window of its plan is used up: one row a
    /// window, whenever its calls come.
    pub fn exhausted(&self, site_id: SiteId, window: &'static str, ends: Timestamp) {
        let incident = Incident {
            event: "quota.exhausted",
            counted_by: site_id.to_string(),
            subject: Some(site_id.to_string()),
            account_id: None,
            site_id: Some(site_id),
            address: None,
            user_agent: None,
        };
        let key = format!("{} {site_id} {window} {ends}", incident.event);
        let detail = json!({ "window": window, "resets_at": ends });
        self.add(key, self.0.clock.now(), incident, detail);
    }

    fn add(&self, key: String, now: Timestamp, incident: Incident, detail: Value) {
        let mut waiting = self.waiting();
        if let Some(counted) = waiting.get_mut(&key) {
            counted.count += 1;
            if counted.account_id.is_none() {
                counted.account_id = incident.account_id;
                counted.subject = incident.subject;
            }
        } else if waiting.len() < WAITING {
            let counted = Counted {
                key: key.clone(),
                id: AuditId::new(now, &self.0.randomness),
                first_at: now,
                event: incident.event,
                subject: incident.subject,
                account_id: incident.account_id,
                site_id: incident.site_id,
                address: incident.address,
                user_agent: incident.user_agent,
                detail,
                count: 1,
            };
            waiting.insert(key, counted);
        }
    }

    /// Writes what was counted since the last time, in few transactions, which others that write
    /// would wait for.
    ///
    /// # Errors
    /// When the store fails; what was not written is lost, since whether it was is not known.
    pub async fn flush(&self) -> Result<(), StoreError> {
        let waiting = std::mem::take(&mut *self.waiting());
        let mut waiting: Vec<_> = waiting.into_values().collect();
        // Instances that write the same rows take them in one order, so that none waits for another
        // that waits for it.
        waiting.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        for batch in waiting.chunks(AT_ONCE) {
            let mut tx = self.0.database.begin().await?;
            for counted in batch {
                store::count(&mut tx, counted).await?;
            }
            tx.commit().await?;
        }
        Ok(())
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, HashMap<String, Counted>> {
        self.0
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
