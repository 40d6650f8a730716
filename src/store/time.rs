//! Asking the store for its time, and having it remember ours.

use super::{
    Database, StoreError, Tx, affected,
    changes::{self, Change, Context},
    in_tx, write,
};
use crate::{
    config::DatabaseKind,
    types::{
        clock::{Clock, Moment, Timestamp},
        randomness::Randomness,
        store_time::{ClockState, MAX_PAUSE},
    },
};

/// Counts, so that it always writes something, and remembers a time that is not too far ahead of what
/// was seen before: the statement itself looks, since a clock may have been set since the last look.
const BEAT: &str = "\
UPDATE store_clock SET beats = beats + 1, \
  seen_at = CASE WHEN $1 > seen_at AND (seen_at = 0 OR $1 <= seen_at + $2) \
    THEN $1 ELSE seen_at END \
WHERE id = 1";

const SEEN: &str = "SELECT seen_at FROM store_clock WHERE id = 1";

const ACCEPT: &str = "UPDATE store_clock SET seen_at = $1 WHERE id = 1";

/// Why the present time cannot be accepted.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// There is another clock.
    #[error(
        "PostgreSQL has a clock of its own, which all go by: set this machine's and the server's by \
         NTP; there is nothing to accept"
    )]
    HasItsOwn,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Database {
    /// Looks how the clock compares with the store's time, and notes it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn check_clock(&self, clock: &Clock) -> Result<(), StoreError> {
        let began = clock.moment();
        let (_, told) = changes::end_and_time(self).await?;
        self.note_time(clock, began, told);
        Ok(())
    }

    /// Lets a command go on whose clock is right, or may be. Nothing is noted, and told but once.
    ///
    /// # Errors
    /// When the clock is wrong, or the store fails.
    pub(crate) async fn refuse_wrong_clock(&self, clock: &Clock) -> Result<(), StoreError> {
        let began = clock.moment();
        let (_, told) = changes::end_and_time(self).await?;
        match self.compare(clock, began, clock.moment(), told) {
            ClockState::Wrong(wrong) => Err(wrong.into()),
            ClockState::Right | ClockState::Ahead { .. } => Ok(()),
        }
    }

    /// Notes what the store told of its time when it was asked since `began`: what its clock says, or
    /// the greatest time that it has seen.
    pub(super) fn note_time(&self, clock: &Clock, began: Moment, told: Timestamp) {
        let now = clock.moment();
        let state = self.compare(clock, began, now, told);
        self.time().note(clock, now, state);
    }

    fn compare(&self, clock: &Clock, began: Moment, now: Moment, told: Timestamp) -> ClockState {
        match self.kind() {
            DatabaseKind::Postgres => {
                // By the monotonic clock: the other may have been set meanwhile.
                let began = now.wall.before(now.monotonic.since(began.monotonic));
                ClockState::beside(clock.store_time(told), began, now.wall)
            }
            DatabaseKind::Sqlite => ClockState::since(seen(told), self.least_time(), now.wall),
        }
    }

    /// Lets pass what is judged by a moment.
    ///
    /// # Errors
    /// When the clock is wrong.
    pub(crate) fn require_right_clock(
        &self,
        clock: &Clock,
        moment: Moment,
    ) -> Result<(), StoreError> {
        Ok(self.time().require_at(clock, moment)?)
    }

    /// Writes to the store, which shows that it can be written. The embedded one remembers the time
    /// by it.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn beat(&self, clock: &Clock) -> Result<(), StoreError> {
        let is_remembered = self.kind() == DatabaseKind::Sqlite && self.time().is_trusted();
        let now = if is_remembered {
            clock.now()
        } else {
            Timestamp::from_micros(0)
        };
        write!(self, |connection| affected(
            sqlx::query(BEAT)
                .bind(now)
                .bind(MAX_PAUSE_MICROS)
                .execute(connection)
        ))?;
        Ok(())
    }
}

const MAX_PAUSE_MICROS: i64 = MAX_PAUSE.as_secs().cast_signed() * 1_000_000;

/// What the embedded store has seen, if it has seen any time.
pub(crate) fn seen(told: Timestamp) -> Option<Timestamp> {
    (told.as_micros() > 0).then_some(told)
}

/// Has the embedded store take the present time for the greatest that there was: what it has seen
/// after it was wrong, and what lies between is no pause.
///
/// # Errors
/// With PostgreSQL, and when the store fails.
pub async fn accept(
    tx: &mut Tx,
    by: &Context,
    now: Timestamp,
    randomness: &Randomness,
) -> Result<(), AcceptError> {
    if tx.kind() == DatabaseKind::Postgres {
        return Err(AcceptError::HasItsOwn);
    }
    let (before,): (Timestamp,) =
        in_tx!(tx, |connection| sqlx::query_as(SEEN).fetch_one(connection))?;
    in_tx!(tx, |connection| affected(
        sqlx::query(ACCEPT).bind(now).execute(connection)
    ))?;
    let change = Change::ClockAccepted {
        seen: seen(before),
        now,
    };
    changes::record(tx, by, &change, now, randomness).await?;
    Ok(())
}
