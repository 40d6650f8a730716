//! Wiring: opens the store and the rooms, runs what goes on in the background, serves, drains.

mod background;
mod connection;
mod conversation;
mod embedded;
mod gate;
mod master_key;
mod master_key_file;
mod server;
mod start;

pub use background::{Background, Running};
pub use embedded::{claim_store, missing_store};
pub use gate::Gate;
pub(crate) use master_key::master_key_file;
pub use master_key::{
    RotatedMasterKey, present_master_keys, require_master_key, rotate_master_key,
};
pub(crate) use master_key_file::warn_if_others_may_read;
pub use server::serve_until;
pub(crate) use start::assemble_keys;
pub use start::{
    StartError, open_keys, open_state, open_store, open_store_to_accept, open_tokens,
    warn_of_unknown_plans,
};
