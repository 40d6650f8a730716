//! The janitor: removes what is past its use, one instance at a time: partitions whole, other rows in
//! small batches with pauses between them.

use std::{future::ready, time::Duration};

use tokio::time::sleep;
use uuid::Uuid;

use crate::{
    api_tokens::ApiTokens,
    audit,
    health::MAX_SKEW,
    keys::Keys,
    quota::Ledger,
    sessions::Sessions,
    sites::Sites,
    state::AppState,
    store::{Database, StoreError, changes, leases},
    telemetry::metrics::Metrics,
    tokens::Tokens,
    types::clock::Clock,
};

/// How many rows one statement removes: so few that nobody has to wait for long until it is done.
pub const BATCH: i64 = 100;

/// How many batches of each kind one round removes: more than a round's worth of new rows.
const BATCHES: usize = 1_000;

/// How long the store is left alone between two full batches. What comes at a thousand a second goes
/// at up to two.
pub const PAUSE: Duration = Duration::from_millis(50);

/// How long an instance claims the work for; renewed before each kind.
const LEASE: Duration = Duration::from_mins(3);

const DAY: Duration = Duration::from_hours(24);

/// How long changes are kept: far longer than any follower may lag.
const CHANGES_KEPT: Duration = Duration::from_hours(24);

/// Cleans up for all rooms.
pub struct Janitor {
    database: Database,
    clock: Clock,
    sites: Sites,
    keys: Keys,
    ledger: Ledger,
    tokens: Tokens,
    sessions: Sessions,
    api_tokens: ApiTokens,
    audit_kept: Duration,
    metrics: Metrics,
    /// This instance, among those that take turns.
    holder: Uuid,
}

impl Janitor {
    /// A janitor of an instance.
    #[must_use]
    pub fn new(state: &AppState) -> Self {
        Self {
            holder: state.randomness.uuid_v7(state.clock.now()),
            database: state.database.clone(),
            clock: state.clock.clone(),
            sites: state.sites.clone(),
            keys: state.keys.clone(),
            ledger: state.ledger.clone(),
            tokens: state.tokens.clone(),
            sessions: state.sessions.clone(),
            api_tokens: state.api_tokens.clone(),
            audit_kept: DAY * state.config.audit.kept_days,
            metrics: state.metrics.clone(),
        }
    }

    /// One round, but not when the clock is off the store's: what is past its use is gone for good,
    /// and a wrong clock must not decide it.
    ///
    /// # Errors
    /// When the store fails; the next round goes on where this one ended.
    pub async fn tick(&self) -> Result<(), StoreError> {
        let skew = self.clock.now().distance(self.database.now().await?);
        if skew > MAX_SKEW {
            tracing::warn!(?skew, "no clean-up: the clock is off the store's");
            return Ok(());
        }
        self.round_with(|| sleep(PAUSE)).await
    }

    /// Removes what is past its use by this instance's clock, unless another one has claimed it; all
    /// at once.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn round(&self) -> Result<(), StoreError> {
        self.round_with(|| ready(())).await
    }

    /// The same with a pause after each full batch.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn round_with<F>(&self, mut pause: impl FnMut() -> F) -> Result<(), StoreError>
    where
        F: Future<Output = ()>,
    {
        for kind in Kind::ALL {
            let now = self.clock.now();
            let until = now.after(LEASE);
            if !leases::claim(&self.database, "janitor", self.holder, now, until).await? {
                break;
            }
            self.clear(kind, &mut pause).await?;
        }
        Ok(())
    }

    /// Removes batch after batch until one comes back less than full.
    async fn clear<F>(&self, kind: Kind, pause: &mut impl FnMut() -> F) -> Result<(), StoreError>
    where
        F: Future<Output = ()>,
    {
        for _ in 0..BATCHES {
            let removed = self.sweep(kind).await?;
            self.metrics.removed(kind.table(), removed);
            if removed < BATCH.unsigned_abs() {
                break;
            }
            pause().await;
        }
        Ok(())
    }

    async fn sweep(&self, kind: Kind) -> Result<u64, StoreError> {
        match kind {
            Kind::Partitions => self.tokens.turn_partitions().await,
            Kind::Tokens => self.tokens.sweep(BATCH).await,
            Kind::IdempotencyKeys => self.tokens.sweep_keys(BATCH).await,
            Kind::Sites => self.sites.sweep(BATCH).await,
            Kind::Keys => self.keys.sweep(BATCH).await,
            Kind::Usage => self.ledger.sweep(BATCH).await,
            Kind::Sessions => self.sessions.sweep(BATCH).await,
            Kind::ApiTokens => self.api_tokens.sweep(BATCH).await,
            Kind::Audit => {
                let cutoff = self.clock.now().before(self.audit_kept);
                audit::sweep(&self.database, cutoff, BATCH).await
            }
            Kind::Changes => {
                let cutoff = self.clock.now().before(CHANGES_KEPT);
                changes::sweep(&self.database, cutoff, BATCH).await
            }
        }
    }
}

/// What is cleaned up; sites after the tokens that keep them.
#[derive(Clone, Copy)]
enum Kind {
    Partitions,
    Tokens,
    IdempotencyKeys,
    Sites,
    Keys,
    Usage,
    Sessions,
    ApiTokens,
    Audit,
    Changes,
}

impl Kind {
    const ALL: [Self; 10] = [
        Self::Partitions,
        Self::Tokens,
        Self::IdempotencyKeys,
        Self::Sites,
        Self::Keys,
        Self::Usage,
        Self::Sessions,
        Self::ApiTokens,
        Self::Audit,
        Self::Changes,
    ];

    /// The table that its rows are of, or most of them; partitions are told by themselves.
    const fn table(self) -> &'static str {
        match self {
            Self::Partitions => "partitions",
            Self::Tokens => "tokens",
            Self::IdempotencyKeys => "idempotency_keys",
            Self::Sites => "sites",
            Self::Keys => "signing_keys",
            Self::Usage => "usage_history",
            Self::Sessions => "sessions",
            Self::ApiTokens => "api_tokens",
            Self::Audit => "audit_log",
            Self::Changes => "changes",
        }
    }
}
