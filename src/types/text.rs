//! Texts from outside: what people paste, and what a store can hold.

/// Why a text cannot be the value of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidText {
    /// It has characters in it that nobody sees, such as the end of a line.
    #[error("must not have control characters in it")]
    Control,
    /// The quotes would be a part of it: not every program takes them off a line of an env file.
    #[error("is in quotes: leave them out")]
    Quoted,
}

/// A text of the configuration, without the white space around it.
///
/// # Errors
/// When the rest has control characters in it, or is in quotes.
pub(crate) fn plain(text: &str) -> Result<&str, InvalidText> {
    let text = text.trim();
    if text.chars().any(char::is_control) {
        return Err(InvalidText::Control);
    }
    unquoted(text)
}

/// A text that is in no quotes.
///
/// # Errors
/// When it is.
pub(crate) fn unquoted(text: &str) -> Result<&str, InvalidText> {
    let is_in = |quote| text.len() > 1 && text.starts_with(quote) && text.ends_with(quote);
    if is_in('"') || is_in('\'') {
        return Err(InvalidText::Quoted);
    }
    Ok(text)
}

/// The text has a character that PostgreSQL stores in no text; SQLite would.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must not have the character U+0000 in it")]
pub(crate) struct NotStorable;

/// Takes what both stores can hold and compare. Whatever comes from outside and may be bound to a
/// statement passes here first, so that it is refused alike on both and is no fault of ours.
pub(crate) fn storable<T: AsRef<str>>(text: T) -> Result<T, NotStorable> {
    if text.as_ref().contains('\0') {
        return Err(NotStorable);
    }
    Ok(text)
}
