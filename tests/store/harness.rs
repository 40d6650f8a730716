//! A store for one test, and instances over it, with time and randomness in the test's hand.

use std::{
    env, fs,
    path::PathBuf,
    process,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use mirrory::{
    app::{open_state, open_store},
    config::{Config, DatabaseKind},
    keys::TokenClaims,
    sites::{NewSite, Sites},
    state::AppState,
    store::{
        Database, StoreError, changes::Actor, database::COMMAND_DEADLINE, freshness::Freshness,
    },
    tokens::{TokenRecord, TokenSettings, TokenState, Tokens},
    types::{
        clock::{Clock, ManualClock, Timestamp},
        ids::{MachineId, SiteId, TokenId, WpUserId},
        randomness::Randomness,
        secret::ProxySecret,
    },
};
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};

use crate::postgres;

/// Makes of each named function, which takes a [`Store`], a test on either store.
macro_rules! on_both_stores {
    ($($test:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(crate::harness::Store::sqlite().await).await;
            })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(crate::harness::Store::postgres().await).await;
            })+
        }
    };
}
pub(crate) use on_both_stores;

/// Makes one change in a transaction of its own.
macro_rules! commit {
    ($database:expr, |$tx:ident| $change:expr) => {{
        let mut transaction = $database.begin().await.unwrap();
        let $tx = &mut transaction;
        let outcome = $change.await.unwrap();
        transaction.commit().await.unwrap();
        outcome
    }};
}
pub(crate) use commit;

/// Saturday, 2026-11-21, 12:00:00.654321 UTC.
pub const NOON: Timestamp = Timestamp::from_micros(1_795_262_400_654_321);

pub const DAY: Duration = Duration::from_hours(24);

/// How long a token of these tests is good for.
pub const TIME_TO_LIVE: Duration = Duration::from_hours(1);

/// The smallest step of a clock.
pub const MICRO: Duration = Duration::from_micros(1);

/// The smallest step of a token's times.
pub const SECOND: Duration = Duration::from_secs(1);

const MASTER_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// An empty store of its own, gone with the value.
pub struct Store {
    pub config: Config,
    pub hand: ManualClock,
    pub clock: Clock,
    pub randomness: Randomness,
    folder: Option<PathBuf>,
}

impl Store {
    pub async fn postgres() -> Self {
        Self::new(&postgres::shared().create_database().await, None)
    }

