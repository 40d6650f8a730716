//! What goes on beside the requests: following the change log, writing counts, cleaning up.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::{sync::watch, task::JoinSet, time::MissedTickBehavior};

use crate::{
    error::Chain,
    janitor::Janitor,
    quota::Ledger,
    state::AppState,
    store::{
        StoreError,
        follower::{Follower, POLL_INTERVAL},
        freshness::Freshness,
    },
    tokens::Tokens,
};

const FLUSH_INTERVAL: Duration = Duration::from_secs(1);
const JANITOR_INTERVAL: Duration = Duration::from_mins(1);

/// The work in the background, each piece a `tick` that tests call by hand.
#[derive(Clone)]
pub struct Background {
    /// Follows the change log.
    pub follower: Arc<Follower>,
    /// Removes what is past its use.
    pub janitor: Arc<Janitor>,
    ledger: Ledger,
    tokens: Tokens,
}

impl Background {
    /// The background of an instance; nothing runs yet.
    #[must_use]
    pub fn new(state: &AppState, freshness: Freshness) -> Self {
        let follower = Follower::new(
            state.database.clone(),
            state.clock.clone(),
            freshness,
            vec![
                Arc::new(state.keys.clone()),
                Arc::new(state.sites.clone()),
                Arc::new(state.tokens.clone()),
            ],
        );
        Self {
            follower: Arc::new(follower),
            janitor: Arc::new(Janitor::new(state)),
            ledger: state.ledger.clone(),
            tokens: state.tokens.clone(),
        }
    }

    /// Starts everything.
    #[must_use]
    pub fn spawn(&self) -> Running {
        let (stop, stopped) = watch::channel(());
        let mut tasks = JoinSet::new();
        let Self {
            follower,
            janitor,
            ledger,
            tokens,
        } = self.clone();
        tasks.spawn(repeat(
            stopped.clone(),
            POLL_INTERVAL,
            "follow the change log",
            move || {
                let follower = Arc::clone(&follower);
                async move { follower.tick().await }
            },
        ));
        tasks.spawn(repeat(
            stopped.clone(),
            FLUSH_INTERVAL,
            "write the usage counts",
            move || {
                let ledger = ledger.clone();
                async move { ledger.flush().await }
            },
        ));
        tasks.spawn(repeat(
            stopped.clone(),
            FLUSH_INTERVAL,
            "write the last uses",
            move || {
                let tokens = tokens.clone();
                async move { tokens.flush_uses().await }
            },
        ));
        tasks.spawn(repeat(stopped, JANITOR_INTERVAL, "clean up", move || {
            let janitor = Arc::clone(&janitor);
            async move { janitor.tick().await }
        }));
        Running { stop, tasks }
    }
}

/// The work in the background while it runs. Dropped, it is cut off where it is.
#[derive(Debug)]
pub struct Running {
    stop: watch::Sender<()>,
    tasks: JoinSet<()>,
}

impl Running {
    /// Lets each piece finish what it has begun, and begins no more.
    pub async fn stop(self) {
        drop(self.stop);
        self.tasks.join_all().await;
    }
}

/// Does something again and again. Of failures that follow each other, only the first is logged,
/// and that they are over.
async fn repeat<F>(
    mut stopped: watch::Receiver<()>,
    interval: Duration,
    work: &'static str,
    mut tick: impl FnMut() -> F,
) where
    F: Future<Output = Result<(), StoreError>>,
{
    let mut interval = tokio::time::interval(interval);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_failing = false;
    loop {
        tokio::select! {
            _ = stopped.changed() => return,
            _ = interval.tick() => {}
        }
        // A panic must not end the work for good: it is begun anew the next time.
        let Ok(ticked) = AssertUnwindSafe(tick()).catch_unwind().await else {
            continue;
        };
        match ticked {
            Ok(()) if is_failing => {
                is_failing = false;
                tracing::info!(work, "background work is well again");
            }
            Err(error) if !is_failing => {
                is_failing = true;
                tracing::warn!(work, error = %Chain(&error), "background work fails");
            }
            Ok(()) | Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_that_panicked_is_done_again_the_next_time() {
        let (stop, stopped) = watch::channel(());
        let mut stop = Some(stop);
        let mut rounds = 0;
        let tick = || {
            rounds += 1;
            if rounds == 2 {
                stop = None;
            }
            let is_first = rounds == 1;
            async move {
                assert!(!is_first, "on purpose");
                Ok(())
            }
        };
        repeat(stopped, Duration::from_millis(1), "test", tick).await;
        assert!(rounds >= 2);
    }
}
