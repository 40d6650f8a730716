//! The janitor: removes what is past its use, one instance at a time: partitions whole, other rows in
//! small batches with pauses between them.

use std::{future::ready, time::Duration};

use tokio::time::sleep;
use uuid::Uuid;

use crate::{
    api_tokens::ApiTokens,
    audit,
    error::Chain,
    keys::Keys,
    quota::Ledger,
    sessions::Sessions,
    sites::Sites,
    state::AppState,
    store::{Database, StoreError, changes, leases, read},
    telemetry::metrics::Metrics,
    tokens::Tokens,
    types::clock::Clock,
};

/// How many rows one statement removes: so few that nobody has to wait for long until it is done.
pub const BATCH: i64 = 100;

/// How many batches of each kind one round removes: more than a round's worth of new rows.
const BATCHES: usize = 1_000;

/// So few rows may be more than a tenth of a table, as where it has hardly any.
const FEW: u64 = 10;

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

    /// One round, as long as the clock is known to be right: what is past its use is gone for good.
    ///
    /// # Errors
    /// When the store fails; the next round goes on where this one ended.
    pub async fn tick(&self) -> Result<(), StoreError> {
        self.database.check_clock(&self.clock).await?;
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
            if !self.may_remove() {
                break;
            }
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
        let mut share = Share::default();
        for _ in 0..BATCHES {
            if !self.may_remove() {
                break;
            }
            let removed = self.sweep(kind).await?;
            self.metrics.removed(kind.table(), removed);
            self.watch(kind, &mut share, removed).await;
            if removed < BATCH.unsigned_abs() {
                break;
            }
            pause().await;
        }
        Ok(())
    }

    /// Whether the clock may decide what is past its use: it was right at the last look, and has not
    /// been set since.
    fn may_remove(&self) -> bool {
        let time = self.database.time();
        time.is_trusted() && time.require(&self.clock).is_ok()
    }

    /// Says once a round that more than a tenth of a table goes, which is unusual. Counted are no more
    /// rows than decide it, and anew only when twice as many went.
    async fn watch(&self, kind: Kind, share: &mut Share, removed: u64) {
        share.removed += removed;
        let Some(count) = kind.count() else {
            return;
        };
        if share.removed < share.next_look.max(FEW) {
            return;
        }
        let nine_times = share.removed.saturating_mul(9);
        let counted: Result<(i64,), StoreError> =
            read!(self.database, |connection| sqlx::query_as(count)
                .bind(nine_times.cast_signed())
                .fetch_one(connection));
        let left = match counted {
            Ok((left,)) => left,
            // What is only told must not keep the rest from being removed.
            Err(error) => {
                share.next_look = u64::MAX;
                let table = kind.table();
                tracing::debug!(table, error = %Chain(&error), "what is left was not counted");
                return;
            }
        };
        share.next_look = share.removed.saturating_mul(2);
        if left.unsigned_abs() < nine_times {
            share.next_look = u64::MAX;
            tracing::warn!(
                table = kind.table(),
                removed = share.removed,
                left,
                "the clean-up removes more than a tenth of a table"
            );
        }
    }

    async fn sweep(&self, kind: Kind) -> Result<u64, StoreError> {
        match kind {
            Kind::Partitions => self.tokens.turn_partitions().await,
            Kind::Tokens => self.tokens.sweep(BATCH).await,
            Kind::IdempotencyKeys => self.tokens.sweep_keys(BATCH).await,
            Kind::Secrets => self.sites.sweep_secrets(BATCH).await,
            Kind::Sites => self.sites.sweep(BATCH).await,
            Kind::Keys => self.keys.sweep(BATCH).await,
            Kind::Usage => self.ledger.sweep(BATCH).await,
            Kind::Counters => self.ledger.sweep_counters(BATCH).await,
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

/// How much of a table a round has removed.
#[derive(Default)]
struct Share {
    removed: u64,
    /// How many must have gone before the rest is counted again.
    next_look: u64,
}

/// What is cleaned up; sites after the tokens that keep them.
#[derive(Clone, Copy)]
enum Kind {
    Partitions,
    Tokens,
    IdempotencyKeys,
    Secrets,
    Sites,
    Keys,
    Usage,
    Counters,
    Sessions,
    ApiTokens,
    Audit,
    Changes,
}

impl Kind {
    const ALL: [Self; 12] = [
        Self::Partitions,
        Self::Tokens,
        Self::IdempotencyKeys,
        Self::Secrets,
        Self::Sites,
        Self::Keys,
        Self::Usage,
        Self::Counters,
        Self::Sessions,
        Self::ApiTokens,
        Self::Audit,
        Self::Changes,
    ];

    /// The table that its rows are of; partitions are told by themselves.
    const fn table(self) -> &'static str {
        match self {
            Self::Partitions => "partitions",
            Self::Tokens => "tokens",
            Self::IdempotencyKeys => "idempotency_keys",
            Self::Secrets => "proxy_secrets",
            Self::Sites => "sites",
            Self::Keys => "signing_keys",
            Self::Usage => "usage_history",
            Self::Counters => "usage",
            Self::Sessions => "sessions",
            Self::ApiTokens => "api_tokens",
            Self::Audit => "audit_log",
            Self::Changes => "changes",
        }
    }

    /// Counts the rows of its table up to a bound; partitions are weighed by themselves.
    const fn count(self) -> Option<&'static str> {
        macro_rules! counting {
            ($table:literal) => {
                concat!(
                    "SELECT count(*) FROM (SELECT 1 FROM ",
                    $table,
                    " LIMIT $1) AS counted"
                )
            };
        }
        Some(match self {
            Self::Partitions => return None,
            Self::Tokens => counting!("tokens"),
            Self::IdempotencyKeys => counting!("idempotency_keys"),
            Self::Secrets => counting!("proxy_secrets"),
            Self::Sites => counting!("sites"),
            Self::Keys => counting!("signing_keys"),
            Self::Usage => counting!("usage_history"),
            Self::Counters => counting!("usage"),
            Self::Sessions => counting!("sessions"),
            Self::ApiTokens => counting!("api_tokens"),
            Self::Audit => counting!("audit_log"),
            Self::Changes => counting!("changes"),
        })
    }
}
