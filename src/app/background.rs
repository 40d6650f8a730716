//! What goes on beside the requests: following the change log, writing counts, cleaning up.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;
use prometheus::IntCounter;
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
    time::MissedTickBehavior,
};

use crate::{
    audit::Tally,
    error::Chain,
    janitor::Janitor,
    quota::Ledger,
    state::AppState,
    store::{
        Database, StoreError,
        follower::{Follower, POLL_INTERVAL},
        freshness::Freshness,
        listener::{Listener, TRUSTED_SILENCE},
    },
    telemetry::metrics::Metrics,
    tokens::Tokens,
    types::clock::Clock,
};

const CHOICE_INTERVAL: Duration = Duration::from_millis(250);
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);
const JANITOR_INTERVAL: Duration = Duration::from_mins(1);
const BEAT_INTERVAL: Duration = Duration::from_secs(5);

/// The work in the background, each piece a `tick` that tests call by hand.
#[derive(Clone)]
pub struct Background {
    /// Follows the change log.
    pub follower: Arc<Follower>,
    /// Removes what is past its use.
    pub janitor: Arc<Janitor>,
    /// How often the change log is read when nothing is heard of it.
    pub poll_interval: Duration,
    ledger: Ledger,
    /// Writes what strangers caused.
    pub tally: Tally,
    tokens: Tokens,
    database: Database,
    clock: Clock,
    metrics: Metrics,
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
                Arc::new(state.sites.clone()),
                Arc::new(state.tokens.clone()),
                Arc::new(state.keys.clone()),
                Arc::new(state.ledger.clone()),
            ],
        );
        Self {
            follower: Arc::new(follower),
            janitor: Arc::new(Janitor::new(state)),
            poll_interval: POLL_INTERVAL,
            ledger: state.ledger.clone(),
            tally: state.tally.clone(),
            tokens: state.tokens.clone(),
            database: state.database.clone(),
            clock: state.clock.clone(),
            metrics: state.metrics.clone(),
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
            poll_interval,
            ledger,
            tally,
            database,
            clock,
            tokens,
            metrics,
        } = self.clone();
        let grown = Arc::new(Notify::new());
        if let Some(listener) = Listener::new(&database, TRUSTED_SILENCE) {
            let listener = listener.measured_by(&metrics);
            tasks.spawn(listen(stopped.clone(), listener, Arc::clone(&grown)));
        }
        let beat = Work::every(BEAT_INTERVAL, "try to write", &metrics);
        let beaten = database.clone();
        tasks.spawn(repeat(stopped.clone(), beat, move || {
            let (database, clock) = (beaten.clone(), clock.clone());
            async move { database.beat(&clock).await }
        }));
        let choose = Work::every(CHOICE_INTERVAL, "find a server that takes writes", &metrics);
        tasks.spawn(repeat(stopped.clone(), choose, move || {
            let database = database.clone();
            async move { database.choose_server().await }
        }));
        let follow = Work {
            sooner: grown,
            ..Work::every(poll_interval, "follow the change log", &metrics)
        };
        tasks.spawn(repeat(stopped.clone(), follow, move || {
            let follower = Arc::clone(&follower);
            async move { follower.tick().await }
        }));
        let count = Work::every(FLUSH_INTERVAL, "write the usage counts", &metrics);
        tasks.spawn(repeat(stopped.clone(), count, move || {
            let ledger = ledger.clone();
            async move { ledger.flush().await }
        }));
        let touch = Work::every(FLUSH_INTERVAL, "write the last uses", &metrics);
        tasks.spawn(repeat(stopped.clone(), touch, move || {
            let tokens = tokens.clone();
            async move { tokens.flush_uses().await }
        }));
        let audit = Work::every(FLUSH_INTERVAL, "write the audit log", &metrics);
        tasks.spawn(repeat(stopped.clone(), audit, move || {
            let tally = tally.clone();
            async move { tally.flush().await }
        }));
        let clean_up = Work::every(JANITOR_INTERVAL, "clean up", &metrics);
        let leaving = stopped.clone();
        tasks.spawn(repeat(stopped, clean_up, move || {
            let janitor = Arc::clone(&janitor);
            let mut stopped = leaving.clone();
            // A round may take minutes, and another instance goes on where it was cut off.
            async move {
                tokio::select! {
                    _ = stopped.changed() => Ok(()),
                    cleaned = janitor.tick() => cleaned,
                }
            }
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

/// Work that is done again and again.
struct Work {
    name: &'static str,
    interval: Duration,
    /// Does not wait for the interval to be over.
    sooner: Arc<Notify>,
    failures: Option<IntCounter>,
}

impl Work {
    fn every(interval: Duration, name: &'static str, metrics: &Metrics) -> Self {
        Self {
            name,
            interval,
            sooner: Arc::default(),
            failures: metrics.failures_of(name),
        }
    }
}

/// Says when the change log has grown. In no place is it relied upon: the log is read anyway.
async fn listen(mut stopped: watch::Receiver<()>, listener: Listener, grown: Arc<Notify>) {
    let listening = async {
        // A panic must not end it for good.
        loop {
            let run = AssertUnwindSafe(listener.run(|| grown.notify_one()));
            let _panicked = run.catch_unwind().await;
        }
    };
    tokio::select! {
        _ = stopped.changed() => {}
        () = listening => {}
    }
}

/// Does something again and again. Of failures that follow each other, only the first is logged,
/// and that they are over.
async fn repeat<F>(mut stopped: watch::Receiver<()>, work: Work, mut tick: impl FnMut() -> F)
where
    F: Future<Output = Result<(), StoreError>>,
{
    let Work {
        name: work,
        interval,
        sooner,
        failures,
    } = work;
    let mut interval = tokio::time::interval(interval);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_failing = false;
    loop {
        tokio::select! {
            _ = stopped.changed() => return,
            _ = interval.tick() => {}
            () = sooner.notified() => {}
        }
        // A panic must not end the work for good: it is begun anew the next time.
        let ticked = AssertUnwindSafe(tick()).catch_unwind().await;
        if let Some(failures) = &failures
            && !matches!(ticked, Ok(Ok(())))
        {
            failures.inc();
        }
        let Ok(ticked) = ticked else {
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
        let work = Work::every(Duration::from_millis(1), "test", &Metrics::default());
        repeat(stopped, work, tick).await;
        assert!(rounds >= 2);
    }
    #[tokio::test]
    async fn work_that_is_wanted_sooner_is_not_waited_for() {
        let (stop, stopped) = watch::channel(());
        let mut stop = Some(stop);
        let work = Work::every(Duration::from_hours(1), "test", &Metrics::default());
        let sooner = Arc::clone(&work.sooner);
        let mut rounds = 0;
        let tick = || {
            rounds += 1;
            if rounds == 3 {
                stop = None;
            }
            // Also what is asked for meanwhile.
            sooner.notify_one();
            async { Ok(()) }
        };
        let repeating = repeat(stopped, work, tick);
        tokio::time::timeout(Duration::from_secs(30), repeating)
            .await
            .expect("it does not wait for the interval");
    }
}
