//! Reading a file into a store.

use std::io::{self, BufRead};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use super::{
    format::{Counts, End, FORMAT, Header, Line, LineReader, VERSION, require_storable},
    tables::{self, DATA_KEYS, Table},
};
use crate::{
    keys::vault::MasterKey,
    store::{
        Database, StoreError, affected,
        changes::{self, Actor, Change},
        in_tx, leases, migrations,
    },
    types::{clock::Clock, randomness::Randomness},
};

/// How much one transaction writes: enough that its commit is a small part of it, and far less than
/// its deadline allows.
const ROWS_AT_ONCE: u64 = 2000;
const BYTES_AT_ONCE: usize = 1 << 20;

/// What marks a store that has a part of a file.
const WORK: &str = "import";

const EMPTYING: &str = "to empty a store, end its servers, and drop and create the database, or \
                        move the embedded store's file and its -wal and -shm away";

/// Why a file was not imported, or not all of it. What was written until then stays.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It is something else.
    #[error("this is no export of Mirrory's")]
    NotAnExport,
    /// Its format is newer.
    #[error(
        "the export has version {0} of the format, this program reads up to {VERSION}: upgrade it"
    )]
    NewerFormat(u32),
    /// It may hold what this program does not know.
    #[error("the export is of a store of a newer version of this program: upgrade this one")]
    NewerStore,
    /// A line is not what it should be.
    #[error("line {line} of the export cannot be read: {problem}")]
    BadLine {
        /// Its number, from 1 on.
        line: u64,
        /// What is wrong with it.
        problem: String,
    },
    /// It ends before its last line.
    #[error(
        "the export is incomplete: it ends after line {line}; what it has is imported: import the \
         whole file to go on"
    )]
    Incomplete {
        /// The last whole line.
        line: u64,
    },
    /// It is not what was written.
    #[error(
        "the export was changed since it was written: {0} differ; what was imported from it is not \
         to be relied on: import the right file into an empty store"
    )]
    Changed(&'static str),
    /// Nothing here opens what it has sealed.
    #[error(
        "the master key here is not the one of the store that was exported: its keys would never \
         open; carry that master key over (secrets.master_key, or the file master.key beside an \
         embedded store)"
    )]
    WrongMasterKey,
    /// What the store has sealed and what the export has would not open together.
    #[error(
        "the store has a data key of its own, with which nothing of the export would open: import \
         into an empty store, before a server has run on it; {EMPTYING}"
    )]
    OtherDataKey,
    /// A row is there already, and differs.
    #[error(
        "the store has something else in the place of {key} of {table}: it has changed since, or \
         belongs to another store; nothing was overwritten; {EMPTYING}"
    )]
    Conflict {
        /// The table.
        table: &'static str,
        /// The first column of the key of the row in the file.
        key: String,
    },
    /// The file could not be read.
    #[error("the export could not be read")]
    Input(#[from] io::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What an import came to.
#[derive(Debug, Serialize)]
pub struct Imported {
    /// How many rows of each table the file has.
    pub rows: Counts,
    /// How many of them were not there before.
    pub inserted: u64,
}

/// Writes what a file holds into the store, of whose master key `master_keys` are those that it may
/// be, and tells `reached` after each transaction how many bytes were read.
///
/// # Errors
/// When the file is no whole export, does not go with what the store holds, or the store fails.
pub async fn import(
    database: &Database,
    input: impl BufRead,
    master_keys: &[MasterKey],
    (clock, randomness): (&Clock, &Randomness),
    mut reached: impl FnMut(u64),
) -> Result<Imported, ImportError> {
    let mut lines = LineReader::new(input);
    check_header(lines.next()?)?;
    let mut import = Import {
        database,
        master_keys,
        batch: Batch::default(),
        rows: Counts::new(),
        inserted: 0,
    };
    let end = loop {
        let number = lines.number;
        let Some(line) = lines.next()? else {
            import.flush().await?;
            return Err(ImportError::Incomplete { line: number });
        };
        let bad = |problem: &dyn ToString| ImportError::BadLine {
            line: number + 1,
            problem: problem.to_string(),
        };
        let line: Line<'_> = serde_json::from_slice(line).map_err(|error| bad(&error))?;
        if let Some(row) = line.row {
            require_storable(row.get()).map_err(|problem| bad(&problem))?;
        }
        match (line.table, line.row, line.end) {
            (Some(name), Some(row), None) => {
                let table = tables::named(&name).ok_or_else(|| bad(&"its table is unknown"))?;
                if import.take(table, row.get()).await? {
                    reached(lines.bytes);
                }
            }
            (None, None, Some(end)) => break end,
            _ => return Err(bad(&"it is neither a row nor the end")),
        }
    };
    import.flush().await?;
    check_end(&end, &import.rows, &mut lines)?;
    import.record(clock, randomness).await?;
    Ok(Imported {
        rows: import.rows,
        inserted: import.inserted,
    })
}

/// Whether an import into this store was begun and is not finished. A server would serve a part of
/// what was exported, and make keys and sites in the place of those that are to come.
///
/// # Errors
/// When the store fails.
pub async fn is_unfinished(database: &Database) -> Result<bool, StoreError> {
    leases::is_begun(database, WORK).await
}

fn check_header(line: Option<&[u8]>) -> Result<(), ImportError> {
    /// What every version of the format begins with.
    #[derive(Deserialize)]
    struct Version {
        format: String,
        version: u32,
    }
    let line = line.ok_or(ImportError::NotAnExport)?;
    match serde_json::from_slice::<Version>(line) {
        Ok(Version { format, version }) if format == FORMAT && version > VERSION => {
            return Err(ImportError::NewerFormat(version));
        }
        Ok(Version { format, .. }) if format == FORMAT => {}
        _ => return Err(ImportError::NotAnExport),
    }
    let header: Header = serde_json::from_slice(line).map_err(|_| ImportError::NotAnExport)?;
    if header.schema > migrations::newest() {
        return Err(ImportError::NewerStore);
    }
    Ok(())
}

fn check_end<R: BufRead>(
    end: &End,
    rows: &Counts,
    lines: &mut LineReader<R>,
) -> Result<(), ImportError> {
    if end.sha256 != lines.sum() {
        return Err(ImportError::Changed("its checksum and its content"));
    }
    if end.rows != *rows {
        return Err(ImportError::Changed(
            "the rows that it counts and those that it has",
        ));
    }
    let length = lines.bytes;
    lines.next()?;
    if lines.bytes != length {
        return Err(ImportError::Changed("its end and what comes after"));
    }
    Ok(())
}

/// An import under way.
struct Import<'a> {
    database: &'a Database,
    master_keys: &'a [MasterKey],
    batch: Batch,
    rows: Counts,
    inserted: u64,
}

