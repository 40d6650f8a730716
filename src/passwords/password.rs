//! Passwords in the clear: presented, or to be set.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use unicode_normalization::UnicodeNormalization;

/// The fewest characters that a new password has.
const MIN_CHARACTERS: usize = 10;

/// The longest password that is looked at, in bytes.
pub(crate) const MAX_BYTES: usize = 1024;

/// Passwords of at least [`MIN_CHARACTERS`]: shorter ones are refused without a list.
const COMMON: &str = include_str!("common.txt");

/// A password as somebody typed it, and in the form in which passwords are hashed and compared: one
/// keyboard makes of `é` one character, another one two. Shows as `[password]`.
#[derive(Clone)]
pub struct Password {
    normal: SecretString,
    /// None when it is the same.
    typed: Option<SecretString>,
}

/// Why a text is no password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPassword {
    /// Nobody has such a password.
    #[error("must be a string of 1 to {MAX_BYTES} bytes")]
    Length,
    /// It is too short to be set.
    #[error("must have at least {MIN_CHARACTERS} characters")]
    TooShort,
    /// It has what cannot be typed on every keyboard, such as the end of a line.
    #[error("must not have control characters in it")]
    Control,
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
        let normal = SecretString::from(normal_form(&raw));
        let typed = (normal.expose_secret() != raw).then(|| raw.into());
        Ok(Self { normal, typed })
    }

    pub(super) fn normal(&self) -> &SecretString {
        &self.normal
    }

    /// What was typed, when that is not its normal form; hashes were once made of that.
    pub(super) const fn typed(&self) -> Option<&SecretString> {
        self.typed.as_ref()
    }
}

/// As the profile `OpaqueString` has it (RFC 8265, section 4.2.1): every kind of space is the plain one,
/// then NFC. Case and white space around it count.
fn normal_form(raw: &str) -> String {
    let plain_spaces = raw.chars().map(|character| match character {
        '\u{2028}' | '\u{2029}' => character,
        _ if character.is_whitespace() && !character.is_control() => ' ',
        _ => character,
    });
    plain_spaces.nfc().collect()
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
    /// Takes at least 10 characters that are no control characters, and none of the commonest
    /// passwords, in whatever case.
    ///
    /// # Errors
    /// When it is shorter, longer than 1024 bytes, or common, or has a control character in it.
    pub fn parse(raw: String) -> Result<Self, InvalidPassword> {
        if raw.is_empty() {
            return Err(InvalidPassword::TooShort);
        }
        let password = Password::parse(raw)?;
        let text = password.normal.expose_secret();
        if text.chars().count() < MIN_CHARACTERS {
            return Err(InvalidPassword::TooShort);
        }
        if text.chars().any(char::is_control) {
            return Err(InvalidPassword::Control);
        }
        let lower = SecretString::from(text.to_lowercase());
        if COMMON.lines().any(|common| common == lower.expose_secret()) {
            return Err(InvalidPassword::Common);
        }
        Ok(Self(password))
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
    fn a_password_is_compared_in_nfc_with_plain_spaces() {
        for (typed, normal) in [
            ("cafe\u{301} au lait", "caf\u{e9} au lait"),
            ("\u{212b}ngstr\u{f6}m", "\u{c5}ngstr\u{f6}m"),
            ("pass\u{a0}phrase\u{3000}", "pass phrase "),
            // Case and width count, and so do white space around it and control characters.
            (" Pa\u{ff53}s\tW\u{0}rd\n", " Pa\u{ff53}s\tW\u{0}rd\n"),
            ("correct horse", "correct horse"),
        ] {
            let password = Password::parse(typed.to_owned()).unwrap();
            assert_eq!(password.normal().expose_secret(), normal);
            let kept = password.typed().map(ExposeSecret::expose_secret);
            assert_eq!(kept, (typed != normal).then_some(typed));
        }
    }

    #[test]
    fn a_new_password_is_judged_in_its_normal_form() {
        assert_eq!(
            judged("e\u{301}e\u{301}e\u{301}e\u{301}e\u{301}"),
            Err(InvalidPassword::TooShort)
        );
        assert_eq!(judged(""), Err(InvalidPassword::TooShort));
        for text in ["correct horse\n", "correct\u{0}horse", "correct\u{85}horse"] {
            assert_eq!(judged(text), Err(InvalidPassword::Control), "{text:?}");
        }
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
