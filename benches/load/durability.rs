//! Whether a store flushes what it commits: figures of one that does not are worth nothing.

use std::time::Duration;

use mirrory::store::sqlite;
use sqlx::{Connection, PgConnection, SqliteConnection};

use crate::Outcome;

/// The value of SQLite's `PRAGMA synchronous` that stands for FULL.
const FULL: i64 = 2;

/// # Errors
/// When the store that `url` names does not, and when that cannot be found out.
pub async fn require(url: &str) -> Outcome<()> {
    let settings = if url.starts_with("postgres:") {
        of_postgres(url).await?
    } else {
        of_sqlite(url).await?
    };
    match settings.into_iter().find(|setting| !setting.is_right) {
        None => Ok(()),
        Some(Setting { name, value, .. }) => Err(format!(
            "{name} is {value}: nothing would be durable, so nothing is measured"
        )
        .into()),
    }
}

struct Setting {
    name: &'static str,
    value: String,
    is_right: bool,
}

async fn of_postgres(url: &str) -> Outcome<Vec<Setting>> {
    let mut connection = PgConnection::connect(url).await?;
    let mut settings = Vec::new();
    for (name, query) in [
        ("fsync", "SHOW fsync"),
        ("synchronous_commit", "SHOW synchronous_commit"),
    ] {
        let (value,): (String,) = sqlx::query_as(query).fetch_one(&mut connection).await?;
        let is_right = value == "on";
        settings.push(Setting {
            name,
            value,
            is_right,
        });
    }
    connection.close().await?;
    Ok(settings)
}

/// SQLite's setting is each connection's own: this one is opened as the service opens its writer.
async fn of_sqlite(url: &str) -> Outcome<Vec<Setting>> {
    let options = sqlite::options(url, Duration::from_secs(1))?;
    let mut connection = SqliteConnection::connect_with(&options).await?;
    let (value,): (i64,) = sqlx::query_as("PRAGMA synchronous")
        .fetch_one(&mut connection)
        .await?;
    connection.close().await?;
    Ok(vec![Setting {
        name: "PRAGMA synchronous",
        value: value.to_string(),
        is_right: value >= FULL,
    }])
}
