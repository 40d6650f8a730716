//! Wiring: opens the store and the rooms, runs what goes on in the background, serves, drains.

mod background;
mod connection;
mod conversation;
mod embedded;
mod exchange;
mod files;
mod gate;
mod master_key;
mod master_key_file;
mod places;
mod pulse;
mod server;
mod start;
mod streams;
mod wire;

pub use background::{Background, Running};
pub use embedded::{claim_store, make_store, make_store_for_import, missing_store};
pub(crate) use files::{METRICS_CONNECTIONS, Room, make_room, room};
pub use gate::Gate;
pub(crate) use master_key::master_key_file;
pub use master_key::{
    RotatedMasterKey, present_master_keys, require_master_key, rotate_master_key,
};
pub(crate) use master_key_file::warn_if_others_may_read;
pub use places::Limits;
pub use server::serve_until;
pub(crate) use start::assemble_keys;
pub use start::{
    StartError, is_set_up, open_keys, open_state, open_store, open_store_to_accept, open_tokens,
    warn_of_unknown_plans,
};
