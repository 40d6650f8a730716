//! What can go wrong between us and the store.

/// A failed call to the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There was no connection to ask on: nothing was done.
    #[error("no connection to the store")]
    Unreachable(#[source] sqlx::Error),
    /// No answer in time. A write may or may not have happened.
    #[error("the store did not answer in time")]
    Timeout,
    /// The store does not let us in.
    #[error("the store refused the connection: look at database.url")]
    Refused(#[source] sqlx::Error),
    /// The connection was lost, or the store is full, stopping or read-only; it may work again
    /// later. A write may or may not have happened.
    #[error("the store is not available")]
    Unavailable(#[source] sqlx::Error),
    /// The store refused what it was asked, or held what we cannot read: a fault of ours.
    #[error("the store refused a statement")]
    Fault(#[source] sqlx::Error),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        if is_transient(&error) {
            Self::Unavailable(error)
        } else {
            Self::Fault(error)
        }
    }
}

impl StoreError {
    /// What a failure to get a connection means: a wrong password is a fault, the rest may pass.
    pub(super) fn of_connecting(error: sqlx::Error) -> Self {
        if is_transient(&error) {
            Self::Unreachable(error)
        } else {
            Self::Refused(error)
        }
    }

    /// Whether what was asked may have been done all the same.
    pub(crate) const fn leaves_doubt(&self) -> bool {
        matches!(self, Self::Timeout | Self::Unavailable(_))
    }

    /// Whether the connection that gave this error, and those beside it, may be dead.
    pub(super) const fn casts_doubt(&self) -> bool {
        !matches!(self, Self::Fault(_) | Self::Refused(_))
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
        || matches!(code, "25006" | "40001" | "40P01" | "55P03")
}

/// By primary result code: `BUSY`, `LOCKED`, `READONLY`, `IOERR`, `FULL`, `CANTOPEN`.
fn is_transient_in_sqlite(code: &str) -> bool {
    code.parse::<u32>()
        .is_ok_and(|code| matches!(code & 0xff, 5 | 6 | 8 | 10 | 13 | 14))
}
