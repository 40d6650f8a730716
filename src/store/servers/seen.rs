//! What the store itself knows of the servers that it was on. It goes with the data to whatever
//! server has them next, so it is neither exported nor imported.

use sqlx::{PgConnection, Row};

use super::{identity::Identity, refusal::Refusal};

/// Before the first migrations there is no such table.
const IS_THERE: &str = "SELECT to_regclass('database_server') IS NOT NULL";

pub(super) const FIND: &str = "SELECT system, timeline FROM database_server WHERE id = 1";

const NOTE: &str = "\
INSERT INTO database_server (id, system, timeline) VALUES (1, $1, $2) \
ON CONFLICT (id) DO UPDATE SET timeline = excluded.timeline \
WHERE database_server.system = excluded.system AND database_server.timeline < excluded.timeline";

/// The system that a store was made on or accepted for, and its highest timeline so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Seen {
    pub(crate) system: i64,
    pub(crate) timeline: i64,
}

impl From<Identity> for Seen {
    fn from(identity: Identity) -> Self {
        let Identity {
            system, timeline, ..
        } = identity;
        Self { system, timeline }
    }
}

impl Seen {
    /// Refuses a server that is another system's, or was left behind.
    pub(super) fn check(self, identity: &Identity, place: &str) -> Result<(), Refusal> {
        let Identity {
            system, timeline, ..
        } = *identity;
        if system != self.system {
            return Err(Refusal::another_system(place, system, self.system));
        }
        if timeline < self.timeline {
            return Err(Refusal::old_timeline(place, timeline, self.timeline));
        }
        Ok(())
    }
}

/// Whether the store has a place for what it knows.
pub(super) async fn has_table(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let row = sqlx::raw_sql(IS_THERE).fetch_one(connection).await?;
    row.try_get(0)
}

/// What the store knows, if it knows anything.
pub(super) async fn find(connection: &mut PgConnection) -> Result<Option<Seen>, sqlx::Error> {
    sqlx::query_as(FIND).fetch_optional(connection).await
}

/// Lets the store know the server, unless it knows of a newer one, or of another system.
pub(super) async fn note(
    connection: &mut PgConnection,
    identity: &Identity,
) -> Result<(), sqlx::Error> {
    sqlx::query(NOTE)
        .bind(identity.system)
        .bind(identity.timeline)
        .execute(connection)
        .await?;
    Ok(())
}
