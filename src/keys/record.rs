//! What the store knows of a key, and the states that follow from it.

use std::cmp::Ordering;

use serde::Serialize;

use super::signer::{Algorithm, Kid};
use crate::types::clock::Timestamp;

/// A signing key's record, without its sealed half.
#[derive(Clone, Debug)]
pub struct KeyRecord {
    /// Its id.
    pub kid: Kid,
    /// The one algorithm that it is used with.
    pub algorithm: Algorithm,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when it signs: every instance has heard of it by then.
    pub signs_from: Timestamp,
    /// Until when it verifies; open while it is the newest.
    pub verifies_until: Option<Timestamp>,
    /// Since when it is good for nothing.
    pub revoked_at: Option<Timestamp>,
}

impl KeyRecord {
    /// Whether tokens that it signed may be valid.
    #[must_use]
    pub fn verifies_at(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.verifies_until.is_none_or(|until| now < until)
    }

    fn cmp_turns(&self, other: &Self) -> Ordering {
        let by_time = self.signs_from.cmp(&other.signs_from);
        by_time.then_with(|| self.kid.as_str().cmp(other.kid.as_str()))
    }
}

/// What a key is used for at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyState {
    /// It will sign when every instance knows it.
    Pending,
    /// It signs and verifies.
    Signing,
    /// Another signs; it verifies the tokens that it signed.
    Verifying,
    /// The last token that it signed is long over.
    Expired,
    /// It is good for nothing.
    Revoked,
}

/// A key as the operator sees it.
#[derive(Clone, Debug, Serialize)]
pub struct KeyInfo {
    /// Its id.
    pub kid: Kid,
    /// The one algorithm that it is used with.
    pub algorithm: Algorithm,
    /// What it is used for.
    pub state: KeyState,
    /// When it was made.
    pub created_at: Timestamp,
}

/// The key that signs: of those that may, the one that began last. When none may yet, since the
/// clock here runs behind that of who revoked the others, the one that will be the first to.
pub(super) fn signing(records: &[KeyRecord], now: Timestamp) -> Option<&KeyRecord> {
    let live = || records.iter().filter(|record| record.verifies_at(now));
    live()
        .filter(|record| record.signs_from <= now)
        .max_by(|one, other| one.cmp_turns(other))
        .or_else(|| live().min_by(|one, other| one.cmp_turns(other)))
}

/// Each key with its state, the oldest first.
pub(super) fn described(records: &[KeyRecord], now: Timestamp) -> Vec<KeyInfo> {
    let signing = signing(records, now).map(|record| &record.kid);
    let describe = |record: &KeyRecord| KeyInfo {
        state: if record.revoked_at.is_some() {
            KeyState::Revoked
        } else if !record.verifies_at(now) {
            KeyState::Expired
        } else if record.signs_from > now {
            KeyState::Pending
        } else if signing == Some(&record.kid) {
            KeyState::Signing
        } else {
            KeyState::Verifying
        },
        kid: record.kid.clone(),
        algorithm: record.algorithm,
        created_at: record.created_at,
    };
    records.iter().map(describe).collect()
}
