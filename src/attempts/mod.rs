//! ROOM: attempts. How often a client address may fail, one token be found valid, a site ask for
//! revocations and releases, an account for changes, and somebody try to sign in.
//!
//! The counts are kept in memory, by each instance for itself, over the monotonic clock, and in
//! bounded space: 65,536 keys of each kind. When there are more, those whose count ends soonest
//! are forgotten. So whoever has very many addresses (IPv6: networks) gains that their failures go
//! uncounted, which so many addresses would have given them anyway; nobody is refused for another's
//! failures, and memory and time stay bounded.
//!
//! `Window` and `Allowance` are pure rules over what a `Limiter` remembers of a key; a further kind
//! of limit is one more of them.

mod address_key;
mod allowance;
mod ladder;
mod limiter;
mod window;

use std::{net::IpAddr, num::NonZeroU32, time::Duration};

use sha2::{Digest, Sha256};

pub use self::address_key::AddressKey;
use self::{allowance::Allowance, ladder::Ladder, limiter::Limiter, window::Window};
use crate::{
    config::Limits,
    types::{
        clock::Monotonic,
        ids::{AccountId, SiteId, TokenId},
    },
};

const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
/// So many guesses at one name come from many addresses; yet a few people who mistype cannot keep
/// another out.
const SIGN_INS_PER_NAME_AND_HOUR: NonZeroU32 = NonZeroU32::new(100).unwrap();
const MANAGEMENT_PER_MINUTE: NonZeroU32 = NonZeroU32::new(60).unwrap();

/// A limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many attempts")]
pub struct TooManyAttempts {
    /// How long until the next attempt can succeed; a caller tells it in whole seconds, rounded up.
    pub retry_after: Duration,
}

/// The limits of one instance.
#[derive(Debug)]
pub struct Attempts {
    failures: Option<Limiter<AddressKey, Window>>,
    verdicts: Option<Limiter<TokenId, Allowance>>,
    management: Limiter<SiteId, Window>,
    changes: Option<Limiter<AccountId, Window>>,
    sign_ins: Limiter<AddressKey, Ladder>,
    names: Limiter<NameKey, Allowance>,
}

/// A name as somebody typed it to sign in: its digest, so that long names take no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct NameKey([u8; 32]);

impl From<&str> for NameKey {
    fn from(name: &str) -> Self {
        Self(Sha256::digest(name).into())
    }
}

impl Attempts {
    /// Nothing counted yet; a limit of 0 is off.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        let failures = NonZeroU32::new(limits.failures_per_minute);
        let verdicts = NonZeroU32::new(limits.validations_per_token_per_hour);
        let changes = NonZeroU32::new(limits.changes_per_minute);
        Self {
            failures: failures.map(|limit| Limiter::new(Window::new(limit, MINUTE))),
            verdicts: verdicts.map(|limit| Limiter::new(Allowance::new(limit, HOUR))),
            management: Limiter::new(Window::new(MANAGEMENT_PER_MINUTE, MINUTE)),
            changes: changes.map(|limit| Limiter::new(Window::new(limit, MINUTE))),
            sign_ins: Limiter::new(Ladder),
            names: Limiter::new(Allowance::new(SIGN_INS_PER_NAME_AND_HOUR, HOUR)),
        }
    }

    /// Counts a failed request of this client: a wrong secret, a malformed or forged token.
    ///
    /// # Errors
    /// When the client has used up its failures of the minute that began with the first of them;
    /// the failure is then to be answered with the error in place of its reason.
    pub fn failure(&self, address: IpAddr, now: Monotonic) -> Result<(), TooManyAttempts> {
        match &self.failures {
            Some(failures) => failures.take(AddressKey::from(address), now),
            None => Ok(()),
        }
    }

    /// Takes one valid verdict from what the token is good for, before it is charged.
    ///
    /// # Errors
    /// When the token was found valid as often as an instance allows.
    pub fn verdict(&self, token_id: TokenId, now: Monotonic) -> Result<(), TooManyAttempts> {
        match &self.verdicts {
            Some(verdicts) => verdicts.take(token_id, now),
            None => Ok(()),
        }
    }

    /// Gives a verdict back that was taken and not told: the quota was used up, or the store down.
    pub fn verdict_unused(&self, token_id: TokenId, now: Monotonic) {
        if let Some(verdicts) = &self.verdicts {
            verdicts.give_back(&token_id, now);
        }
    }

    /// Counts a call to revoke a token or to release a machine; a site has 60 a minute.
    ///
    /// # Errors
    /// When the site has used them up.
    pub fn management(&self, site_id: SiteId, now: Monotonic) -> Result<(), TooManyAttempts> {
        self.management.take(site_id, now)
    }

    /// Counts a change that an account asks for.
    ///
    /// # Errors
    /// When the account has used up its changes of the minute that began with the first of them.
    pub fn change(&self, account_id: AccountId, now: Monotonic) -> Result<(), TooManyAttempts> {
        match &self.changes {
            Some(changes) => changes.take(account_id, now),
            None => Ok(()),
        }
    }

    /// Counts an attempt to sign in as a failure of the client, before it is known for one: attempts
    /// that race must not all pass before the first has failed.
    ///
    /// # Errors
    /// When the client must wait; nothing is counted then.
    pub fn sign_in(&self, address: IpAddr, now: Monotonic) -> Result<(), TooManyAttempts> {
        self.sign_ins.take(AddressKey::from(address), now)
    }

    /// Takes back an attempt that has not failed.
    pub fn sign_in_unfailed(&self, address: IpAddr, now: Monotonic) {
        self.sign_ins.give_back(&AddressKey::from(address), now);
    }

    /// Counts an attempt under a name, whether there is such an account or not, as
    /// [`Self::sign_in`] does.
    ///
    /// # Errors
    /// When too many have failed under the name, from whatever addresses.
    pub fn sign_in_as(&self, name: &str, now: Monotonic) -> Result<(), TooManyAttempts> {
        self.names.take(NameKey::from(name), now)
    }

    /// Takes back an attempt under a name that has not failed.
    pub fn sign_in_as_unfailed(&self, name: &str, now: Monotonic) {
        self.names.give_back(&NameKey::from(name), now);
    }
}

#[cfg(test)]
mod tests;
