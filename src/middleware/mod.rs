//! Tower layers that know no capability.

pub mod client;
pub mod client_address;
pub mod cors;
pub mod edge;
