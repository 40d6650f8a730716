//! Passwords in the clear: presented, or to be set.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

/// The fewest characters that a new password has.
const MIN_CHARACTERS: usize = 10;

/// The longest password that is looked at, in bytes.
pub(crate) const MAX_BYTES: usize = 1024;

/// Passwords of at least [`MIN_CHARACTERS`]: shorter ones are refused without a list.
const COMMON: &str = include_str!("common.txt");

/// A password as somebody typed it. Shows as `[password]`.
#[derive(Clone)]
pub struct Password(SecretString);

/// Why a text is no password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPassword {
    /// Nobody has such a password.
    #[error("must be a string of 1 to {MAX_BYTES} bytes")]
    Length,
    /// It is too short to be set.
    #[error("must have at least {MIN_CHARACTERS} characters")]
    TooShort,
    /// It is among those that are tried first.
    #[error("is one of the commonest passwords: choose another")]
    Common,
}

impl Password {
    /// Takes what somebody presents as a password.
    ///
    /// # Errors
    /// When it is empty or longer than 1024 bytes.
    pub fn parse(raw: String) -> Result<Self, InvalidPassword> {
        if raw.is_empty() || raw.len() > MAX_BYTES {
            return Err(InvalidPassword::Length);
        }
        Ok(Self(raw.into()))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.0.expose_secret().as_bytes()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[password]")
    }
}

/// A password that may be set.
#[derive(Clone, Debug)]
pub struct NewPassword(Password);

impl NewPassword {
    /// Takes at least 10 characters that are none of the commonest passwords, in whatever case.
    ///
    /// # Errors
    /// When it is shorter, longer than 1024 bytes, or common.
    pub fn parse(raw: String) -> Result<Self, InvalidPassword> {
        if raw.chars().count() < MIN_CHARACTERS {
            return Err(InvalidPassword::TooShort);
        }
        let lower = SecretString::from(raw.to_lowercase());
        if COMMON.lines().any(|common| common == lower.expose_secret()) {
            return Err(InvalidPassword::Common);
        }
        Password::parse(raw).map(Self)
    }

    pub(super) const fn password(&self) -> &Password {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(raw: &str) -> Result<(), InvalidPassword> {
        NewPassword::parse(raw.to_owned()).map(|_| ())
    }

    #[test]
    fn a_new_password_has_ten_characters_whatever_their_bytes() {
        assert_eq!(judged("xk2vq9wzt"), Err(InvalidPassword::TooShort));
        assert_eq!(judged("ééééééééé"), Err(InvalidPassword::TooShort));
        assert_eq!(judged("xk2vq9wztp"), Ok(()));
        assert_eq!(judged("ééééééééüé"), Ok(()));
        assert_eq!(judged(&"é".repeat(513)), Err(InvalidPassword::Length));
    }

    #[test]
    fn a_common_password_is_refused_in_any_case() {
        for common in ["1234567890", "qwertyuiop", "Password123", "LIVERPOOL1"] {
            assert_eq!(judged(common), Err(InvalidPassword::Common), "{common}");
        }
    }

    #[test]
    fn the_list_has_only_what_the_length_lets_through() {
        let passwords = || COMMON.lines().filter(|line| !line.starts_with("# "));
        assert!(passwords().count() > 1000);
        for password in passwords() {
            assert!(password.chars().count() >= MIN_CHARACTERS, "{password}");
            assert_eq!(password, password.to_lowercase());
        }
    }

    #[test]
    fn a_password_does_not_show_itself() {
        let password = NewPassword::parse("correct horse battery".to_owned()).unwrap();
        assert_eq!(format!("{password:?}"), "NewPassword([password])");
    }
}
