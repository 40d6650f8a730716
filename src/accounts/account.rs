//! An account and what it is made from.

use std::fmt;

use serde::Serialize;
use utoipa::ToSchema;

use crate::types::{clock::Timestamp, ids::AccountId, name::Name};

/// A person who manages sites.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Account {
    /// Its id.
    pub id: AccountId,
    /// Its e-mail address, as it was typed.
    #[schema(examples("ada@shop.example"))]
    pub email: String,
    /// What it may sign in by in place of the e-mail address.
    #[schema(examples("ada"))]
    pub username: Option<String>,
    /// What people call it.
    #[schema(examples("Ada Lovelace"))]
    pub name: Option<String>,
    /// What it may do.
    pub role: Role,
    /// Whether it can be used.
    pub status: AccountStatus,
    /// Whether signing in takes a code.
    #[schema(examples(true))]
    pub two_factor: bool,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What an account may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[schema(examples("owner"))]
pub enum Role {
    /// See and change the sites that it owns.
    Owner,
    /// All sites, all plans, and new accounts.
    Admin,
}

/// Whether an account can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(examples("active"))]
pub enum AccountStatus {
    /// It can.
    Active,
    /// Not until it is enabled: nobody signs in as it, and its tokens are refused.
    Disabled,
}

/// The store holds a word that this version does not know.
#[derive(Debug, thiserror::Error)]
#[error("the role or the status of the account is unknown")]
pub struct UnknownWord;

macro_rules! words {
    ($($type:ty { $($variant:ident: $word:literal),* })*) => {$(
        impl $type {
            pub(crate) const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }

        impl TryFrom<String> for $type {
            type Error = UnknownWord;

            fn try_from(word: String) -> Result<Self, UnknownWord> {
                match word.as_str() {
                    $($word => Ok(Self::$variant),)*
                    _ => Err(UnknownWord),
                }
            }
        }
    )*};
}

words! {
    Role { Owner: "owner", Admin: "admin" }
    AccountStatus { Active: "active", Disabled: "disabled" }
}

/// An e-mail address. Kept as it was typed, compared without regard to case. Shows as
/// `[e-mail address]`.
#[derive(Clone, PartialEq, Eq)]
pub struct EmailAddress(String);

/// A username. Kept as it was typed, compared without regard to case; it is never an e-mail address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Username(String);

/// Why an account cannot be made so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAccount {
    /// The e-mail address is none.
    #[error("must be an e-mail address of at most 254 bytes")]
    Email,
    /// The username has another form.
    #[error("must be 3 to 64 ASCII letters, digits, dots, hyphens and underscores")]
    Username,
    /// There is no such role.
    #[error("must be owner or admin")]
    Role,
}

impl EmailAddress {
    /// Takes what has one `@` between two texts, and neither spaces nor control characters; white space
    /// around it is cut off. Whether mail arrives there only mail can tell.
    ///
    /// # Errors
    /// When the text has another form.
    pub fn parse(raw: &str) -> Result<Self, InvalidAccount> {
        let raw = raw.trim();
        let is_plain = raw.len() <= 254
            && !raw
                .chars()
                .any(|character| character.is_control() || character.is_whitespace());
        let mut parts = raw.split('@');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(local), Some(domain), None)
                if is_plain && !local.is_empty() && !domain.is_empty() =>
            {
                Ok(Self(raw.to_owned()))
            }
            _ => Err(InvalidAccount::Email),
        }
    }

    /// The address as it was typed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Username {
    /// Takes 3 to 64 ASCII letters, digits, dots, hyphens and underscores; white space around them is
    /// cut off.
    ///
    /// # Errors
    /// When the text has another form.
    pub fn parse(raw: &str) -> Result<Self, InvalidAccount> {
        let raw = raw.trim();
        let is_allowed =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        if (3..=64).contains(&raw.len()) && raw.bytes().all(is_allowed) {
            Ok(Self(raw.to_owned()))
        } else {
            Err(InvalidAccount::Username)
        }
    }

    /// The username as it was typed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Role {
    /// Reads `owner` or `admin`.
    ///
    /// # Errors
    /// When the text is another.
    pub fn parse(raw: &str) -> Result<Self, InvalidAccount> {
        Self::try_from(raw.to_owned()).map_err(|_| InvalidAccount::Role)
    }
}

/// What somebody types to say who they are: an e-mail address or a username, in whatever case.
/// Some type a password there: it shows as `[name]`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct LoginName(String);

impl LoginName {
    /// What is looked for: the text in lower case, without the white space around it.
    #[must_use]
    pub fn new(typed: &str) -> Self {
        Self(typed.trim().to_lowercase())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for EmailAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[e-mail address]")
    }
}

impl fmt::Debug for LoginName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[name]")
    }
}

impl From<&EmailAddress> for LoginName {
    fn from(email: &EmailAddress) -> Self {
        Self::new(&email.0)
    }
}

impl From<&Username> for LoginName {
    fn from(username: &Username) -> Self {
        Self::new(&username.0)
    }
}

/// What an account is made from, but for its password.
#[derive(Clone, Debug)]
pub struct NewAccount {
    /// Its e-mail address.
    pub email: EmailAddress,
    /// What it may sign in by too.
    pub username: Option<Username>,
    /// What people call it.
    pub name: Option<Name>,
    /// What it may do.
    pub role: Role,
}

/// What is to be changed of an account.
#[derive(Clone, Debug, Default)]
pub struct AccountUpdate {
    /// What people shall call it.
    pub name: Option<Name>,
    /// Its new e-mail address.
    pub email: Option<EmailAddress>,
}
