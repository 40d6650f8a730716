//! Secrets, the codes that an app makes of them, and recovery codes.

use std::fmt;

use secrecy::{ExposeSecret, SecretSlice, SecretString};
use totp_rs::{Algorithm, Builder, TotpError};

use crate::types::{
    clock::Timestamp,
    randomness::Randomness,
    secret::{CROCKFORD, SecretDigest},
};

/// RFC 4226, section 4: 160 bits are recommended.
const SECRET_BYTES: usize = 20;

const DIGITS: u8 = 6;
const STEP_SECONDS: u64 = 30;

/// How many steps a clock may be off, to either side (RFC 6238, section 5.2).
const SKEW: u16 = 1;

/// 80 bits.
const RECOVERY_BYTES: usize = 10;

/// Whom the app names the secret after.
const ISSUER: &str = "Mirrory";

/// What somebody typed as a code, by its form.
#[derive(Clone, Debug)]
pub enum Code {
    /// It may be one of an authenticator app.
    App(AppCode),
    /// It may be a recovery code.
    Recovery(RecoveryCode),
}

/// Six digits. Shows as `[code]`.
#[derive(Clone)]
pub struct AppCode(SecretString);

/// The text cannot be a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be six digits, or a recovery code")]
pub struct InvalidCode;

impl Code {
    /// Takes what somebody typed or pasted: white space and hyphens in it do not count, and a recovery
    /// code is read as Crockford's base32 is, in whatever case, with O for 0, and I or L for 1.
    ///
    /// # Errors
    /// When it can be neither.
    pub fn parse(typed: &str) -> Result<Self, InvalidCode> {
        let symbols = typed.chars().filter(|symbol| !is_separator(*symbol));
        let text = SecretString::from(symbols.collect::<String>());
        let exposed = text.expose_secret();
        let is_of_app = exposed.len() == usize::from(DIGITS)
            && exposed.bytes().all(|byte| byte.is_ascii_digit());
        if is_of_app {
            return Ok(Self::App(AppCode(text)));
        }
        RecoveryCode::read(exposed).map(Self::Recovery)
    }
}

/// White space, a hyphen, or a dash that a keyboard puts in its place.
fn is_separator(symbol: char) -> bool {
    symbol.is_whitespace() || matches!(symbol, '-' | '\u{2010}'..='\u{2015}' | '\u{2212}')
}

impl fmt::Debug for AppCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[code]")
    }
}

/// What an authenticator app and the service share.
pub(super) struct Secret(SecretSlice<u8>);

impl Secret {
    pub(super) fn generate(randomness: &Randomness) -> Self {
        Self::new(&randomness.bytes::<SECRET_BYTES>())
    }

    pub(super) fn new(bytes: &[u8]) -> Self {
        Self(bytes.to_vec().into())
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.0.expose_secret()
    }

    pub(super) fn base32(&self) -> SecretString {
        data_encoding::BASE32_NOPAD.encode(self.bytes()).into()
    }

    /// The URL that authenticator apps read from a QR code.
    pub(super) fn otpauth_url(&self, email: &str) -> Result<SecretString, TotpError> {
        // A colon ends the issuer in a label.
        let label = email.replace(':', "_");
        let named = self.builder().with_issuer(Some(ISSUER));
        Ok(named.with_account_name(label).build()?.to_url()?.into())
    }

    /// The step that a code is of, if it is of one near `now`.
    pub(super) fn step_of(&self, code: &AppCode, now: Timestamp) -> Option<i64> {
        let typed = code.0.expose_secret();
        let seconds = u64::try_from(now.as_seconds()).ok()?;
        i64::try_from(self.builder().build_noncompliant().check(typed, seconds)?).ok()
    }

    fn builder(&self) -> Builder {
        Builder::new()
            .with_algorithm(Algorithm::SHA1)
            .with_digits(DIGITS)
            .with_step_duration(STEP_SECONDS)
            .with_skew(SKEW)
            .with_secret(self.bytes().to_vec())
    }
}

/// What gets in once in the place of a code. Shows as `[code]`.
#[derive(Clone)]
pub struct RecoveryCode([u8; RECOVERY_BYTES]);

impl RecoveryCode {
    pub(super) fn generate(randomness: &Randomness) -> Self {
        Self(randomness.bytes())
    }

