//! Telling the store what it does not know yet, of many sites at once.

use std::{slice, sync::Arc};

use super::{
    account::Account,
    store::QuotaStore,
    tally::{Moved, Tally},
};
use crate::{store::StoreError, types::ids::SiteId};

/// How many sites are told of in one statement.
const BATCH: usize = 500;

/// What is to be told of a site.
pub(super) struct Report {
    pub(super) account: Arc<Account>,
    pub(super) tally: Tally,
}

impl Report {
    pub(super) fn site_id(&self) -> SiteId {
        self.account.site_id()
    }
}

/// Tells the store all that these accounts know and it does not. What could not be told is kept for
/// the next time; of what is in doubt the counts alone.
pub(super) async fn settle(
    store: &QuotaStore,
    accounts: &[Arc<Account>],
) -> Result<(), StoreError> {
    for batch in accounts.chunks(BATCH) {
        let mut outcome = Ok(());
        for round in rounds(batch) {
            if outcome.is_ok() {
                outcome = tell(store, round).await;
            } else {
                keep(round);
            }
        }
        outcome?;
    }
    Ok(())
}

/// Settles one account.
pub(super) async fn settle_one(
    store: &QuotaStore,
    account: &Arc<Account>,
) -> Result<(), StoreError> {
    settle(store, slice::from_ref(account)).await
}

/// A site has one report in each round: a statement changes no row twice.
fn rounds(accounts: &[Arc<Account>]) -> Vec<Vec<Report>> {
    let mut rounds: Vec<Vec<Report>> = Vec::new();
    for account in accounts {
        for (number, tally) in account.take_tallies().into_iter().enumerate() {
            if rounds.len() == number {
                rounds.push(Vec::new());
            }
            rounds[number].push(Report {
                account: Arc::clone(account),
                tally,
            });
        }
    }
    rounds
}

/// Tells the store what is reported, of each site once. What could not be told is kept for the next
/// time; of what is in doubt the counts alone.
pub(super) async fn tell(store: &QuotaStore, mut reports: Vec<Report>) -> Result<(), StoreError> {
    let told = tell_all(store, &mut reports).await;
    if told.is_err() {
        keep(reports);
    }
    told
}

async fn tell_all(store: &QuotaStore, reports: &mut [Report]) -> Result<(), StoreError> {
    let moved = store.move_calls(reports).await;
    // What may have been moved is let go, too: given back twice, it would let through more calls than
    // the plan allows.
    if moved
        .as_ref()
        .map_or_else(StoreError::leaves_doubt, |()| true)
    {
        for report in &mut *reports {
            report.tally.moved = Moved::default();
        }
    }
    moved?;
    // A count whose outcome is unknown may be written twice; dropped, it might be missing. It is a
    // statistic: charges do not rest on it.
    store.count(reports).await
}

fn keep(untold: Vec<Report>) {
    for Report { account, tally } in untold {
        account.keep(tally);
    }
}
