//! The audit log, to be read.

use uuid::Uuid;

use super::{
    listing::{AuditFilter, AuditRow},
    store,
};
use crate::store::{Database, StoreError};

/// The audit log of a store.
#[derive(Clone, Debug)]
pub struct AuditLog(Database);

impl AuditLog {
    /// The log of a store.
    #[must_use]
    pub const fn new(database: Database) -> Self {
        Self(database)
    }

    /// Up to `limit` rows whose ids are below `before`, the newest first.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn page(
        &self,
        filter: &AuditFilter,
        before: Uuid,
        limit: i64,
    ) -> Result<Vec<AuditRow>, StoreError> {
        let rows = store::page(&self.0, filter, before, limit).await?;
        Ok(match filter.visible_to {
            Some(account_id) => {
                let seen = rows.into_iter().map(|row| row.seen_by(account_id));
                seen.collect()
            }
            None => rows,
        })
    }

    /// The newest rows.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn newest(
        &self,
        filter: &AuditFilter,
        limit: i64,
    ) -> Result<Vec<AuditRow>, StoreError> {
        self.page(filter, Uuid::max(), limit).await
    }
}
