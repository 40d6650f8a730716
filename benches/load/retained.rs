//! What a store has that keeps records for a while: partitions of them, and a key of each.

use std::{fmt::Write, time::Duration};

use mirrory::{store::sqlite, types::clock::Clock};
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};
use uuid::Uuid;

use crate::{
    Outcome,
    fill::{DAY_MICROS, OLDEST_DAYS, first_issue},
};

/// As if every record had been asked for with a key, within the last twelve hours.
const KEYS_OF_POSTGRES: &str = "
    INSERT INTO idempotency_keys (site_id, key_digest, request_digest, token_id, created_at)
    SELECT site_id, sha256(uuid_send(token_id)), sha256(''), token_id, $2 - ($2 - issued_at) / 50
    FROM tokens WHERE issued_at >= $1";

/// Makes partitions of all the time that records are filled in for, the last one for so many
/// microseconds beyond now. They are to be filled before an instance finds them empty.
pub async fn partitions(url: &str, count: u32, beyond: i64) -> Outcome<()> {
    let mut connection = PgConnection::connect(url).await?;
    let first = first_issue();
    let span = OLDEST_DAYS * DAY_MICROS / i64::from(count);
    let id = |number: u32| {
        let more = if number == count { beyond } else { 0 };
        let millis = (first + span * i64::from(number) + more) / 1000;
        Uuid::from_u128(u128::from(millis.cast_unsigned()) << 80)
    };
    let mut sql = format!(
        "ALTER TABLE tokens DETACH PARTITION tokens_past; \
         ALTER TABLE tokens ATTACH PARTITION tokens_past FOR VALUES FROM (MINVALUE) TO ('{}');",
        id(0)
    );
    for number in 0..count {
        write!(
            sql,
            "CREATE TABLE tokens_{number} PARTITION OF tokens \
             FOR VALUES FROM ('{}') TO ('{}') WITH (fillfactor = 60);",
            id(number),
            id(number + 1)
        )?;
    }
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(&mut connection)
        .await?;
    connection.close().await?;
    Ok(())
}

/// Gives every record a key.
pub async fn keys(url: &str) -> Outcome<()> {
    let mut connection = PgConnection::connect(url).await?;
    sqlx::query(KEYS_OF_POSTGRES)
        .bind(first_issue() - DAY_MICROS)
        .bind(Clock::system().now())
        .execute(&mut connection)
        .await?;
    for query in ["VACUUM (ANALYZE) idempotency_keys", "CHECKPOINT"] {
        sqlx::raw_sql(query).execute(&mut connection).await?;
    }
    connection.close().await?;
    Ok(())
}

/// Ends every token of an embedded store, long ago.
pub async fn end_all(url: &str) -> Outcome<()> {
    let mut connection = connect(url).await?;
    for query in [
        "UPDATE tokens SET expires_at = 1",
        "PRAGMA wal_checkpoint(TRUNCATE)",
    ] {
        sqlx::raw_sql(query).execute(&mut connection).await?;
    }
    connection.close().await?;
    Ok(())
}

/// How many of those are left.
pub async fn ended(url: &str) -> Outcome<i64> {
    let mut connection = connect(url).await?;
    let count = sqlx::query_scalar("SELECT count(*) FROM tokens WHERE expires_at = 1")
        .fetch_one(&mut connection)
        .await?;
    connection.close().await?;
    Ok(count)
}

async fn connect(url: &str) -> Outcome<SqliteConnection> {
    let options = sqlite::options(url, Duration::from_secs(1))?;
    Ok(SqliteConnection::connect_with(&options).await?)
}
