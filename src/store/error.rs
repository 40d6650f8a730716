//! What can go wrong between us and the store.

use std::sync::Arc;

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

    /// The store holds what we cannot read.
    pub(crate) fn unreadable(
        cause: impl Into<Box<dyn std::error::Error + Send + Sync + 'static>>,
    ) -> Self {
        Self::Fault(Arc::new(sqlx::Error::Decode(cause.into())))
    }

    /// Whether what was asked may have been done all the same.
    pub(crate) const fn leaves_doubt(&self) -> bool {
        matches!(self, Self::Timeout | Self::Unavailable(_))
    }

    /// Whether the connection that gave this error, and those beside it, may be dead.
    pub(super) const fn casts_doubt(&self) -> bool {
        !matches!(self, Self::Fault(_) | Self::Refused(_) | Self::Overloaded)
    }

    /// Whether the store itself said that it did nothing of what it was asked. What was asked for
    /// many may then be asked again for each: one of them may have been to blame.
    pub(super) fn is_refusal(&self) -> bool {
        match self {
            Self::Fault(_) => true,
            Self::Unavailable(error) => error
                .as_database_error()
                .and_then(sqlx::error::DatabaseError::code)
                .is_some_and(|code| is_rollback_of_postgres(&code)),
            Self::Unreachable(_) | Self::Timeout | Self::Refused(_) | Self::Overloaded => false,
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
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            if error
                .try_downcast_ref::<sqlx::postgres::PgDatabaseError>()
                .is_some()
            {
                is_transient_in_postgres(&code)
            } else {
                is_transient_in_sqlite(&code)
            }
        }),
        _ => false,
    }
}

/// By SQLSTATE class (PostgreSQL's documentation, appendix A): 08 connection, 53 resources,
/// 57 operator intervention, 58 system error; and of class 25 and 40 what a fail-over or a
/// concurrent transaction causes.
fn is_transient_in_postgres(code: &str) -> bool {
    matches!(code.get(..2), Some("08" | "53" | "57" | "58"))
        || matches!(code, "25006" | "55P03")
        || is_rollback_of_postgres(code)
}

/// What a concurrent transaction causes; among it that two waited for each other (40P01).
fn is_rollback_of_postgres(code: &str) -> bool {
    matches!(code, "40001" | "40P01")
}

/// By primary result code: `BUSY`, `LOCKED`, `READONLY`, `IOERR`, `FULL`, `CANTOPEN`.
fn is_transient_in_sqlite(code: &str) -> bool {
    code.parse::<u32>()
        .is_ok_and(|code| matches!(code & 0xff, 5 | 6 | 8 | 10 | 13 | 14))
}