/// Rows of one table that are not written yet, as a JSON array that lacks its end.
#[derive(Default)]
struct Batch {
    table: Option<&'static Table>,
    rows: String,
    count: u64,
}

impl Batch {
    fn is_full(&self) -> bool {
        self.count >= ROWS_AT_ONCE || self.rows.len() >= BYTES_AT_ONCE
    }

    fn push(&mut self, table: &'static Table, row: &str) {
        self.table = Some(table);
        self.rows.push(if self.count == 0 { '[' } else { ',' });
        self.rows.push_str(row);
        self.count += 1;
    }
}

impl Import<'_> {
    /// Takes a row in; whether rows were written for it.
    async fn take(&mut self, table: &'static Table, row: &str) -> Result<bool, ImportError> {
        let is_other = |known: &Table| known.name != table.name;
        let is_due = self.batch.is_full() || self.batch.table.is_some_and(is_other);
        if is_due {
            self.flush().await?;
        }
        if table.name == DATA_KEYS {
            self.check_data_key(row)?;
        }
        self.batch.push(table, row);
        Ok(is_due)
    }

    /// Writes what was taken in.
    async fn flush(&mut self) -> Result<(), ImportError> {
        let Batch {
            table,
            mut rows,
            count,
        } = std::mem::take(&mut self.batch);
        let Some(table) = table else {
            return Ok(());
        };
        rows.push(']');
        self.inserted += write(self.database, table, &rows, count).await?;
        *self.rows.entry(table.name.to_owned()).or_default() += count;
        Ok(())
    }

    /// Refuses what would be of no use, before anything is written.
    fn check_data_key(&self, row: &str) -> Result<(), ImportError> {
        #[derive(Deserialize)]
        struct DataKeyRow {
            wrapped: String,
        }
        let unwrapped = serde_json::from_str::<DataKeyRow>(row)
            .ok()
            .and_then(|row| HEXLOWER.decode(row.wrapped.as_bytes()).ok())
            .and_then(|wrapped| {
                let mut keys = self.master_keys.iter();
                keys.find_map(|key| key.unwrap(&wrapped).ok())
            });
        unwrapped.map(drop).ok_or(ImportError::WrongMasterKey)
    }

    /// Has instances that run forget all they know, and new ones start.
    async fn record(&self, clock: &Clock, randomness: &Randomness) -> Result<(), ImportError> {
        let change = Change::Imported {
            rows: self.rows.values().sum(),
            inserted: self.inserted,
        };
        let mut tx = self.database.begin().await?;
        let by = Actor::Operator.into();
        changes::record(&mut tx, &by, &change, clock.now(), randomness).await?;
        leases::finish(&mut tx, WORK).await?;
        Ok(tx.commit().await?)
    }
}

/// Writes rows that are not there yet; how many that were. The others must be there as they are.
async fn write(
    database: &Database,
    table: &'static Table,
    rows: &str,
    count: u64,
) -> Result<u64, ImportError> {
    let statements = table.on(database.kind());
    let mut tx = database.begin().await?;
    let written = in_tx!(&mut tx, |connection| affected(
        sqlx::query(statements.write).bind(rows).execute(connection)
    ))?;
    if written < count {
        let missing: Option<(String,)> =
            in_tx!(&mut tx, |connection| sqlx::query_as(statements.missing)
                .bind(rows)
                .fetch_optional(connection))?;
        match missing {
            Some(_) if table.name == DATA_KEYS => return Err(ImportError::OtherDataKey),
            Some((key,)) => {
                let table = table.name;
                return Err(ImportError::Conflict { table, key });
            }
            None => {}
        }
    }
    // A store that had one before is no part of a file, whatever comes into it.
    if table.name == DATA_KEYS && written > 0 {
        leases::begin(&mut tx, WORK).await?;
    }
    tx.commit().await?;
    Ok(written)
}
