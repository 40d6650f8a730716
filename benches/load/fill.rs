//! Fills a store with sites and token records, as years of use would.

use std::time::Duration;

use mirrory::{store::sqlite, types::clock::Clock};
use sqlx::{Connection, PgConnection, SqliteConnection};

use crate::Outcome;

const SITES: i64 = 10_000;

/// So many are written in a transaction, which keeps SQLite's log small.
const ROWS_AT_ONCE: u32 = 500_000;

pub const DAY_MICROS: i64 = 86_400_000_000;

/// Records are kept for 30 days after their end; the oldest ones are not to be cleaned up while
/// they are measured.
pub const OLDEST_DAYS: i64 = 25;

const SITES_OF_POSTGRES: &str = "
    INSERT INTO sites (site_id, name, plan, status, created_at)
    SELECT md5('site' || number)::uuid, 'Site ' || number, 'professional', 'active', $2
    FROM generate_series(0, $1 - 1) AS number";

const SECRETS_OF_POSTGRES: &str = "
    INSERT INTO proxy_secrets (secret_id, site_id, digest, created_at)
    SELECT gen_random_uuid(), site_id, sha256(uuid_send(gen_random_uuid())), created_at
    FROM sites";

/// The ids are of version 7: they sort by the time of issue.
const TOKENS_OF_POSTGRES: &str = "
    INSERT INTO tokens
        (token_id, site_id, user_id, coins, issued_at, expires_at, machine_id, bound_at)
    SELECT (lpad(to_hex(issued_at / 1000), 12, '0') || '7' || substr(noise, 1, 3)
               || '8' || substr(noise, 4, 15))::uuid,
           md5('site' || number % $3)::uuid, 1 + number % 1000003, 200,
           issued_at, issued_at + $6, 'desktop-machine-uuid-' || noise, issued_at + 1000000
    FROM (SELECT number, md5(number::text) AS noise,
                 ($4 + number * $5) / 1000000 * 1000000 AS issued_at
          FROM generate_series($1, $2 - 1) AS number) AS records";

const SITES_OF_SQLITE: &str = "
    WITH RECURSIVE numbers (number) AS
        (SELECT 0 UNION ALL SELECT number + 1 FROM numbers WHERE number + 1 < $1)
    INSERT INTO sites (site_id, name, plan, status, created_at)
    SELECT unhex(printf('%032x', number)), 'Site ' || number, 'professional', 'active', $2
    FROM numbers";

const SECRETS_OF_SQLITE: &str = "
    INSERT INTO proxy_secrets (secret_id, site_id, digest, created_at)
    SELECT randomblob(16), site_id, randomblob(32), created_at FROM sites";

const TOKENS_OF_SQLITE: &str = "
    WITH RECURSIVE numbers (number) AS
        (SELECT $1 UNION ALL SELECT number + 1 FROM numbers WHERE number + 1 < $2),
    records (number, noise, issued_at) AS
        (SELECT number, hex(randomblob(9)), ($4 + number * $5) / 1000000 * 1000000 FROM numbers)
    INSERT INTO tokens
        (token_id, site_id, user_id, coins, issued_at, expires_at, machine_id, bound_at)
    SELECT unhex(printf('%012x', issued_at / 1000) || '7' || substr(noise, 1, 3)
               || '8' || substr(noise, 4, 15)),
           unhex(printf('%032x', number % $3)), 1 + number % 1000003, 200,
           issued_at, issued_at + $6, 'desktop-machine-uuid-' || noise, issued_at + 1000000
    FROM records";

/// Fills a database of PostgreSQL's, and leaves it nothing to do afterwards.
pub async fn postgres(url: &str, records: u32) -> Outcome<()> {
    let mut connection = PgConnection::connect(url).await?;
    let first = first_issue();
    sqlx::query(SITES_OF_POSTGRES)
        .bind(SITES)
        .bind(first)
        .execute(&mut connection)
        .await?;
    sqlx::query(SECRETS_OF_POSTGRES)
        .execute(&mut connection)
        .await?;
    for (from, to) in batches(records) {
        sqlx::query(TOKENS_OF_POSTGRES)
            .bind(from)
            .bind(to)
            .bind(SITES)
            .bind(first)
            .bind(step(records))
            .bind(DAY_MICROS)
            .execute(&mut connection)
            .await?;
        tell(to, records);
    }
    for query in ["VACUUM (ANALYZE)", "CHECKPOINT"] {
        sqlx::raw_sql(query).execute(&mut connection).await?;
    }
    connection.close().await?;
    Ok(())
}

/// Fills an embedded store.
pub async fn sqlite(url: &str, records: u32) -> Outcome<()> {
    let options = sqlite::options(url, Duration::from_secs(1))?;
    let mut connection = SqliteConnection::connect_with(&options).await?;
    let first = first_issue();
    sqlx::query(SITES_OF_SQLITE)
        .bind(SITES)
        .bind(first)
        .execute(&mut connection)
        .await?;
    sqlx::query(SECRETS_OF_SQLITE)
        .execute(&mut connection)
        .await?;
    for (from, to) in batches(records) {
        sqlx::query(TOKENS_OF_SQLITE)
            .bind(from)
            .bind(to)
            .bind(SITES)
            .bind(first)
            .bind(step(records))
            .bind(DAY_MICROS)
            .execute(&mut connection)
            .await?;
        tell(to, records);
    }
    sqlx::raw_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        .execute(&mut connection)
        .await?;
    connection.close().await?;
    Ok(())
}

/// From each batch's first number to the one after its last.
fn batches(records: u32) -> impl Iterator<Item = (i64, i64)> {
    let begins = (0..records).step_by(ROWS_AT_ONCE as usize);
    begins.map(move |from| {
        (
            from.into(),
            from.saturating_add(ROWS_AT_ONCE).min(records).into(),
        )
    })
}

/// When the oldest record is issued, in microseconds.
pub fn first_issue() -> i64 {
    Clock::system().now().as_micros() - OLDEST_DAYS * DAY_MICROS
}

/// Between two records, so that the last one is of now.
fn step(records: u32) -> i64 {
    OLDEST_DAYS * DAY_MICROS / i64::from(records)
}

fn tell(filled: i64, records: u32) {
    eprintln!("load: {filled} of {records} records are written");
}
