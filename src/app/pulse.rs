//! Time in whole seconds, told to whoever is served for the price of a load.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::time::{MissedTickBehavior, interval};

/// Seconds of a server's life. To read the clock for each request would cost each of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Pulse(Arc<AtomicU32>);

impl Pulse {
    pub(super) fn now(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn beat(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Beats once a second, also for those that it missed, and never ends.
    pub(super) async fn keep_beating(&self) {
        let mut seconds = interval(Duration::from_secs(1));
        seconds.set_missed_tick_behavior(MissedTickBehavior::Burst);
        loop {
            seconds.tick().await;
            self.beat();
        }
    }
}
