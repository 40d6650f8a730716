//! From a configuration to rooms that are ready to use.

use std::{io, net::SocketAddr, path::PathBuf, time::Duration};

use super::{embedded::lock, master_key};
use crate::{
    accounts::Accounts,
    api_tokens::ApiTokens,
    attempts::Attempts,
    audit::{AuditLog, Tally},
    callers::Crowds,
    config::{self, Config, DatabaseKind},
    error::Chain,
    health::Health,
    keys::{self, KeySettings, Keys, KeysError, vault::Vault},
    middleware::admission::Admission,
    passwords::Passwords,
    quota::Ledger,
    sessions::Sessions,
    sites::{self, Sites},
    state::{AppState, Rooms},
    store::{Database, StoreError, freshness::Freshness, migrations, servers::Purpose},
    telemetry::{
        metrics::{Metrics, MetricsError},
        traces::{Traces, TracesError},
    },
    tokens::{TokenSettings, Tokens},
    two_factor::TwoFactor,
    types::{clock::Clock, randomness::Randomness},
};

/// Why the service could not start, or a command not run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store could not be opened.
    #[error("cannot open the store {url}")]
    Open {
        /// The store, without its password.
        url: String,
        /// Why.
        source: StoreError,
    },
    /// The folder or the lock of the embedded store could not be made.
    #[error("cannot write the folder of the store {url}: run as its owner, or set database.url")]
    Folder {
        /// The store.
        url: String,
        /// Why.
        source: io::Error,
    },
    /// Another server has the embedded store.
    #[error(
        "another server runs on the store {}, which is for one: end it first, or use PostgreSQL \
         for several",
        .0.display()
    )]
    Served(PathBuf),
    /// The embedded store is not there.
    #[error(
        "there is no store {}: run this where the server runs, or with its database.url; \
         `mirrory migrate` makes a new one",
        .0.display()
    )]
    NoStore(PathBuf),
    /// A master key is there, and the embedded store that it is of is not.
    #[error(
        "there is no store {}, but a master key, {}: restore the store from your back-up, or set \
         database.url to where it is; to bring an export in, run `mirrory import`; for a new store, \
         move the master key away",
        store.display(),
        key.display()
    )]
    OrphanedMasterKey {
        /// The key's file.
        key: PathBuf,
        /// Where the store should be.
        store: PathBuf,
    },
    /// The tables could not be brought up to date.
    #[error(transparent)]
    Migrate(#[from] migrations::MigrationError),
    /// PostgreSQL is shared, so its master key must be given.
    #[error(
        "with PostgreSQL, secrets.master_key must be set: the one that the store was made with, \
         the same for every instance; for a new store make one with: \
         export MIRRORY__SECRETS__MASTER_KEY=\"$(openssl rand -base64 32)\""
    )]
    NoMasterKey,
    /// The configured master key is to be changed, and no other one was given.
    #[error(
        "the new master key is missing: make one with `(umask 077; openssl rand -base64 32 > \
         new.key)` and give it with --new-key-file new.key"
    )]
    NoNewMasterKey,
    /// The store has keys and their master key is gone.
    #[error(
        "the store's master key is missing: restore {0:?} from your back-up, or set \
         secrets.master_key"
    )]
    LostMasterKey(PathBuf),
    /// The file with the master key cannot be used.
    #[error("cannot use the master key in {file:?}: {problem}")]
    MasterKeyFile {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The store has a part of what is to come into it.
    #[error(
        "an import into this store is not finished: run `mirrory import` again with the whole file, \
         or use another, empty store"
    )]
    UnfinishedImport,
    /// The signing keys could not be opened.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The metrics could not be made.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// Traces could not be sent to where they are to be sent.
    #[error(transparent)]
    Traces(#[from] TracesError),
    /// The address could not be listened on.
    #[error("cannot listen on {address}; set {setting} to another address")]
    Listen {
        /// What names it.
        setting: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// Opens the store that the configuration names and brings its tables up to date.
///
/// # Errors
/// When the store cannot be reached, made or migrated.
pub async fn open_store(
    settings: &config::Database,
    deadline: Duration,
) -> Result<Database, StartError> {
    open_store_to(Purpose::Use, settings, deadline).await
}

/// Opens the store on whatever server it is, for [`Database::accept_server`].
///
/// # Errors
/// As [`open_store`].
pub async fn open_store_to_accept(
    settings: &config::Database,
    deadline: Duration,
) -> Result<Database, StartError> {
    open_store_to(Purpose::Accept, settings, deadline).await
}

async fn open_store_to(
    purpose: Purpose,
    settings: &config::Database,
    deadline: Duration,
) -> Result<Database, StartError> {
    let _lock = match settings.kind() {
        DatabaseKind::Sqlite => Some(lock(settings).await?),
        DatabaseKind::Postgres => None,
    };
    let database = Database::open_to(purpose, settings, deadline)
        .await
        .map_err(|source| StartError::Open {
            url: settings.redacted(),
            source,
        })?;
    database.set_least_time(migrations::newest_date());
    let standing = migrations::standing(&database).await?;
    if !standing.is_current() {
        database.migrate().await?;
        database.note_server().await?;
        let (store, migrations) = (settings.redacted(), standing.missing.len());
        if settings.kind() == DatabaseKind::Postgres && standing.applied == 0 {
            // Meant, or another database than was meant; of a new file it is told by those who make it.
            tracing::warn!(
                store,
                migrations,
                "the database was empty: brought the tables up to date"
            );
        } else {
            tracing::info!(store, migrations, "brought the tables up to date");
        }
    }
    Ok(database)
}

/// Whether a start finds all that it would make: the keys, and the site of the configured secret. A
/// clock that is wrong would put wrong times on them.
///
/// # Errors
/// When the store fails.
pub async fn is_set_up(config: &Config, database: &Database) -> Result<bool, StoreError> {
    if !keys::has_keys(database).await? {
        return Ok(false);
    }
    if config.bootstrap.proxy_secret.is_some() {
        return sites::has_default(database).await;
    }
    Ok(true)
}

/// Says which plans of sites the configuration lacks: calls of those sites are answered 500.
pub async fn warn_of_unknown_plans(config: &Config, database: &Database) {
    match sites::on_unknown_plans(database, &config.plans).await {
        Ok(unknown) if unknown.is_empty() => {}
        Ok(unknown) => {
            let plans: Vec<_> = unknown.into_iter().map(|(plan, _)| plan).collect();
            tracing::warn!(
                plans = plans.join(", "),
                "sites are on plans that the configuration lacks: their calls are answered 500; see \
                 `mirrory doctor`"
            );
        }
        Err(error) => {
            tracing::warn!(error = %Chain(&error), "cannot see which plans the sites are on");
        }
    }
}

/// Opens the store's signing keys, and makes the first one when there is none.
///
/// # Errors
/// When the master key is missing or is not the store's.
pub async fn open_keys(
    config: &Config,
    database: &Database,
    clock: &Clock,
    randomness: &Randomness,
    freshness: Freshness,
) -> Result<Keys, StartError> {
    let vault = master_key::open_vault(config, database, clock, randomness).await?;
    let keys = assemble_keys(config, database, vault, clock, randomness, freshness);
    keys.ensure_first(database, config.tokens.algorithm).await?;
    Ok(keys)
}

/// The signing keys of a store that `vault` opens; nothing is read or made.
pub(crate) fn assemble_keys(
    config: &Config,
    database: &Database,
    vault: Vault,
    clock: &Clock,
    randomness: &Randomness,
    freshness: Freshness,
) -> Keys {
    Keys::new(
        database.clone(),
        vault,
        KeySettings {
            issuer: config.tokens.issuer.clone(),
            audience: config.tokens.audience.clone(),
            remembered: config.tokens.cache_capacity,
        },
        clock.clone(),
        randomness.clone(),
        freshness,
    )
}

/// Opens every room over an open store, and makes what the configuration wants to be there.
///
/// # Errors
/// When the keys cannot be opened or the store fails.
pub async fn open_state(
    config: Config,
    database: Database,
    clock: Clock,
    randomness: Randomness,
    freshness: Freshness,
) -> Result<AppState, StartError> {
    database.check_clock(&clock).await?;
    let keys = open_keys(&config, &database, &clock, &randomness, freshness.clone()).await?;
    let bootstrap = &config.bootstrap;
    let sites = Sites::new(
        database.clone(),
        clock.clone(),
        randomness.clone(),
        bootstrap.proxy_secret.as_ref(),
    )
    .remembering(&freshness);
    if bootstrap.proxy_secret.is_some() {
        let mut tx = database.begin().await?;
        sites
            .ensure_default(&mut tx, bootstrap.plan.as_str())
            .await?;
        tx.commit().await?;
    }
    let metrics = match config.telemetry.metrics_listen {
        Some(_) => Metrics::new()?,
        None => Metrics::default(),
    };
    let rooms = Rooms {
        traces: Traces::new(&config, &clock, &randomness, &metrics)?,
        ledger: Ledger::new(database.clone(), config.plans.clone(), clock.clone()),
        accounts: Accounts::new(database.clone(), clock.clone(), randomness.clone()),
        passwords: Passwords::new(randomness.clone()),
        sessions: Sessions::new(
            database.clone(),
            keys.clone(),
            clock.clone(),
            randomness.clone(),
        ),
        two_factor: TwoFactor::new(
            database.clone(),
            keys.clone(),
            clock.clone(),
            randomness.clone(),
        ),
        api_tokens: ApiTokens::new(database.clone(), clock.clone(), randomness.clone()),
        tally: Tally::new(database.clone(), clock.clone(), randomness.clone()),
        audit_log: AuditLog::new(database.clone()),
        attempts: Attempts::new(&config.limits),
        tokens: open_tokens(&config, &database, &clock, &randomness)
            .remembering(config.tokens.cache_capacity, freshness.clone()),
        health: Health::new(database.clone(), clock.clone()),
        admission: Admission::new(config.server.concurrent_requests),
        crowds: Crowds::default(),
        config,
        database,
        clock,
        randomness,
        sites,
        keys,
        freshness,
        metrics,
    };
    rooms.tokens.measured_by(&rooms.metrics);
    rooms.sites.measured_by(&rooms.metrics);
    rooms.passwords.measured_by(&rooms.metrics);
    Ok(rooms.into())
}

/// The tokens of a store, made as the configuration says.
#[must_use]
pub fn open_tokens(
    config: &Config,
    database: &Database,
    clock: &Clock,
    randomness: &Randomness,
) -> Tokens {
    Tokens::new(
        database.clone(),
        TokenSettings {
            time_to_live: Duration::from_secs(config.tokens.ttl_seconds.into()),
            coins: config.tokens.coins,
        },
        clock.clone(),
        randomness.clone(),
    )
}
