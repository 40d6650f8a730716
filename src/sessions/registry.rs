//! The sessions, from their beginning to their end.

use std::{sync::Arc, time::Duration};

use secrecy::SecretString;

use super::{
    refresh_token::{RefreshTokens, Ticket},
    session::{Session, SessionKind},
    store::{self, NewSession, RefreshTimes, SessionStore},
};
use crate::{
    accounts::Role,
    error::Chain,
    keys::{AccountClaims, AccountTokenKind, Keys, KeysError},
    store::{
        Database, StoreError, Tx,
        changes::{self, AccountChange, Change, Context},
    },
    types::{
        clock::{Clock, LAST_USE_STEP, Timestamp},
        ids::{AccountId, SessionId},
        randomness::Randomness,
        turnstile::{Crowded, Turnstile},
    },
};

/// How long an access token is good.
pub const ACCESS_LIFETIME: Duration = Duration::from_mins(15);

/// How long a one-hour token is good, and its session.
pub const ONE_HOUR: Duration = Duration::from_hours(1);

/// How long a session goes on without being refreshed.
pub const REFRESH_LIFETIME: Duration = Duration::from_hours(7 * 24);

/// How long a session goes on at most.
pub const LONGEST: Duration = Duration::from_hours(90 * 24);

/// How long a refresh token is taken after it was replaced: clients race and lose answers.
pub const REPLACED_GRACE: Duration = Duration::from_secs(30);

/// How many sessions an account has at most.
const SESSIONS: i64 = 100;

/// How many clients may refresh one session at once; each waits for the one before it.
const AT_ONE_SESSION: usize = 256;

/// Why a session could not be refreshed.
#[derive(Debug, thiserror::Error)]
pub enum RefreshError {
    /// The token is no live one of ours.
    #[error("the refresh token is not valid")]
    Invalid,
    /// The token had been replaced: its session is ended now.
    #[error("the refresh token was used before")]
    Reused,
    /// Too many refresh the session at once.
    #[error(transparent)]
    Crowded(#[from] Crowded),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No access token could be signed.
    #[error(transparent)]
    Keys(#[from] KeysError),
}

/// A session with what goes into its tokens.
#[derive(Clone, Copy, Debug)]
pub struct Opened {
    session_id: SessionId,
    account_id: AccountId,
    generation: i64,
}

/// What somebody gets who signed in or refreshed.
#[derive(Debug)]
pub struct Pair {
    /// Good for [`ACCESS_LIFETIME`].
    pub access_token: SecretString,
    /// Good for one refresh.
    pub refresh_token: SecretString,
}

/// What a token of a session proves.
#[derive(Clone, Copy, Debug)]
pub struct Proven {
    /// The session.
    pub session_id: SessionId,
    /// Whose it is.
    pub account_id: AccountId,
    /// What that account may do.
    pub role: Role,
    /// Which kind of token it was.
    pub kind: AccountTokenKind,
}

/// The sessions of a store. Clones share them.
#[derive(Clone)]
pub struct Sessions {
    store: SessionStore,
    keys: Keys,
    refresh_tokens: Arc<RefreshTokens>,
    turns: Turnstile<SessionId>,
    clock: Clock,
    randomness: Randomness,
}

impl Sessions {
    /// The sessions of a store, whose tokens `keys` signs.
    #[must_use]
    pub fn new(database: Database, keys: Keys, clock: Clock, randomness: Randomness) -> Self {
        Self {
            store: SessionStore::new(database),
            refresh_tokens: Arc::new(RefreshTokens::new(keys.vault())),
            turns: Turnstile::new(AT_ONE_SESSION),
            keys,
            clock,
            randomness,
        }
    }

    /// Begins a session of an account that has just proven itself. The oldest beyond 100 ends.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn open(
        &self,
        tx: &mut Tx,
        by: &Context,
        account_id: AccountId,
        kind: SessionKind,
    ) -> Result<Opened, StoreError> {
        let now = self.clock.now();
        let session = NewSession {
            session_id: SessionId::new(now, &self.randomness),
            account_id,
            kind,
            address: by.address,
            user_agent: by.user_agent.as_deref(),
            now,
            expires_at: now.after(match kind {
                SessionKind::Refreshed => REFRESH_LIFETIME,
                SessionKind::OneHour => ONE_HOUR,
            }),
        };
        store::insert(tx, &session).await?;
        for ended in store::end_oldest(tx, account_id, now, SESSIONS).await? {
            let change = AccountChange::SessionEnded(ended);
            self.record(tx, by, account_id, change).await?;
        }
        let change = AccountChange::SignedIn(session.session_id);
        self.record(tx, by, account_id, change).await?;
        Ok(Opened {
            session_id: session.session_id,
            account_id,
            generation: 1,
        })
    }

    /// The tokens of a session that is refreshed.
    ///
    /// # Errors
    /// When no token can be signed.
    pub async fn pair(&self, session: Opened) -> Result<Pair, KeysError> {
        let claims = self.claims(session, AccountTokenKind::Access, ACCESS_LIFETIME);
        let access_token = self.keys.sign_for_account(&claims).await?;
        Ok(Pair {
            access_token: access_token.into(),
            refresh_token: self.refresh_tokens.issue(Ticket {
                session_id: session.session_id,
                generation: session.generation,
            }),
        })
    }

    /// The token of a session of an hour.
    ///
    /// # Errors
    /// When no token can be signed.
    pub async fn one_hour_token(&self, session: Opened) -> Result<SecretString, KeysError> {
        let claims = self.claims(session, AccountTokenKind::OneHour, ONE_HOUR);
        Ok(self.keys.sign_for_account(&claims).await?.into())
    }

    /// Gives the next pair for a refresh token, or for one that was only just replaced the current
    /// refresh token again. One that was replaced before ends its session.
    ///
    /// # Errors
    /// When the token is not good, or the store fails.
    pub async fn refresh(&self, token: &str, by: &Context) -> Result<Pair, RefreshError> {
        let ticket = self
            .refresh_tokens
            .read(token)
            .ok_or(RefreshError::Invalid)?;
        let place = self.turns.enter(ticket.session_id)?;
        // The row is for one at a time: no connection waits for it.
        let turn = place.turn(self.store.database().deadline()).await;
        let _turn = turn.ok_or(Crowded)?;
        let now = self.clock.now();
        let times = RefreshTimes {
            now,
            replaced_since: now.before(REPLACED_GRACE),
            expires_at: now.after(REFRESH_LIFETIME),
            longest_micros: i64::try_from(LONGEST.as_micros()).unwrap_or(i64::MAX),
        };
        let Some(refreshed) = self.store.refresh(ticket, times).await? else {
            return Err(self.refuse(ticket, now, by).await?);
        };
        let session = Opened {
            session_id: ticket.session_id,
            account_id: refreshed.account_id,
            generation: refreshed.generation,
        };
        Ok(self.pair(session).await?)
    }

    /// Ends the session of a token that was replaced: two have it, and one of them stole it.
    async fn refuse(
        &self,
        ticket: Ticket,
        now: Timestamp,
        by: &Context,
    ) -> Result<RefreshError, StoreError> {
        let mut tx = self.store.database().begin().await?;
        let Some(account_id) =
            store::end_reused(&mut tx, ticket, now, now.before(REPLACED_GRACE)).await?
        else {
            return Ok(RefreshError::Invalid);
        };
        let change = AccountChange::RefreshTokenReused(ticket.session_id);
        self.record(&mut tx, by, account_id, change).await?;
        tx.commit().await?;
        Ok(RefreshError::Reused)
    }

    /// What an access or one-hour token proves, if its session goes on and its account can be used.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn prove(&self, token: &str) -> Result<Option<Proven>, KeysError> {
        let Some(claims) = self.keys.verify_for_account(token).await? else {
            return Ok(None);
        };
        let now = self.clock.now();
        let Some(live) = self.store.find_live(claims.session_id, now).await? else {
            return Ok(None);
        };
        let is_its_session = live.account_id == claims.account_id
            && match claims.kind {
                AccountTokenKind::Access => live.kind == SessionKind::Refreshed,
                AccountTokenKind::OneHour => live.kind == SessionKind::OneHour,
            };
        if !is_its_session {
            return Ok(None);
        }
        if live.last_used_at < now.before(LAST_USE_STEP) {
            // Who only reads is not refused because that cannot be written.
            if let Err(error) = self.store.touch(claims.session_id, now).await {
                tracing::warn!(error = %Chain(&error), "a last use was not written");
            }
        }
        Ok(Some(Proven {
            session_id: claims.session_id,
            account_id: live.account_id,
            role: live.role,
            kind: claims.kind,
        }))
    }

