//! What can go wrong between us and the store.

use std::{borrow::Cow, sync::Arc};

use sqlx::postgres::PgDatabaseError;

use super::{postgres::waited_too_long, servers::Refusal};
use crate::types::store_time::WrongClock;

/// A failed call to the store. Cheap to clone: many calls may fail with one batch.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// Too much waits for the store already: nothing was done.
    #[error("too much waits for the store")]
    Overloaded,
    /// There was no connection to ask on: nothing was done.
    #[error("no connection to the store")]
    Unreachable(#[source] Arc<sqlx::Error>),
    /// No answer in time. A write may or may not have happened.
    #[error("the store did not answer in time")]
    Timeout,
    /// The store does not let us in.
    #[error("the store refused the connection: look at database.url")]
    Refused(#[source] Arc<sqlx::Error>),
    /// The connection was lost, or the store is full, stopping or read-only; it may work again
    /// later. A write may or may not have happened.
    #[error("the store is not available")]
    Unavailable(#[source] Arc<sqlx::Error>),
    /// Our clock is wrong, and the store not asked for what is judged by it.
    #[error("the clock is wrong")]
    WrongClock(#[from] WrongClock),
    /// The store refused what it was asked, or held what we cannot read: a fault of ours.
    #[error("the store refused a statement")]
    Fault(#[source] Arc<sqlx::Error>),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        if is_transient(&error) {
            Self::Unavailable(Arc::new(error))
        } else {
            Self::Fault(Arc::new(error))
        }
    }
}

impl StoreError {
    /// What a failure to get a connection means: a wrong password is a fault, the rest may pass.
    pub(super) fn of_connecting(error: sqlx::Error) -> Self {
        if is_transient(&error) {
            Self::Unreachable(Arc::new(error))
        } else {
            Self::Refused(Arc::new(error))
        }
    }

    /// The same error of what changes nothing, as the beginning of a transaction: nothing was done.
    pub(super) fn with_nothing_done(self) -> Self {
        match self {
            Self::Timeout => Self::of_connecting(sqlx::Error::PoolTimedOut),
            Self::Unavailable(error) => Self::Unreachable(error),
            Self::Fault(error) => Self::Refused(error),
            Self::Overloaded | Self::Unreachable(_) | Self::Refused(_) | Self::WrongClock(_) => {
                self
            }
        }
    }

    /// Why a server of PostgreSQL that answers is not used, if that is what went wrong.
    pub(crate) fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Unreachable(error) => Refusal::of(error),
            _ => None,
        }
    }

    /// The store holds what we cannot read.
    pub(crate) fn unreadable(
        cause: impl Into<Box<dyn std::error::Error + Send + Sync + 'static>>,
    ) -> Self {
        Self::Fault(Arc::new(sqlx::Error::Decode(cause.into())))
    }

    /// Whether the one statement that was asked may have been done all the same: unless the store
    /// answered that it failed, or was not asked.
    pub(crate) fn leaves_doubt(&self) -> bool {
        match self {
            Self::Timeout => true,
            Self::Unavailable(error) | Self::Fault(error) => {
                !Code::of(error).is_some_and(|code| code.is_answer())
            }
            Self::Overloaded | Self::Unreachable(_) | Self::Refused(_) | Self::WrongClock(_) => {
                false
            }
        }
    }

    /// Whether the store said that it takes no writes: it can only be read, or has no room.
    pub(crate) fn is_of_no_writes(&self) -> bool {
        match self {
            Self::Unavailable(error) | Self::Fault(error) => {
                Code::of(error).is_some_and(|code| code.is_of_no_writes())
            }
            _ => false,
        }
    }

    /// Whether a statement was ended because it waited for a lock for too long: nothing was done.
    pub(crate) fn waited_too_long(&self) -> bool {
        matches!(self, Self::Unavailable(error) if waited_too_long(error))
    }

    /// Whether the connection that gave this error, and those beside it, may be dead.
    pub(super) const fn casts_doubt(&self) -> bool {
        !matches!(
            self,
            Self::Fault(_) | Self::Refused(_) | Self::Overloaded | Self::WrongClock(_)
        )
    }

    /// Whether the store answered that it did nothing, for what may be the fault of one of many that
    /// were asked for at once. Each may then be asked for again.
    pub(super) fn is_refusal(&self) -> bool {
        match self {
            Self::Fault(error) => Code::of(error).is_some_and(|code| code.is_answer()),
            Self::Unavailable(error) => Code::of(error).is_some_and(|code| code.is_rollback()),
            Self::Overloaded
            | Self::Unreachable(_)
            | Self::Timeout
            | Self::Refused(_)
            | Self::WrongClock(_) => false,
        }
    }
}

