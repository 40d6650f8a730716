//! What people call their things.

/// What people call an account, a site or an API token: 1 to 200 bytes without control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(String);

/// The text cannot be a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to {MAX_BYTES} bytes without control characters")]
pub struct InvalidName;

const MAX_BYTES: usize = 200;

impl Name {
    /// Takes 1 to 200 bytes without control characters.
    ///
    /// # Errors
    /// When the text has another form.
    pub fn parse(raw: &str) -> Result<Self, InvalidName> {
        if raw.is_empty() || raw.len() > MAX_BYTES || raw.chars().any(char::is_control) {
            return Err(InvalidName);
        }
        Ok(Self(raw.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_1_to_200_bytes_without_control_characters() {
        let longest = "é".repeat(100);
        for name in ["a", " ", "Café ✓", &longest] {
            assert_eq!(Name::parse(name).unwrap().as_str(), name);
        }
        for text in ["", "a\nb", "\u{7f}", "\u{85}", &format!("{longest}a")] {
            assert_eq!(Name::parse(text), Err(InvalidName), "{text:?}");
        }
    }
}