    fn read(typed: &str) -> Result<Self, InvalidCode> {
        let symbols = typed
            .chars()
            .map(|symbol| match symbol.to_ascii_lowercase() {
                'o' => '0',
                'i' | 'l' => '1',
                symbol => symbol,
            });
        let text = SecretString::from(symbols.collect::<String>());
        let bytes = CROCKFORD.decode(text.expose_secret().as_bytes());
        let bytes = bytes.map_err(|_| InvalidCode)?;
        bytes.try_into().map(Self).map_err(|_| InvalidCode)
    }

    /// What is stored in its place: 80 random bits need no slow hash.
    pub(super) fn digest(&self) -> SecretDigest {
        SecretDigest::of(&CROCKFORD.encode(&self.0))
    }

    /// The code itself, for the one answer that shows it: four groups of four.
    pub(super) fn reveal(&self) -> SecretString {
        let text = CROCKFORD.encode(&self.0);
        let groups: Vec<_> = (0..4)
            .map(|group| &text[group * 4..group * 4 + 4])
            .collect();
        groups.join("-").into()
    }
}

impl fmt::Debug for RecoveryCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[code]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(text: &str) -> AppCode {
        match Code::parse(text) {
            Ok(Code::App(code)) => code,
            other => panic!("{text:?} is {other:?}"),
        }
    }

    fn recovery(text: &str) -> RecoveryCode {
        match Code::parse(text) {
            Ok(Code::Recovery(code)) => code,
            other => panic!("{text:?} is {other:?}"),
        }
    }

    /// RFC 6238, appendix B, its last six digits.
    #[test]
    fn codes_are_those_of_the_rfc() {
        let secret = Secret::new(b"12345678901234567890");
        for (seconds, digits) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_234_567_890, "005924"),
            (20_000_000_000, "353130"),
        ] {
            let now = Timestamp::from_seconds(seconds);
            assert_eq!(secret.step_of(&app(digits), now), Some(seconds / 30));
        }
    }

    #[test]
    fn one_step_either_side_is_taken() {
        let secret = Secret::new(b"12345678901234567890");
        let at = |seconds| secret.step_of(&app("287082"), Timestamp::from_seconds(seconds));
        for seconds in [0, 29, 30, 59, 60, 89] {
            assert_eq!(at(seconds), Some(1), "{seconds}");
        }
        assert_eq!(at(90), None);
    }

    #[test]
    fn white_space_and_hyphens_do_not_count() {
        let secret = Secret::new(b"12345678901234567890");
        for text in [
            "287082",
            "287 082",
            " 287\u{a0}082\n",
            "287-082",
            "28 70 82",
            "287\u{2013}082",
            "2-8-7-0-8-2",
        ] {
            let now = Timestamp::from_seconds(59);
            assert_eq!(secret.step_of(&app(text), now), Some(1), "{text:?}");
        }
    }

    #[test]
    fn a_recovery_code_is_read_as_crockford_has_it() {
        let shown = "0110-7g9x-v4ht-0b1d";
        let spaced = shown.replace('-', " ");
        for typed in [
            shown.to_owned(),
            shown.to_uppercase(),
            shown.replace('-', ""),
            format!("\t{spaced}\r\n"),
            shown.replace('0', "O").replace('1', "I"),
            shown.replace('0', "o").replace('1', "l"),
            shown.replace('1', "L"),
        ] {
            let read = recovery(&typed).reveal();
            assert_eq!(read.expose_secret(), shown, "{typed:?}");
        }
    }

    #[test]
    fn what_can_be_no_code_is_refused() {
        for text in [
            "",
            " - ",
            "28708",
            "2870820",
            "+87082",
            "28708O",
            "\u{662}\u{668}\u{667}\u{660}\u{668}\u{662}",
            "not a code",
            "7g9x-2kqm-v4ht-0b8",
            "7g9x-2kqm-v4ht-0b8dd",
            "7g9x-2kqm-v4ht-0b8u",
            "7g9x-2kqm-v4ht-0b8\u{0}",
            "7g9x.2kqm.v4ht.0b8d",
        ] {
            assert_eq!(Code::parse(text).unwrap_err(), InvalidCode, "{text:?}");
        }
    }

    #[test]
    fn the_url_is_what_apps_read() {
        let secret = Secret::new(b"12345678901234567890");
        let url = secret.otpauth_url("ada@shop.example").unwrap();
        assert_eq!(
            url.expose_secret(),
            "otpauth://totp/Mirrory:ada%40shop.example?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=Mirrory"
        );
    }
}