    /// The session that a refresh, access or one-hour token is of, if we made it and it is no
    /// expired JWT.
    ///
    /// # Errors
    /// When the store must be asked for a key, and fails.
    pub async fn session_of(&self, token: &str) -> Result<Option<SessionId>, KeysError> {
        if let Some(ticket) = self.refresh_tokens.read(token) {
            return Ok(Some(ticket.session_id));
        }
        let claims = self.keys.verify_for_account(token).await?;
        Ok(claims.map(|claims| claims.session_id))
    }

    /// Ends a session of an account, and with it all of its tokens. Whether there was one.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn end(
        &self,
        tx: &mut Tx,
        by: &Context,
        account_id: AccountId,
        session_id: SessionId,
    ) -> Result<bool, StoreError> {
        let ended = store::end(tx, account_id, session_id).await?;
        if ended {
            let change = AccountChange::SessionEnded(session_id);
            self.record(tx, by, account_id, change).await?;
        }
        Ok(ended)
    }

    /// The sessions of an account that go on, the newest first.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list(&self, account_id: AccountId) -> Result<Vec<Session>, StoreError> {
        self.store.list(account_id, self.clock.now()).await
    }

    /// Removes up to `limit` sessions that have ended.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn sweep(&self, limit: i64) -> Result<u64, StoreError> {
        self.store.sweep(self.clock.now(), limit).await
    }

    fn claims(&self, session: Opened, kind: AccountTokenKind, lifetime: Duration) -> AccountClaims {
        let now = self.clock.now();
        AccountClaims {
            kind,
            account_id: session.account_id,
            session_id: session.session_id,
            issued_at: now,
            expires_at: now.after(lifetime),
        }
    }

    async fn record(
        &self,
        tx: &mut Tx,
        by: &Context,
        account_id: AccountId,
        change: AccountChange,
    ) -> Result<(), StoreError> {
        let change = Change::OfAccount(account_id, change);
        changes::record(tx, by, &change, self.clock.now(), &self.randomness).await
    }
}
