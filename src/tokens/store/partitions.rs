//! The partitions of the records in PostgreSQL. Their names and bounds are no parameters that its
//! statements would take; both are made of times alone.

use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::TokenStore;
use crate::{
    store::{
        StoreError, Tx, affected,
        database::{Pools, with_connection},
        in_tx,
    },
    types::clock::Timestamp,
};

const PARTITIONS: &str = "\
SELECT oid::regclass::text, \
  substring(pg_get_expr(relpartbound, oid) FROM 'TO \\(''([0-9a-f-]{36})''\\)')::uuid, \
  pg_relation_size(oid) \
FROM pg_inherits JOIN pg_class ON oid = inhrelid WHERE inhparent = 'tokens'::regclass \
ORDER BY 2";

/// Where one waits for a table, all that come later wait behind it: less time than makes a call
/// late. Once a minute, that is rarer than one call in a hundred.
const LIMIT_WAITING: &str = "SET LOCAL lock_timeout = '100ms'";

/// Takes all that is older than the partitions that were made, and so is emptied, not dropped.
const PAST: &str = "tokens_past";

/// A part of the records.
#[derive(Debug)]
pub(in crate::tokens) struct Partition {
    name: String,
    /// Its ids are made before this, and not before the end of the partition before it; none for
    /// the one of all that has no other partition.
    pub(in crate::tokens) end: Option<Timestamp>,
    /// How large it is, without its indexes; 0 when it never had a record.
    pub(in crate::tokens) bytes: i64,
}

impl TokenStore {
    /// The partitions, the oldest first; none in the embedded store.
    pub(in crate::tokens) async fn partitions(&self) -> Result<Vec<Partition>, StoreError> {
        let Pools::Postgres(pool) = self.database.pools() else {
            return Ok(Vec::new());
        };
        let rows: Vec<(String, Option<Uuid>, i64)> =
            with_connection!(self.database, pool, |connection| sqlx::query_as(PARTITIONS)
                .fetch_all(connection))?;
        let partition = |(name, end, bytes): (String, Option<Uuid>, i64)| Partition {
            name,
            end: end.map(made_at),
            bytes,
        };
        Ok(rows.into_iter().map(partition).collect())
    }

    /// Adds the partition of the ids that are made from `begin` to `end`, and moves into it what
    /// came before it was there. The one of now is where all statements look, so it is short.
    pub(in crate::tokens) async fn add_partition(
        &self,
        begin: Timestamp,
        end: Timestamp,
    ) -> Result<(), StoreError> {
        let date = begin.to_string().replace('-', "");
        let name = format!("tokens_{}", date.split('T').next().unwrap_or(&date));
        let [from, to] = [first_id(begin), first_id(end)];
        let mut tx = self.database.begin().await?;
        for statement in [
            LIMIT_WAITING.to_owned(),
            format!("CREATE TABLE {name} (LIKE tokens INCLUDING ALL) WITH (fillfactor = 60)"),
            format!(
                "WITH moved AS (DELETE FROM tokens_default \
                 WHERE token_id >= '{from}' AND token_id < '{to}' RETURNING *) \
                 INSERT INTO {name} SELECT * FROM moved"
            ),
            format!(
                "ALTER TABLE tokens ATTACH PARTITION {name} FOR VALUES FROM ('{from}') TO ('{to}')"
            ),
        ] {
            execute(&mut tx, statement).await?;
        }
        tx.commit().await
    }

    /// Removes a partition if each of its records ended before `cutoff`; whether it did.
    pub(in crate::tokens) async fn remove_partition(
        &self,
        partition: &Partition,
        cutoff: Timestamp,
    ) -> Result<bool, StoreError> {
        let name = &partition.name;
        let mut tx = self.database.begin().await?;
        if !partition.is_past_use(&mut tx, cutoff).await? {
            return Ok(false);
        }
        // In the order in which every statement takes them: the table and then its partition.
        let lock = format!("LOCK TABLE ONLY tokens, {name} IN ACCESS EXCLUSIVE MODE");
        execute(&mut tx, LIMIT_WAITING.to_owned()).await?;
        execute(&mut tx, lock).await?;
        // Whoever wrote a record that is older than itself may have done so meanwhile.
        if !partition.is_past_use(&mut tx, cutoff).await? {
            return Ok(false);
        }
        let verb = if name == PAST {
            "TRUNCATE"
        } else {
            "DROP TABLE"
        };
        execute(&mut tx, format!("{verb} {name}")).await?;
        tx.commit().await?;
        tracing::info!(partition = %name, "removed all of a partition's records");
        Ok(true)
    }
}

impl Partition {
    async fn is_past_use(&self, tx: &mut Tx, cutoff: Timestamp) -> Result<bool, StoreError> {
        let sql = format!("SELECT MAX(expires_at) FROM {}", self.name);
        let (latest_end,): (Option<Timestamp>,) =
            in_tx!(tx, |connection| sqlx::query_as(AssertSqlSafe(sql))
                .fetch_one(connection))?;
        Ok(latest_end.map_or(self.name != PAST, |end| end <= cutoff))
    }
}

async fn execute(tx: &mut Tx, statement: String) -> Result<u64, StoreError> {
    in_tx!(tx, |connection| affected(
        sqlx::query(AssertSqlSafe(statement)).execute(connection)
    ))
}

/// The least id that can be made at a time: it begins with the time's milliseconds.
pub(super) fn first_id(moment: Timestamp) -> Uuid {
    let millis = u64::try_from(moment.as_micros() / 1000).unwrap_or(0);
    Uuid::from_u128(u128::from(millis) << 80)
}

fn made_at(id: Uuid) -> Timestamp {
    let (millis, _) = id.as_u64_pair();
    Timestamp::from_micros((millis >> 16).cast_signed() * 1000)
}
