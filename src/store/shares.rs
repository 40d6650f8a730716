//! Shares of the connections: what each kind of caller may use, so that none uses up another's.

use std::{ops::Deref, sync::Arc};

use sqlx::Pool;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::futures::TaskLocalFuture,
    task_local,
    time::{Instant, timeout_at},
};

use super::StoreError;

task_local! {
    static SHARE: Share;
}

/// For whom the store is asked. It goes along with the work, as its trace does: both planes ask
/// through the same rooms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Share {
    /// Issuing and validating, and all that names no share.
    #[default]
    Calls,
    /// The management API, and signing in.
    Management,
    /// What takes something back: revoking, releasing, suspending, signing out.
    Urgent,
    /// What the instance itself needs to go on serving.
    Upkeep,
}

impl Share {
    /// Works with this share.
    pub(crate) fn around<F: Future>(self, work: F) -> TaskLocalFuture<Self, F> {
        SHARE.scope(self, work)
    }

    /// The share of the work that asks.
    fn at_work() -> Self {
        SHARE.try_with(|share| *share).unwrap_or_default()
    }
}

/// How many connections of a pool each share has: all that ask for one with it wait for each other,
/// and for nobody else.
#[derive(Debug)]
pub(super) struct Shares {
    calls: Arc<Semaphore>,
    management: Arc<Semaphore>,
    urgent: Arc<Semaphore>,
    upkeep: Arc<Semaphore>,
}

/// A connection's part of a share, which is free again when this is dropped.
pub(crate) type Part = OwnedSemaphorePermit;

impl Shares {
    /// The shares of a pool with so many connections: most are for calls. Of few connections each
    /// share has one at least, and they wait for each other in the pool, one a share and more for
    /// none.
    pub(super) fn of(connections: u32) -> Self {
        let connections = usize::try_from(connections).unwrap_or(usize::MAX);
        // One that waits for the lock of changes, and another.
        let management = if connections < 8 {
            1
        } else {
            (connections / 5).max(2)
        };
        let urgent = (connections / 8).max(1);
        // The keys may be waited for while the log of changes is followed.
        let upkeep = if connections < 16 { 1 } else { 2 };
        let calls = match connections.checked_sub(management + urgent + upkeep) {
            Some(left) if connections >= 8 => left,
            _ => (connections * 5).div_ceil(8),
        };
        Self::with([calls, management, urgent, upkeep])
    }

    /// The shares of the one connection that writes. Its users wait for each other, a few a share:
    /// who takes something back comes after those at most.
    pub(super) fn of_writer() -> Self {
        Self::with([4, 1, 1, 1])
    }

    fn with(sizes: [usize; 4]) -> Self {
        let [calls, management, urgent, upkeep] =
            sizes.map(|connections| Arc::new(Semaphore::new(connections)));
        Self {
            calls,
            management,
            urgent,
            upkeep,
        }
    }

    fn at_work(&self) -> &Arc<Semaphore> {
        match Share::at_work() {
            Share::Calls => &self.calls,
            Share::Management => &self.management,
            Share::Urgent => &self.urgent,
            Share::Upkeep => &self.upkeep,
        }
    }
}

/// A pool whose connections are shared out.
#[derive(Debug)]
pub struct SharedPool<DB: sqlx::Database> {
    pool: Pool<DB>,
    shares: Arc<Shares>,
}

impl<DB: sqlx::Database> SharedPool<DB> {
    /// A pool of several connections.
    pub(super) fn of_many(pool: Pool<DB>) -> Self {
        let shares = Arc::new(Shares::of(pool.options().get_max_connections()));
        Self { pool, shares }
    }

    /// The pool of the one connection that writes.
    pub(super) fn of_writer(pool: Pool<DB>) -> Self {
        let shares = Arc::new(Shares::of_writer());
        Self { pool, shares }
    }

    /// Waits until the share of the work that asks has a connection left.
    pub(super) async fn part(&self, deadline: Instant) -> Result<Part, StoreError> {
        let semaphore = Arc::clone(self.shares.at_work());
        let acquired = timeout_at(deadline, semaphore.acquire_owned()).await;
        let part = acquired.ok().and_then(Result::ok);
        part.ok_or_else(|| StoreError::of_connecting(sqlx::Error::PoolTimedOut))
    }

    /// Whether the share of the work that asks has a connection left.
    pub(super) fn has_parts_left(&self) -> bool {
        self.shares.at_work().available_permits() > 0
    }
}

impl<DB: sqlx::Database> Clone for SharedPool<DB> {
    fn clone(&self) -> Self {
        Self {
            pool: self.pool.clone(),
            shares: Arc::clone(&self.shares),
        }
    }
}

impl<DB: sqlx::Database> Deref for SharedPool<DB> {
    type Target = Pool<DB>;

    fn deref(&self) -> &Pool<DB> {
        &self.pool
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(connections: u32) -> [usize; 4] {
        let shares = Shares::of(connections);
        let Shares {
            calls,
            management,
            urgent,
            upkeep,
        } = shares;
        [calls, management, urgent, upkeep].map(|share| share.available_permits())
    }

    #[test]
    fn each_share_has_a_connection_and_together_they_have_no_more_than_there_are() {
        assert_eq!(sizes(16), [9, 3, 2, 2]);
        for connections in 8..=1000 {
            let sizes = sizes(connections);
            let all: usize = sizes.iter().sum();
            assert_eq!(u32::try_from(all), Ok(connections));
            assert!(sizes[0] * 2 >= all, "{connections}: most are for calls");
        }
    }

    #[test]
    fn of_few_connections_no_share_is_empty() {
        for connections in 1..8 {
            assert!(sizes(connections).iter().all(|size| *size > 0));
        }
        assert_eq!(sizes(1), [1, 1, 1, 1]);
        assert_eq!(sizes(4), [3, 1, 1, 1]);
    }
}
