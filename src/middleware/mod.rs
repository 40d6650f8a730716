//! Tower layers that know no capability, and what they are made from.

pub mod admission;
pub mod client;
pub mod client_address;
pub mod cors;
pub mod edge;
