//! ROOM audit: who did what, when and from where.
//!
//! A change and its row are one transaction: the row is written by
//! [`changes::record`](crate::store::changes::record) and by nobody else. What strangers can cause
//! is counted in memory by [`Tally`] and written later, one row an address and hour, so that they
//! can neither fill the log nor slow an answer.

mod entry;
mod store;
mod tally;

pub use entry::{Entry, Outcome};
pub(crate) use store::record;
pub use store::sweep;
pub use tally::{Incident, Tally};
