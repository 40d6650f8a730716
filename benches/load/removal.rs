//! What the janitor does with a store's records, at times that a measurement chooses.

use std::{sync::Arc, time::Duration};

use mirrory::{
    app::open_store,
    config::Config,
    store::database::COMMAND_DEADLINE,
    tokens::{KEPT_AFTER_END, KEY_LIFETIME, TokenSettings, Tokens},
    types::{
        clock::{Clock, ManualClock, Timestamp},
        randomness::Randomness,
    },
};

use crate::Outcome;

const DAY: Duration = Duration::from_hours(24);

/// How many rows a statement of the janitor's removes.
const BATCH: i64 = 500;

/// How many keys are removed for each second: as many as come.
const KEYS_A_SECOND: u64 = 1_000;

/// Removes partitions by one clock and keys by another one, both far ahead of the store's.
#[derive(Clone)]
pub struct Removal {
    partitions: Arc<(Tokens, ManualClock)>,
    keys: Arc<(Tokens, ManualClock)>,
    /// How much time the ids of a partition span.
    span: Duration,
}

impl Removal {
    /// For a store whose oldest partition of many begins at `first`.
    pub async fn of(url: &str, first: Timestamp, span: Duration) -> Outcome<Self> {
        let environment = [("DATABASE_URL".to_owned(), url.to_owned())];
        let config = Config::load(None, environment)?;
        let database = open_store(&config.database, COMMAND_DEADLINE).await?;
        let tokens = |hand: ManualClock| {
            let settings = TokenSettings {
                time_to_live: DAY,
                coins: 200,
            };
            let randomness = Randomness::seeded(1);
            let tokens = Tokens::new(database.clone(), settings, hand.clock(), randomness);
            Arc::new((tokens, hand))
        };
        // Now, for the partitions that are needed first.
        let now = Clock::system().now();
        let partitions = tokens(ManualClock::starting_at(now));
        partitions.0.turn_partitions().await?;
        let all_past_but_first = first.after(DAY).after(KEPT_AFTER_END);
        partitions.1.set_wall(all_past_but_first);
        partitions.0.turn_partitions().await?;
        Ok(Self {
            partitions,
            keys: tokens(ManualClock::starting_at(now.after(KEY_LIFETIME))),
            span,
        })
    }

    /// Removes the oldest partition, and as many keys as come in `time`, while `work` is done.
    pub async fn during<T>(
        &self,
        time: Duration,
        work: impl Future<Output = Outcome<T>>,
    ) -> Outcome<T> {
        let removing = async {
            let (tokens, hand) = &*self.partitions;
            hand.advance(self.span);
            let partitions = tokens.turn_partitions().await?;
            let keys = self.remove_keys(time.as_secs() * KEYS_A_SECOND).await?;
            eprintln!("load: partitions removed: {partitions}, keys: {keys}");
            Ok(())
        };
        let (done, removed) = tokio::join!(work, removing);
        removed.and(done)
    }

    /// Removes so many of the oldest keys, or as many as there are.
    pub async fn remove_keys(&self, count: u64) -> Outcome<u64> {
        let mut removed = 0;
        while removed < count {
            let batch = self.keys.0.sweep(BATCH).await?;
            if batch == 0 {
                break;
            }
            removed += batch;
        }
        Ok(removed)
    }
}
