//! The fields that the room's requests share, parsed.

use serde_json::value::RawValue;

use crate::{
    extract::{opaque, text},
    types::{
        ids::{MachineId, WpUserId},
        secret::ProxySecret,
    },
};

/// A JSON integer, or a string of its digits: PHP often sends one.
pub(super) fn user_id(value: &RawValue) -> Result<WpUserId, String> {
    let json = value.get();
    let quoted = json.starts_with('"').then(|| text(value)).transpose()?;
    WpUserId::parse(quoted.as_deref().unwrap_or(json)).map_err(|invalid| invalid.to_string())
}

/// A string that may be a proxy secret.
pub(super) fn proxy_secret(value: &RawValue) -> Result<ProxySecret, String> {
    ProxySecret::parse(opaque(value)?).map_err(|invalid| invalid.to_string())
}

/// A string that names a machine.
pub(super) fn machine_id(value: &RawValue) -> Result<MachineId, String> {
    MachineId::parse(&text(value)?).map_err(|invalid| invalid.to_string())
}
