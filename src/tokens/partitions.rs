//! When PostgreSQL gets new partitions for its records, and loses old ones.
//!
//! A record belongs to the partition of the time in which its id was made. One that is past its use
//! goes as a whole, and leaves nothing behind that would have to be cleaned up. What lies in a
//! partition that new ids still go to is removed row by row.

use std::time::Duration;

use super::{
    registry::KEPT_AFTER_END,
    store::{Partition, TokenStore},
};
use crate::{store::StoreError, types::clock::Timestamp};

const WEEK: Duration = Duration::from_hours(7 * 24);

/// How far ahead there are partitions: as long as that, nobody needs to make any.
const AHEAD: Duration = WEEK.saturating_mul(4);

/// Over how many partitions the records spread at most, if one spans more than a week: a statement
/// looks at all of them before it knows which ones it needs.
const SPREAD: u32 = 8;

/// How many partitions with records go in a round, at most. Week after week it is one.
const AT_ONCE: usize = 2;

/// How long after its end a partition still gets new ids: longer than clocks differ.
const STRAGGLERS: Duration = Duration::from_hours(1);

/// Makes the partitions that are missing and removes those of which no record ended within the time
/// for which records are kept; how many these were. Other instances' calls are not held up: where
/// something holds the tables, both wait for the next time.
pub(super) async fn turn(
    store: &TokenStore,
    now: Timestamp,
    time_to_live: Duration,
) -> Result<u64, StoreError> {
    let mut removed = 0;
    match turn_now(store, now, time_to_live, &mut removed).await {
        Err(error) if error.waited_too_long() => {
            tracing::info!("partitions wait for something that holds the tables, as a back-up");
        }
        outcome => outcome?,
    }
    Ok(removed)
}

async fn turn_now(
    store: &TokenStore,
    now: Timestamp,
    time_to_live: Duration,
    removed: &mut u64,
) -> Result<(), StoreError> {
    let partitions = store.partitions().await?;
    let Some(mut end) = partitions
        .iter()
        .filter_map(|partition| partition.end)
        .max()
    else {
        return Ok(());
    };
    while end < now.after(AHEAD) {
        let next = next_end(end, now, time_to_live);
        store.add_partition(end, next).await?;
        end = next;
    }
    let cutoff = now.before(KEPT_AFTER_END);
    let mut gone = Vec::new();
    for partition in partitions.iter().filter(|it| has_ended(it, now)) {
        if gone.len() == AT_ONCE {
            break;
        }
        if store.remove_partition(partition, cutoff).await? {
            *removed += 1;
            gone.extend((partition.bytes > 0).then_some(partition.bytes));
        }
    }
    if is_much(&gone, &partitions) {
        tracing::warn!(
            partitions = gone.len(),
            "the clean-up removes more than a tenth of the tokens' records at once"
        );
    }
    Ok(())
}

/// Whether more than a tenth of the records went. A single partition may well be more: there are few,
/// and the oldest goes in its turn.
fn is_much(gone: &[i64], partitions: &[Partition]) -> bool {
    let all: i64 = partitions.iter().map(|partition| partition.bytes).sum();
    gone.len() > 1 && gone.iter().sum::<i64>().saturating_mul(10) > all
}

/// From when on the ids of records are that are removed row by row.
pub(super) async fn swept_from(
    store: &TokenStore,
    now: Timestamp,
) -> Result<Timestamp, StoreError> {
    let partitions = store.partitions().await?;
    let ended = partitions.iter().filter(|it| has_ended(it, now));
    let end = ended.filter_map(|partition| partition.end).max();
    Ok(end.unwrap_or(Timestamp::from_micros(0)))
}

fn has_ended(partition: &Partition, now: Timestamp) -> bool {
    partition
        .end
        .is_some_and(|end| end.after(STRAGGLERS) <= now)
}

/// Where the partition ends that begins at `begin`. After a pause it spans all of that, too.
fn next_end(begin: Timestamp, now: Timestamp, time_to_live: Duration) -> Timestamp {
    let weeks = (time_to_live + KEPT_AFTER_END).as_secs() / u64::from(SPREAD) / WEEK.as_secs();
    let span = WEEK * u32::try_from(weeks).unwrap_or(u32::MAX).max(1);
    let end = begin.max(now).after(span).as_seconds();
    Timestamp::from_seconds(end - end.rem_euclid(WEEK.as_secs().cast_signed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weeks(weeks: u32) -> Timestamp {
        Timestamp::from_micros(0).after(WEEK * weeks)
    }

    const DAY: Duration = Duration::from_hours(24);

    #[test]
    fn a_partition_spans_a_week_from_where_the_last_one_ends() {
        assert_eq!(next_end(weeks(7), weeks(4), DAY), weeks(8));
        assert_eq!(next_end(weeks(7), weeks(7).before(DAY), DAY), weeks(8));
    }

    #[test]
    fn after_a_pause_it_spans_that_too() {
        assert_eq!(next_end(weeks(7), weeks(20), DAY), weeks(21));
        assert_eq!(next_end(weeks(7), weeks(20).after(DAY), DAY), weeks(21));
    }

    #[test]
    fn tokens_that_live_for_years_spread_over_no_more_partitions() {
        let years = 3650 * DAY;
        let end = next_end(weeks(7), weeks(7), years);
        assert_eq!(end, weeks(7 + 65));
        assert!(WEEK * 65 * (SPREAD + 1) > years + KEPT_AFTER_END);
    }
}
