//! Tower layers that know no capability, and what they are made from.

pub mod admission;
pub mod client;
pub mod client_address;
pub mod cors;
pub mod edge;
mod host;
pub(crate) mod right_clock;

/// What every request passes first: the client's address, which a refusal is counted by and logged
/// with; then the edge, which must see every answer, also the router's own.
pub(crate) type Outermost = (client_address::ClientAddressLayer, edge::EdgeLayer);
