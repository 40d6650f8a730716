//! Permits: calls that were charged and have yet to come to something.

use std::sync::Arc;

use super::{account::Account, layer::Outcome, tally::Period, windows::Standing};
use crate::error::Chain;

/// Calls that were taken from a site's quota. Dropped, they stay charged: only [`Permit::settle`]
/// can give them back.
#[must_use = "a call is charged until it is settled"]
pub struct Permit {
    pub(super) account: Arc<Account>,
    pub(super) calls: u64,
    /// What was charged; ahead of this instance's clock when that runs behind.
    pub(super) period: Period,
    pub(super) source: Source,
    /// Where the site stands after the charge, as far as this instance knows.
    pub standing: Standing,
}

/// Where the calls of a permit come from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    /// The store.
    Store,
    /// The block of this number.
    Block(u64),
}

impl Permit {
    /// Ends the call: what was delivered is counted and stays charged, all else is given back. Says
    /// where the site stands then.
    ///
    /// Waits for nothing unless a call of a plan that is counted call by call is given back.
    pub async fn settle(self, outcome: Option<Outcome>) -> Standing {
        let Self {
            account,
            calls,
            period,
            source,
            standing,
        } = self;
        match (outcome, source) {
            (Some(outcome), _) => {
                account.count(period, outcome);
                return standing;
            }
            (None, Source::Block(number)) => account.unspend(number, period, calls),
            (None, Source::Store) => {
                if let Err(error) = account.give_back(period, calls).await {
                    let site_id = account.site_id();
                    tracing::warn!(site.id = %site_id, error = %Chain(&error), "a call was not given back at once");
                }
            }
        }
        standing.less(calls)
    }
}
