//! Writing a file.

use std::io::{self, Write};

use futures_util::TryStreamExt;
use serde::Serialize;

use super::{
    format::{Counts, FORMAT, Header, Lines, VERSION},
    tables::TABLES,
};
use crate::{
    config::DatabaseKind,
    store::{Database, Snapshot, StoreError, migrations},
    types::clock::Clock,
};

/// Why a store could not be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The store has tables or columns that this program does not know.
    #[error(
        "the store was brought up to date by a newer version of this program, which must export it"
    )]
    NewerStore,
    /// The file could not be written.
    #[error("the export could not be written")]
    Output(#[from] io::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What an export came to.
#[derive(Debug, Serialize)]
pub struct Exported {
    /// How many rows of each table there are.
    pub rows: Counts,
    /// The SHA-256 of all but the last line.
    pub sha256: String,
}

/// An export that has begun: the store as it was then.
pub struct Export {
    snapshot: Snapshot,
    rows: u64,
}

impl Export {
    /// Takes a snapshot of the store.
    ///
    /// # Errors
    /// When the store is of a newer version, or fails.
    pub async fn begin(database: &Database) -> Result<Self, ExportError> {
        let mut snapshot = database.snapshot().await?;
        let applied = "SELECT max(version) FROM _sqlx_migrations";
        if snapshot.number(applied).await? > migrations::newest() {
            return Err(ExportError::NewerStore);
        }
        let mut rows = 0;
        for table in TABLES {
            rows += snapshot.number(table.count).await?.unsigned_abs();
        }
        Ok(Self { snapshot, rows })
    }

    /// How many rows there are to write.
    #[must_use]
    pub const fn rows(&self) -> u64 {
        self.rows
    }

    /// Writes all of them, and tells `written` of each.
    ///
    /// # Errors
    /// When the store fails, or `output`.
    pub async fn write(
        mut self,
        output: impl Write,
        clock: &Clock,
        mut written: impl FnMut(),
    ) -> Result<Exported, ExportError> {
        let kind = self.snapshot.kind();
        let mut lines = Lines::begin(output, &header(kind, clock))?;
        for table in TABLES {
            let mut rows = self.snapshot.texts(table.on(kind).read);
            while let Some(row) = rows.try_next().await? {
                lines.row(table.name, &row)?;
                written();
            }
        }
        self.snapshot.close().await?;
        let end = lines.finish()?;
        Ok(Exported {
            rows: end.rows,
            sha256: end.sha256,
        })
    }
}

fn header(kind: DatabaseKind, clock: &Clock) -> Header {
    Header {
        format: FORMAT.to_owned(),
        version: VERSION,
        program: env!("CARGO_PKG_VERSION").to_owned(),
        schema: migrations::newest(),
        store: match kind {
            DatabaseKind::Postgres => "postgres",
            DatabaseKind::Sqlite => "sqlite",
        }
        .to_owned(),
        created_at: clock.now().to_string(),
    }
}
