//! Newtypes that every room uses: parsed once at the edge, trusted inside.

pub mod clock;
pub mod ids;
pub mod name;
pub(crate) mod patience;
pub mod randomness;
pub mod secret;
pub mod store_time;
pub(crate) mod text;
pub(crate) mod turnstile;