    #[expect(clippy::unused_async, reason = "it is called as the other one")]
    pub async fn sqlite() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = env::temp_dir().join(format!("mirrory-store-{}-{number}", process::id()));
        let url = format!("sqlite://{}", folder.join("mirrory.db").display());
        Self::new(&url, Some(folder))
    }

    pub fn new(url: &str, folder: Option<PathBuf>) -> Self {
        let environment = [
            ("DATABASE_URL", url),
            ("MIRRORY__SECRETS__MASTER_KEY", MASTER_KEY),
            ("MIRRORY__DATABASE__MAX_CONNECTIONS", "8"),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let hand = ManualClock::starting_at(NOON);
        Self {
            config: Config::load(None, environment).unwrap(),
            clock: hand.clock(),
            hand,
            randomness: Randomness::seeded(20_261_121),
            folder,
        }
    }

    /// An empty store of the same kind, that makes other ids and keys.
    pub async fn another(&self) -> Self {
        let mut another = match self.kind() {
            DatabaseKind::Postgres => Self::postgres().await,
            DatabaseKind::Sqlite => Self::sqlite().await,
        };
        another.randomness = Randomness::system();
        another
    }

    pub const fn kind(&self) -> DatabaseKind {
        self.config.database.kind()
    }

    /// Where the embedded store lies.
    pub fn folder(&self) -> Option<&PathBuf> {
        self.folder.as_ref()
    }

    /// One more set of connections, as another instance has them.
    pub async fn open(&self) -> Database {
        self.open_with(COMMAND_DEADLINE).await
    }

    pub async fn open_with(&self, deadline: Duration) -> Database {
        let database = open_store(&self.config.database, deadline).await.unwrap();
        // The time of a test is before the program's own.
        database.set_least_time(Timestamp::from_micros(0));
        database
    }

    /// One more instance: the rooms over connections of its own.
    pub async fn instance(&self) -> Instance {
        Instance::new(self, self.open().await)
    }

    /// One more instance with every room, keys included.
    pub async fn state(&self) -> (AppState, Freshness) {
        let freshness = Freshness::new(self.clock.clone());
        let state = open_state(
            self.config.clone(),
            self.open().await,
            self.clock.clone(),
            self.randomness.clone(),
            freshness.clone(),
        );
        (state.await.unwrap(), freshness)
    }

    /// Runs statements behind the rooms' backs.
    pub async fn execute(&self, sql: &str) -> Result<(), sqlx::Error> {
        let url = self.config.database.url.expose();
        let sql = AssertSqlSafe(sql.to_owned());
        match self.kind() {
            DatabaseKind::Postgres => {
                let mut connection = PgConnection::connect(url).await?;
                sqlx::raw_sql(sql).execute(&mut connection).await?;
                connection.close().await
            }
            DatabaseKind::Sqlite => {
                let mut connection = SqliteConnection::connect(url).await?;
                sqlx::raw_sql(sql).execute(&mut connection).await?;
                connection.close().await
            }
        }
    }

    /// Reads one number behind the rooms' backs.
    pub async fn number(&self, sql: &str) -> i64 {
        let numbers = self.column::<i64>(sql).await;
        assert_eq!(numbers.len(), 1, "{sql}");
        numbers[0]
    }

    /// Waits until as many statements wait for locks.
    pub async fn until_waiting(&self, statements: i64) {
        while self.waiting().await < statements {
            tokio::task::yield_now().await;
        }
    }

    /// How many statements wait for locks.
    pub async fn waiting(&self) -> i64 {
        self.number(
            "SELECT count(*) FROM pg_stat_activity \
             WHERE datname = current_database() AND wait_event_type = 'Lock'",
        )
        .await
    }

    /// Waits until the server has ended all that the rooms did over `instances`, and has counted it.
    pub async fn end(&self, instances: &[Instance]) {
        for instance in instances {
            instance.database.close().await;
        }
        let sessions = "SELECT count(*) FROM pg_stat_activity \
                        WHERE datname = current_database() AND pid <> pg_backend_pid() \
                        AND backend_type = 'client backend'";
        while self.kind() == DatabaseKind::Postgres && self.number(sessions).await > 0 {
            tokio::task::yield_now().await;
        }
    }

    /// Reads one column behind the rooms' backs.
    pub async fn column<T>(&self, sql: &str) -> Vec<T>
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
        T: for<'r> sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
        T: Send + Unpin,
    {
        let url = self.config.database.url.expose();
        let sql = AssertSqlSafe(sql.to_owned());
        match self.kind() {
            DatabaseKind::Postgres => {
                let mut connection = PgConnection::connect(url).await.unwrap();
                let column = sqlx::query_scalar(sql).fetch_all(&mut connection).await;
                connection.close().await.unwrap();
                column.unwrap()
            }
            DatabaseKind::Sqlite => {
                let mut connection = SqliteConnection::connect(url).await.unwrap();
                let column = sqlx::query_scalar(sql).fetch_all(&mut connection).await;
                connection.close().await.unwrap();
                column.unwrap()
            }
        }
    }
}

/// A connection that lets nobody else write a table.
pub enum Hold {
    Postgres(PgConnection),
    Sqlite(SqliteConnection),
}

impl Hold {
    /// Waits until nobody else writes records.
    pub async fn of(store: &Store) -> Self {
        Self::of_table(store, "tokens").await
    }

