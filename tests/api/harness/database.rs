//! The store, behind the service's back.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::hmac;
use mirrory::{
    keys::{open_vault, vault::MasterKey},
    types::randomness::Randomness,
};
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};
use tokio::time::{sleep, timeout};

use super::{TestApp, stores::MASTER_KEY};

/// Runs one expression on a connection of its own, to whichever store it is.
macro_rules! with_connection {
    ($place:expr, |$connection:ident| $run:expr) => {{
        let url = $place.url();
        if url.starts_with("postgres") {
            let mut $connection = PgConnection::connect(&url).await.unwrap();
            $run.await.unwrap()
        } else {
            let mut $connection = SqliteConnection::connect(&url).await.unwrap();
            $run.await.unwrap()
        }
    }};
}

/// A transaction of somebody else on PostgreSQL, and the locks that it holds.
pub struct Held(PgConnection);

impl Held {
    /// Lets go of the locks.
    pub async fn release(mut self) {
        sqlx::raw_sql("ROLLBACK")
            .execute(&mut self.0)
            .await
            .unwrap();
    }
}

/// Looks again and again until it is so.
pub async fn eventually(mut is_so: impl AsyncFnMut() -> bool) {
    let looking = async {
        while !is_so().await {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(20), looking)
        .await
        .expect("it comes to be so");
}

impl TestApp {
    /// Runs a statement when it is waited for, also without the instance.
    pub fn executing(&self, statement: &'static str) -> impl Future<Output = ()> + Send + use<> {
        let place = Arc::clone(&self.place);
        async move {
            with_connection!(place, |connection| async {
                let statement = sqlx::raw_sql(statement);
                statement.execute(&mut connection).await.map(drop)
            });
        }
    }

    /// Takes locks on PostgreSQL, as `statements` do.
    pub async fn hold(&self, statements: &str) -> Held {
        let mut connection = PgConnection::connect(&self.place.url()).await.unwrap();
        let statements = AssertSqlSafe(format!("BEGIN; {statements}"));
        sqlx::raw_sql(statements)
            .execute(&mut connection)
            .await
            .unwrap();
        Held(connection)
    }

    /// How many statements of the service wait in PostgreSQL for somebody's lock.
    pub async fn statements_that_wait(&self) -> i64 {
        let query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                     AND application_name = 'mirrory' AND wait_event_type = 'Lock'";
        self.number(query).await
    }

    /// Reads one number.
    pub async fn number(&self, query: &str) -> i64 {
        let query = AssertSqlSafe(query.to_owned());
        with_connection!(self.place, |connection| {
            sqlx::query_scalar(query).fetch_one(&mut connection)
        })
    }

    /// Reads one column of texts.
    pub async fn column(&self, query: &str) -> Vec<String> {
        let query = AssertSqlSafe(query.to_owned());
        with_connection!(self.place, |connection| {
            sqlx::query_scalar(query).fetch_all(&mut connection)
        })
    }

    /// Every row of the tables of accounts and of the audit log, as texts.
    pub async fn everything(&self) -> String {
        const TABLES: [&str; 6] = [
            "accounts",
            "sessions",
            "two_factor",
            "recovery_codes",
            "api_tokens",
            "audit_log",
        ];
        let mut rows = String::new();
        for table in TABLES {
            let query = if self.place.url().starts_with("postgres") {
                format!("SELECT {table}::text FROM {table}")
            } else {
                let columns = format!("SELECT name FROM pragma_table_info('{table}')");
                let columns = self.column(&columns).await;
                let texts = columns.iter().map(|column| format!("quote({column})"));
                let texts: Vec<_> = texts.collect();
                format!("SELECT {} FROM {table}", texts.join(" || ' ' || "))
            };
            rows += &self.column(&query).await.join(" ");
        }
        rows
    }

    /// Runs statements.
    pub async fn execute(&self, statements: &str) {
        with_connection!(self.place, |connection| async {
            let statements = AssertSqlSafe(statements.to_owned());
            sqlx::raw_sql(statements)
                .execute(&mut connection)
                .await
                .map(|_| ())
        });
    }

    /// The store's HS256 key, by which a test can sign what the service never would: its `kid`, and
    /// the key itself.
    pub async fn stolen_key(&self) -> (String, hmac::Key) {
        let (kid, sealed): (String, Vec<u8>) = with_connection!(self.place, |connection| {
            sqlx::query_as("SELECT kid, sealed FROM signing_keys WHERE algorithm = 'HS256'")
                .fetch_one(&mut connection)
        });
        let master_key = MasterKey::parse(MASTER_KEY).unwrap();
        let clock = self.clock.clock();
        let randomness = Randomness::seeded(0);
        let vault = open_vault(&self.state.database, &master_key, &clock, &randomness)
            .await
            .unwrap();
        let secret = vault
            .open(&format!("signing-key:{kid}:HS256"), &sealed)
            .unwrap();
        (kid, hmac::Key::new(hmac::HMAC_SHA256, &secret))
    }
}
