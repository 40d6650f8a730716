//! Going on with a store on another database system.

use super::{
    identity::Identity,
    seen::{FIND, Seen, note},
};
use crate::{
    store::{
        Database, StoreError, affected,
        changes::{self, Actor, Change},
        database::{Pools, with_connection},
        in_tx,
    },
    types::{clock::Timestamp, randomness::Randomness},
};

const ACCEPT: &str = "\
INSERT INTO database_server (id, system, timeline) VALUES (1, $1, $2) \
ON CONFLICT (id) DO UPDATE SET system = excluded.system, timeline = excluded.timeline";

/// The server that a store is right to be on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Its database system.
    pub system: i64,
    /// Its timeline.
    pub timeline: i64,
    /// Whether the store would have refused it before.
    pub is_news: bool,
}

impl Database {
    /// Lets the store go on where it is, as after a dump and restore or `pg_upgrade`; nothing on the
    /// embedded store, which has no servers.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn accept_server(
        &self,
        now: Timestamp,
        randomness: &Randomness,
    ) -> Result<Option<Accepted>, StoreError> {
        let identity = self.servers().and_then(super::Servers::identity);
        let (Pools::Postgres(_), Some(identity)) = (self.pools(), identity) else {
            return Ok(None);
        };
        let Identity {
            system, timeline, ..
        } = identity;
        let mut tx = self.begin().await?;
        changes::lock(&mut tx).await?;
        let known: Option<Seen> = in_tx!(&mut tx, |connection| sqlx::query_as(FIND)
            .fetch_optional(connection))?;
        in_tx!(&mut tx, |connection| affected(
            sqlx::query(ACCEPT)
                .bind(system)
                .bind(timeline)
                .execute(connection)
        ))?;
        let refused = known.filter(|known| known.check(&identity, "").is_err());
        if let Some(former) = refused {
            let change = Change::DatabaseAccepted {
                system,
                timeline,
                former_system: former.system,
                former_timeline: former.timeline,
            };
            changes::record(&mut tx, &Actor::Operator.into(), &change, now, randomness).await?;
        }
        tx.commit().await?;
        Ok(Some(Accepted {
            system,
            timeline,
            is_news: refused.is_some(),
        }))
    }

    /// Lets the store know the server that it is on, when it has got the place for that.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn note_server(&self) -> Result<(), StoreError> {
        let identity = self.servers().and_then(super::Servers::to_be_noted);
        if let (Pools::Postgres(pool), Some(identity)) = (self.pools(), identity) {
            with_connection!(self, pool, |connection| note(connection, &identity))?;
        }
        Ok(())
    }
}
