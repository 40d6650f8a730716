//! ROOM callers: who calls the management API, and what with.
//!
//! [`CallerLayer`] stands before every endpoint that somebody must be known for. It reads
//! `Authorization`, asks the room of that credential, and says by its [`Door`] which credentials
//! get in; the endpoint behind takes the [`Caller`], and changes nothing but in one of the
//! [`Transactions`] of it.

mod credentials;
mod crowds;
mod layer;
mod scope;
mod store;
mod transactions;

pub use crowds::Crowds;
pub use layer::{Caller, CallerLayer, CallerService, Credential, Door};
pub use scope::{Scope, Scopes, UnknownScope};
pub use transactions::Transactions;
