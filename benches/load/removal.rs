//! What the janitor does with a store's records, at times that a measurement chooses.

use std::{sync::Arc, time::Duration};

use mirrory::{
    app::open_store,
    config::Config,
    janitor::{BATCH, PAUSE},
    store::database::COMMAND_DEADLINE,
    tokens::{KEPT_AFTER_END, KEY_LIFETIME, TokenSettings, Tokens},
    types::{
        clock::{Clock, ManualClock, Timestamp},
        randomness::Randomness,
    },
};
use tokio::time::{Instant, sleep};

use crate::Outcome;

const DAY: Duration = Duration::from_hours(24);

/// Removes partitions by one clock and keys by another one, both far ahead of the store's.
#[derive(Clone)]
pub struct Removal {
    partitions: Option<Arc<(Tokens, ManualClock)>>,
    keys: Tokens,
    /// How much time the ids of a partition span.
    span: Duration,
}

impl Removal {
    /// For a store whose oldest partition of many begins at `first`.
    pub async fn of(url: &str, first: Timestamp, span: Duration) -> Outcome<Self> {
        let environment = [("DATABASE_URL".to_owned(), url.to_owned())];
        let config = Config::load(None, environment)?;
        let database = open_store(&config.database, COMMAND_DEADLINE).await?;
        let tokens = |hand: &ManualClock| {
            let settings = TokenSettings {
                time_to_live: DAY,
                coins: 200,
            };
            let randomness = Randomness::seeded(1);
            Tokens::new(database.clone(), settings, hand.clock(), randomness)
        };
        // Now, for the partitions that are needed first.
        let now = Clock::system().now();
        let hand = ManualClock::starting_at(now);
        let partitions = tokens(&hand);
        partitions.turn_partitions().await?;
        let all_past_but_first = first.after(DAY).after(KEPT_AFTER_END);
        hand.set_wall(all_past_but_first);
        partitions.turn_partitions().await?;
        Ok(Self {
            partitions: Some(Arc::new((partitions, hand))),
            keys: tokens(&ManualClock::starting_at(now.after(KEY_LIFETIME))),
            span,
        })
    }

    /// The same but for the partitions.
    pub fn of_keys(&self) -> Self {
        Self {
            partitions: None,
            ..self.clone()
        }
    }

    /// Removes the oldest partition, and then keys as fast as the janitor does for so long, while
    /// `work` is done.
    pub async fn during<T>(
        &self,
        time: Duration,
        work: impl Future<Output = Outcome<T>>,
    ) -> Outcome<T> {
        let removing = async {
            let end = Instant::now() + time;
            let mut partitions = 0;
            if let Some((tokens, hand)) = self.partitions.as_deref() {
                hand.advance(self.span);
                partitions = tokens.turn_partitions().await?;
            }
            let mut keys = 0;
            while Instant::now() < end {
                keys += self.keys.sweep_keys(BATCH).await?;
                sleep(PAUSE).await;
            }
            eprintln!("load: partitions removed: {partitions}, keys: {keys}");
            Ok(())
        };
        let (done, removed) = tokio::join!(work, removing);
        removed.and(done)
    }

    /// Removes so many of the oldest keys at once, or as many as there are.
    pub async fn remove_keys(&self, count: u64) -> Outcome<()> {
        let mut removed = 0;
        while removed < count {
            let batch = self.keys.sweep_keys(BATCH).await?;
            if batch == 0 {
                break;
            }
            removed += batch;
        }
        Ok(())
    }
}
