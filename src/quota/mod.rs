//! ROOM quota: plans, their calendar windows, the ledger of what sites have used, and the tower
//! layer that charges a call before it is made.
//!
//! Never more calls than a plan allows are let through: a charge is one statement that takes only
//! what both windows still have. What ends in a fault is given back.

mod account;
mod accounts;
mod block;
pub(crate) mod endpoints;
mod fields;
mod layer;
mod ledger;
mod permit;
mod report;
mod store;
mod tally;
mod usage_report;
mod windows;

pub(crate) use endpoints::router;
pub use layer::{
    Answer, Charge, Disclosure, Meter, Metered, Outcome, Payer, QuotaLayer, SecondLook,
};
pub use ledger::{Ledger, QuotaError};
pub use permit::Permit;
pub use store::DayCounts;
pub use usage_report::{DayReport, UsageReport, WindowReport};
pub use windows::{Standing, Violated, WindowUsage, Windows};
