//! Work that one instance at a time does.

use std::time::Duration;

use uuid::Uuid;

use super::{Database, StoreError, Tx, affected, in_tx, read, write};
use crate::types::clock::Timestamp;

const CLAIM: &str = "\
INSERT INTO leases (name, holder, held_until) VALUES ($1, $2, $3) \
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, held_until = excluded.held_until \
WHERE leases.holder = excluded.holder OR leases.held_until <= $4 OR leases.held_until > $5";

/// How much longer than asked for now another's claim may last. One that lasts longer was made by a
/// clock that was wrong.
const LONGER: Duration = Duration::from_mins(1);

const BEGIN: &str = "\
INSERT INTO leases (name, holder, held_until) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING";

const FINISH: &str = "DELETE FROM leases WHERE name = $1";

const IS_BEGUN: &str = "SELECT count(*) FROM leases WHERE name = $1";

/// Claims a piece of work until `until`, or prolongs a claim; whether it is this holder's now. All
/// claim the same work for about the same time.
///
/// # Errors
/// When the store fails.
pub async fn claim(
    database: &Database,
    name: &str,
    holder: Uuid,
    now: Timestamp,
    until: Timestamp,
) -> Result<bool, StoreError> {
    let claimed = write!(database, |connection| affected(
        sqlx::query(CLAIM)
            .bind(name)
            .bind(holder)
            .bind(until)
            .bind(now)
            .bind(until.after(LONGER))
            .execute(connection)
    ))?;
    Ok(claimed == 1)
}

/// Marks a piece of work as begun, by nobody in particular, until somebody finishes it.
pub(crate) async fn begin(tx: &mut Tx, name: &str) -> Result<(), StoreError> {
    in_tx!(tx, |connection| affected(
        sqlx::query(BEGIN)
            .bind(name)
            .bind(Uuid::nil())
            .bind(Timestamp::from_micros(i64::MAX))
            .execute(connection)
    ))?;
    Ok(())
}

/// Takes the mark of [`begin`] away, if it is there.
pub(crate) async fn finish(tx: &mut Tx, name: &str) -> Result<(), StoreError> {
    in_tx!(tx, |connection| affected(
        sqlx::query(FINISH).bind(name).execute(connection)
    ))?;
    Ok(())
}

/// Whether a piece of work was begun and is not finished.
pub(crate) async fn is_begun(database: &Database, name: &str) -> Result<bool, StoreError> {
    let (begun,): (i64,) = read!(database, |connection| sqlx::query_as(IS_BEGUN)
        .bind(name)
        .fetch_one(connection))?;
    Ok(begun > 0)
}
