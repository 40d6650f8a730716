//! The follower: reads the change log and tells those who keep something in memory.

use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use tokio::sync::Mutex;

use super::{
    Database, Share, StoreError,
    changes::{self, End, SeenChange},
    freshness::Freshness,
};
use crate::types::clock::Clock;

/// How often the log is read.
pub const POLL_INTERVAL: Duration = Duration::from_millis(250);

const BATCH: i64 = 1000;

/// What a [`Follows`] does when it is told something.
pub type Following<'a> = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send + 'a>>;

/// Something that keeps a part of the store in memory.
pub trait Follows: Send + Sync {
    /// Takes in what was changed; nothing in memory may contradict it afterwards.
    fn apply<'a>(&'a self, changes: &'a [SeenChange]) -> Following<'a>;

    /// Forgets or reads again everything, since changes may have been missed.
    fn reset(&self) -> Following<'_>;
}

/// All that keep a part of the store in memory.
pub(super) struct Followers(Vec<Arc<dyn Follows>>);

impl Followers {
    /// Tells each of them, also when one before it fails.
    pub(super) async fn apply(&self, changes: &[SeenChange]) -> Result<(), StoreError> {
        if changes.iter().any(SeenChange::is_of_everything) {
            return self.reset().await;
        }
        let mut outcome = Ok(());
        for follower in &self.0 {
            outcome = outcome.and(follower.apply(changes).await);
        }
        outcome
    }

    async fn reset(&self) -> Result<(), StoreError> {
        for follower in &self.0 {
            follower.reset().await?;
        }
        Ok(())
    }
}

impl fmt::Debug for Followers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Followers")
    }
}

/// Reads the change log to its end, again and again.
pub struct Follower {
    database: Database,
    clock: Clock,
    freshness: Freshness,
    followers: Arc<Followers>,
    read_to: Mutex<Option<End>>,
}

impl Follower {
    /// A follower that has read nothing yet. What it tells is also told at once of each change that
    /// is made through `database`.
    #[must_use]
    pub fn new(
        database: Database,
        clock: Clock,
        freshness: Freshness,
        followers: Vec<Arc<dyn Follows>>,
    ) -> Self {
        let followers = Arc::new(Followers(followers));
        database.followed_by(&followers);
        Self {
            database,
            clock,
            freshness,
            followers,
            read_to: Mutex::new(None),
        }
    }

    /// Reads what is new, passes it on, and extends the [`Freshness`] from the moment it began. The
    /// store's time comes along, which the clock is held against.
    ///
    /// # Errors
    /// When the store fails; what is in memory then grows stale, and is not used.
    pub async fn tick(&self) -> Result<(), StoreError> {
        // Whatever is in memory rests on it.
        Share::Upkeep.around(self.follow()).await
    }

    async fn follow(&self) -> Result<(), StoreError> {
        let mut read_to = self.read_to.lock().await;
        let began = self.clock.moment();
        let (end, time) = changes::end_and_time(&self.database).await?;
        self.database.note_time(&self.clock, began, time);
        while *read_to != Some(end) {
            *read_to = Some(self.step(*read_to, end).await?);
        }
        self.freshness.extend_from(began.monotonic);
        Ok(())
    }

    /// Takes in one batch of changes, and says how far it came. A gap, or a log that ends before
    /// what was read (the store was restored from a back-up), means that changes were missed; and
    /// another server (a fail-over) may lack more than changes, as a binding that is in memory.
    async fn step(&self, read_to: Option<End>, end: End) -> Result<End, StoreError> {
        if let Some(read_to) = read_to
            && read_to.server == end.server
            && read_to.seq < end.seq
        {
            let mut batch = changes::after(&self.database, read_to.seq, BATCH).await?;
            batch.retain(|change| change.seq <= end.seq);
            if let Some(last) = batch
                .last()
                .filter(|last| is_whole(&batch, read_to.seq, last.seq))
            {
                self.followers.apply(&batch).await?;
                return Ok(End {
                    seq: last.seq,
                    ..end
                });
            }
        }
        self.followers.reset().await?;
        Ok(end)
    }
}

/// Whether `batch`, which is in order, holds every number after `read_to` up to `last`.
fn is_whole(batch: &[SeenChange], read_to: i64, last: i64) -> bool {
    i64::try_from(batch.len()).is_ok_and(|length| last - read_to == length)
}