/// A code of an error that the store answered with.
enum Code<'a> {
    Postgres(Cow<'a, str>),
    Sqlite(Cow<'a, str>),
}

impl<'a> Code<'a> {
    fn of(error: &'a sqlx::Error) -> Option<Self> {
        let error = error.as_database_error()?;
        let code = error.code()?;
        let is_of_postgres = error.try_downcast_ref::<PgDatabaseError>().is_some();
        Some(if is_of_postgres {
            Self::Postgres(code)
        } else {
            Self::Sqlite(code)
        })
    }

    fn is_transient(&self) -> bool {
        match self {
            Self::Postgres(code) => is_transient_in_postgres(code),
            Self::Sqlite(code) => is_transient_in_sqlite(code),
        }
    }

    /// PostgreSQL's 25006 (read-only), 53100 (disk full) and 58030 (I/O); SQLite's `READONLY`, `IOERR`,
    /// `CORRUPT`, `FULL`, `CANTOPEN`.
    fn is_of_no_writes(&self) -> bool {
        match self {
            Self::Postgres(code) => matches!(&**code, "25006" | "53100" | "58030"),
            Self::Sqlite(code) => {
                primary(code).is_some_and(|code| matches!(code, 8 | IOERR | 11 | 13 | 14))
            }
        }
    }

    /// Whether a concurrent transaction was to blame. That two waited for each other (40P01) is
    /// found after `deadlock_timeout`, a second if nobody set it: a server's statements end before.
    fn is_rollback(&self) -> bool {
        matches!(self, Self::Postgres(code) if matches!(&**code, "40001" | "40P01"))
    }

    /// Whether the store undid what it was asked. A server that cuts the connection (08, 57P01 to
    /// 57P05) may have committed before, and SQLite may have written what it could not flush.
    fn is_answer(&self) -> bool {
        match self {
            Self::Postgres(code) => !code.starts_with("08") && !code.starts_with("57P0"),
            Self::Sqlite(code) => primary(code) != Some(IOERR),
        }
    }
}

fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed => true,
        sqlx::Error::Database(_) => Code::of(error).is_some_and(|code| code.is_transient()),
        _ => false,
    }
}

/// By SQLSTATE class (PostgreSQL's documentation, appendix A): 08 connection, 53 resources,
/// 57 operator intervention, 58 system error; and of class 25, 40 and 55 what a fail-over, a
/// concurrent transaction or a lock causes.
fn is_transient_in_postgres(code: &str) -> bool {
    matches!(code.get(..2), Some("08" | "53" | "57" | "58"))
        || matches!(code, "25006" | "40001" | "40P01" | "55P03")
}

/// By primary result code: `BUSY`, `LOCKED`, `READONLY`, `IOERR`, `FULL`, `CANTOPEN`.
fn is_transient_in_sqlite(code: &str) -> bool {
    primary(code).is_some_and(|code| matches!(code, 5 | 6 | 8 | IOERR | 13 | 14))
}

const IOERR: u32 = 10;

/// SQLite's primary result code, which is a part of the extended one.
fn primary(code: &str) -> Option<u32> {
    code.parse::<u32>().ok().map(|code| code & 0xff)
}

#[cfg(test)]
pub(super) mod tests;
