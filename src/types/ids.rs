//! Identifiers: each its own type, with one way in and one way out.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};
use uuid::Uuid;

use super::{clock::Timestamp, randomness::Randomness, secret::CROCKFORD};

/// Why a text is no id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidId(&'static str);

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, sqlx::Type)]
        #[sqlx(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A new id; ids made later sort later.
            #[must_use]
            pub fn new(now: Timestamp, randomness: &Randomness) -> Self {
                Self(randomness.uuid_v7(now))
            }

            /// The id that this UUID stands for.
            #[must_use]
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The UUID behind the id.
            #[must_use]
            pub const fn as_uuid(self) -> Uuid {
                self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    };
}

uuid_id! {
    /// A site: shown as `site_` and the `UUIDv7` in 26 characters of lower-case Crockford base32.
    SiteId
}
uuid_id! {
    /// A token, its `jti`: shown as a hyphenated `UUIDv7`.
    TokenId
}
uuid_id! {
    /// One proxy secret of a site; the first 16 bytes inside the secret's text.
    SecretId
}
uuid_id! {
    /// An account: shown as a hyphenated `UUIDv7`.
    AccountId
}
uuid_id! {
    /// One sign-in of an account on one client: shown as a hyphenated `UUIDv7`.
    SessionId
}
uuid_id! {
    /// An API token of an account: shown as a hyphenated `UUIDv7`; the first 16 bytes inside the
    /// token's text.
    ApiTokenId
}
uuid_id! {
    /// A row of the audit log: shown as a hyphenated `UUIDv7`.
    AuditId
}

const SITE_PREFIX: &str = "site_";
/// 26 characters hold 130 bits, the UUID and two leading zeros. Whole bytes of base32 come in
/// groups of five, so four zero bytes stand before the UUID and their six characters are cut.
const LEADING_ZEROS: &str = "000000";

impl fmt::Display for SiteId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut padded = [0; 20];
        padded[4..].copy_from_slice(self.0.as_bytes());
        let text = CROCKFORD.encode(&padded);
        write!(formatter, "{SITE_PREFIX}{}", &text[LEADING_ZEROS.len()..])
    }
}

impl FromStr for SiteId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        const INVALID: InvalidId =
            InvalidId("a site id is `site_` and 26 characters of lower-case Crockford base32");
        let encoded = text.strip_prefix(SITE_PREFIX).ok_or(INVALID)?;
        let padded = CROCKFORD
            .decode(format!("{LEADING_ZEROS}{encoded}").as_bytes())
            .map_err(|_| INVALID)?;
        match padded.split_first_chunk::<4>() {
            Some(([0, 0, 0, 0], uuid)) => Uuid::from_slice(uuid).map(Self).map_err(|_| INVALID),
            _ => Err(INVALID),
        }
    }
}

/// The hyphenated lower-case form, and no other, so that one id has one spelling.
macro_rules! hyphenated {
    ($($name:ident: $invalid:literal)*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_hyphenated().fmt(formatter)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                const INVALID: InvalidId = InvalidId($invalid);
                let id = Self(Uuid::try_parse(text).map_err(|_| INVALID)?);
                if id.to_string() == text {
                    Ok(id)
                } else {
                    Err(INVALID)
                }
            }
        }
    )*};
}

hyphenated! {
    TokenId: "a token id is a hyphenated lower-case UUID"
    SecretId: "a secret's id is a hyphenated lower-case UUID"
    AccountId: "an account id is a hyphenated lower-case UUID"
    SessionId: "a session id is a hyphenated lower-case UUID"
    ApiTokenId: "an API token's id is a hyphenated lower-case UUID"
    AuditId: "an audit row's id is a hyphenated lower-case UUID"
}

/// A WordPress user of one site: 1 to 9223372036854775807.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, sqlx::Type)]
#[sqlx(transparent)]
pub struct WpUserId(i64);

impl WpUserId {
    /// The lowest there is.
    pub const MIN: Self = Self(1);

    /// Parses decimal digits without sign, fraction, exponent or leading zero.
    ///
    /// # Errors
    /// When the text is anything else, is zero, or is above 9223372036854775807.
    pub fn parse(digits: &str) -> Result<Self, InvalidId> {
        const INVALID: InvalidId = InvalidId(
            "must be an integer from 1 to 9223372036854775807, or a string of its digits",
        );
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) || digits.starts_with('0') {
            return Err(INVALID);
        }
        digits.parse().map(Self).map_err(|_| INVALID)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }
}

impl fmt::Display for WpUserId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// The computer an app runs on, by the name that the app chose for it; compared byte for byte.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, sqlx::Type)]
#[sqlx(transparent)]
pub struct MachineId(String);

impl MachineId {
    /// Accepts 1–256 bytes of UTF-8 without control characters (Unicode Cc).
    ///
    /// # Errors
    /// When the text is empty, longer, or has a control character in it.
    pub fn parse(raw: &str) -> Result<Self, InvalidId> {
        if raw.is_empty() || raw.len() > 256 || raw.chars().any(char::is_control) {
            return Err(InvalidId(
                "must be 1 to 256 bytes of UTF-8 without control characters",
            ));
        }
        Ok(Self(raw.to_owned()))
    }

    /// The name as the app gave it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn site_id_has_26_characters_and_reads_back() {
        let id = SiteId::from_uuid("01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap());
        assert_eq!(id.to_string(), "site_01h455vb4pex5vsknk084sn02q");
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn site_id_in_another_spelling_is_refused() {
        for text in [
            "",
            "site_",
            "01h455vb4pex5vsknk084sn02q",
            "site_01H455VB4PEX5VSKNK084SN02Q",
            "site_81h455vb4pex5vsknk084sn02q",
            "site_01h455vb4pex5vsknk084sn02",
            "site_01h455vb4pex5vsknk084sn02qq",
            "site_01h455vb4pex5vsknk084sn02u",
        ] {
            assert!(text.parse::<SiteId>().is_err(), "{text}");
        }
    }

    #[test]
    fn token_id_has_one_spelling() {
        let text = "01890a5d-ac96-774b-bcce-b302099a8057";
        assert_eq!(text.parse::<TokenId>().unwrap().to_string(), text);
        for other in [
            "01890A5D-AC96-774B-BCCE-B302099A8057",
            "01890a5dac96774bbcceb302099a8057",
            "{01890a5d-ac96-774b-bcce-b302099a8057}",
            "",
        ] {
            assert!(other.parse::<TokenId>().is_err(), "{other}");
        }
    }

    #[test]
    fn user_id_is_a_positive_integer_in_its_shortest_form() {
        assert_eq!(WpUserId::parse("1").unwrap().get(), 1);
        assert_eq!(
            WpUserId::parse("9223372036854775807").unwrap().get(),
            i64::MAX
        );
        for text in [
            "",
            "0",
            "01",
            "+1",
            "-1",
            "1.0",
            "1e3",
            " 1",
            "9223372036854775808",
        ] {
            assert!(WpUserId::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn machine_id_is_bounded_in_bytes_and_has_no_control_characters() {
        assert!(MachineId::parse(&"é".repeat(128)).is_ok());
        assert!(MachineId::parse(&"é".repeat(129)).is_err());
        assert!(MachineId::parse("").is_err());
        assert!(MachineId::parse("a\nb").is_err());
        assert!(MachineId::parse("a\u{85}b").is_err());
        assert_eq!(MachineId::parse(" a ").unwrap().as_str(), " a ");
    }
}