    /// Waits until nobody else writes this table.
    pub async fn of_table(store: &Store, table: &str) -> Self {
        let url = store.config.database.url.expose();
        match store.kind() {
            DatabaseKind::Postgres => {
                Self::with(store, &format!("LOCK TABLE {table} IN EXCLUSIVE MODE")).await
            }
            DatabaseKind::Sqlite => {
                let mut connection = SqliteConnection::connect(url).await.unwrap();
                sqlx::raw_sql("BEGIN IMMEDIATE")
                    .execute(&mut connection)
                    .await
                    .unwrap();
                Self::Sqlite(connection)
            }
        }
    }

    /// Waits until PostgreSQL has run a statement, and keeps what it locked.
    pub async fn with(store: &Store, sql: &str) -> Self {
        let url = store.config.database.url.expose();
        let mut connection = PgConnection::connect(url).await.unwrap();
        let transaction = AssertSqlSafe(format!("BEGIN; {sql}"));
        let begun = sqlx::raw_sql(transaction).execute(&mut connection).await;
        begun.unwrap();
        Self::Postgres(connection)
    }

    /// Lets go, and keeps what was written.
    pub async fn commit(mut self) {
        let Self::Postgres(connection) = &mut self else {
            panic!("the embedded store is held without a statement");
        };
        sqlx::raw_sql("COMMIT").execute(connection).await.unwrap();
        self.release().await;
    }

    pub async fn release(self) {
        match self {
            Self::Postgres(connection) => connection.close().await.unwrap(),
            Self::Sqlite(connection) => connection.close().await.unwrap(),
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Some(folder) = &self.folder {
            // What goes wrong here must not turn a failed test into an abort.
            let _ = fs::remove_dir_all(folder);
        }
    }
}

/// The rooms that need no keys, over connections of their own.
#[derive(Clone)]
pub struct Instance {
    pub database: Database,
    pub sites: Sites,
    pub tokens: Tokens,
}

impl Instance {
    pub fn new(store: &Store, database: Database) -> Self {
        let settings = TokenSettings {
            time_to_live: TIME_TO_LIVE,
            coins: 200,
        };
        let clock = || store.clock.clone();
        let randomness = || store.randomness.clone();
        Self {
            sites: Sites::new(database.clone(), clock(), randomness(), None),
            tokens: Tokens::new(database.clone(), settings, clock(), randomness()),
            database,
        }
    }

    /// Makes a site on the plan `free`.
    pub async fn create_site(&self) -> (SiteId, ProxySecret) {
        let site = NewSite::parse("A shop", None, "free").unwrap();
        let (site, secret) = commit!(self.database, |tx| self.sites.create(
            tx,
            Actor::Operator,
            &site
        ));
        (site.id, secret)
    }

    /// The claims of a token that is in the store.
    pub async fn claims(&self, token_id: TokenId) -> TokenClaims {
        let held = self.tokens.find(token_id).await.unwrap().unwrap();
        held.record.claims()
    }

    /// Whether the token is good on the machine, bound to it now or before, as a validation finds
    /// out.
    pub async fn binds(
        &self,
        claims: TokenClaims,
        machine_id: &MachineId,
    ) -> Result<bool, StoreError> {
        loop {
            if self.tokens.bind(claims, machine_id).await?.is_some() {
                return Ok(true);
            }
            let Some(held) = self.tokens.find(claims.token_id).await? else {
                return Ok(false);
            };
            // Released since, it is there for the next one to bind.
            let is_active = held.record.state == TokenState::Active;
            match &held.record.machine_id {
                None if is_active => {}
                bound => return Ok(is_active && bound.as_ref() == Some(machine_id)),
            }
        }
    }

    /// Makes a token of a site, bound to no machine.
    pub async fn issue(&self, site_id: SiteId) -> TokenRecord {
        let record = self.tokens.draft(site_id, user(12345), None);
        self.tokens.insert(&record, None).await.unwrap();
        record
    }
}

/// The longest time that is shorter.
pub fn just_under(duration: Duration) -> Duration {
    duration.saturating_sub(MICRO)
}

pub fn user(number: i64) -> WpUserId {
    WpUserId::parse(&number.to_string()).unwrap()
}

pub fn machine(name: &str) -> MachineId {
    MachineId::parse(name).unwrap()
}
