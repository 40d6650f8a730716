use std::{error::Error, fmt};

use sqlx::error::{DatabaseError, ErrorKind};

use super::*;

/// What SQLite answers; an answer of PostgreSQL's cannot be made without a server.
#[derive(Debug)]
struct Answered(&'static str);

impl fmt::Display for Answered {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0)
    }
}

impl Error for Answered {}

impl DatabaseError for Answered {
    fn message(&self) -> &str {
        self.0
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        Some(self.0.into())
    }

    fn as_error(&self) -> &(dyn Error + Send + Sync + 'static) {
        self
    }

    fn as_error_mut(&mut self) -> &mut (dyn Error + Send + Sync + 'static) {
        self
    }

    fn into_error(self: Box<Self>) -> Box<dyn Error + Send + Sync + 'static> {
        self
    }

    fn kind(&self) -> ErrorKind {
        ErrorKind::Other
    }
}

/// What SQLite answers to a row that is there already.
pub(in crate::store) fn refusal() -> StoreError {
    answered("1555")
}

fn answered(code: &'static str) -> StoreError {
    StoreError::from(sqlx::Error::database(Answered(code)))
}

#[test]
fn only_what_the_store_answered_leaves_no_doubt() {
    // BUSY, FULL, a unique violation.
    for code in ["5", "13", "1555"] {
        assert!(!answered(code).leaves_doubt(), "{code}");
    }
    // IOERR_FSYNC.
    assert!(answered("1034").leaves_doubt());
    for lost in [sqlx::Error::WorkerCrashed, sqlx::Error::PoolTimedOut] {
        assert!(StoreError::from(lost).leaves_doubt());
    }
    assert!(StoreError::Timeout.leaves_doubt());
    assert!(StoreError::unreadable("on purpose").leaves_doubt());
    assert!(!StoreError::Overloaded.leaves_doubt());
    assert!(!StoreError::of_connecting(sqlx::Error::PoolTimedOut).leaves_doubt());
}

#[test]
fn what_was_answered_and_could_not_be_read_is_no_refusal() {
    assert!(refusal().is_refusal());
    assert!(!StoreError::unreadable("on purpose").is_refusal());
    assert!(!answered("5").is_refusal());
}

#[test]
fn a_server_that_cuts_the_connection_leaves_doubt() {
    for code in ["57014", "40P01", "40001", "55P03", "53100", "23505"] {
        assert!(Code::Postgres(code.into()).is_answer(), "{code}");
    }
    for code in ["08006", "57P01", "57P02", "57P03", "57P05"] {
        assert!(!Code::Postgres(code.into()).is_answer(), "{code}");
    }
}
