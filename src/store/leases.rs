//! Work that one instance at a time does.

use uuid::Uuid;

use super::{Database, StoreError, affected, write};
use crate::types::clock::Timestamp;

const CLAIM: &str = "\
INSERT INTO leases (name, holder, held_until) VALUES ($1, $2, $3) \
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, held_until = excluded.held_until \
WHERE leases.holder = excluded.holder OR leases.held_until <= $4";

/// Claims a piece of work until `until`, or prolongs a claim; whether it is this holder's now.
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
            .execute(connection)
    ))?;
    Ok(claimed == 1)
}
