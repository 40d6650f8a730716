//! The store, behind the service's back.

use aws_lc_rs::hmac;
use mirrory::{
    keys::{open_vault, vault::MasterKey},
    types::randomness::Randomness,
};
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};

use super::{TestApp, stores::MASTER_KEY};

/// Runs one expression on a connection of its own, to whichever store it is.
macro_rules! with_connection {
    ($app:expr, |$connection:ident| $run:expr) => {{
        let url = $app.place.url();
        if url.starts_with("postgres") {
            let mut $connection = PgConnection::connect(&url).await.unwrap();
            $run.await.unwrap()
        } else {
            let mut $connection = SqliteConnection::connect(&url).await.unwrap();
            $run.await.unwrap()
        }
    }};
}

impl TestApp {
    /// Runs statements.
    pub async fn execute(&self, statements: &str) {
        with_connection!(self, |connection| async {
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
        let (kid, sealed): (String, Vec<u8>) = with_connection!(self, |connection| {
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
