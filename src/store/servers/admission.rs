//! Which connections may be used: by who leads them, what is known in memory and what the store knows.

use sqlx::PgConnection;
use tokio::time::Instant;

use super::{
    Purpose, Servers,
    identity::{self, Identity, identify},
    refusal::Refusal,
    seen::{self, Seen},
    within,
};
use crate::store::postgres::{self, Doubt};

impl Servers {
    /// Refuses a new connection that leads to another server than the one in use, unless that is
    /// newer: by one name or address, too, servers follow each other. Connections from before are
    /// then left.
    ///
    /// # Errors
    /// When it leads to one that takes no writes, or to an older one.
    pub(in crate::store) async fn admit(
        &self,
        connection: &mut PgConnection,
        doubt: &Doubt,
    ) -> Result<(), sqlx::Error> {
        let Some(identity) = identify(connection).await? else {
            return Err(identity::read_only(connection).await);
        };
        let place = self.place();
        if !self.lock().is(&identity, &place)? {
            self.settle(connection, &identity, &place).await?;
            self.adopt(identity, &place)?;
            doubt.cast();
        }
        Ok(())
    }

    fn adopt(&self, identity: Identity, server: &str) -> Result<(), Refusal> {
        let mut in_use = self.lock();
        if !in_use.is(&identity, server)? {
            let timeline = identity.timeline;
            if in_use
                .identity
                .is_some_and(|known| known.timeline < timeline)
            {
                tracing::warn!(
                    server,
                    timeline,
                    "a server that was promoted takes the writes now"
                );
            }
            (in_use.identity, in_use.since) = (Some(identity), Instant::now());
        }
        Ok(())
    }

    /// Compares a server with what its store knows, and lets that know of a newer one.
    pub(super) async fn settle(
        &self,
        connection: &mut PgConnection,
        identity: &Identity,
        place: &str,
    ) -> Result<(), sqlx::Error> {
        let settling = async {
            if self.purpose == Purpose::Accept || !seen::has_table(connection).await? {
                return Ok(());
            }
            let known = seen::find(connection).await?;
            if let Some(known) = known {
                known.check(identity, place)?;
            }
            if self.purpose == Purpose::Use && known != Some(Seen::from(*identity)) {
                postgres::set(connection, []).await?;
                seen::note(connection, identity).await?;
            }
            Ok(())
        };
        within(self.deadline, settling).await
    }
}
