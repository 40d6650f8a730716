//! The fields that signing in takes.

use serde_json::value::RawValue;

use crate::{accounts::LoginName, extract::string, passwords::Password};

/// Longer than any e-mail address.
const MAX_NAME_BYTES: usize = 320;

/// An e-mail address or a username, as somebody typed it.
pub(super) fn login_name(value: &RawValue) -> Result<LoginName, String> {
    let typed = string(value)?;
    if typed.is_empty() || typed.len() > MAX_NAME_BYTES {
        return Err(format!("must be a string of 1 to {MAX_NAME_BYTES} bytes"));
    }
    Ok(LoginName::new(&typed))
}

/// A password, as somebody typed it.
pub(super) fn password(value: &RawValue) -> Result<Password, String> {
    Password::parse(string(value)?).map_err(|invalid| invalid.to_string())
}
