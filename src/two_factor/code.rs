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

/// The longest code that is looked at, in bytes.
const MAX_CODE_BYTES: usize = 64;

/// What somebody typed as a code. Shows as `[code]`.
#[derive(Clone)]
pub struct Code(SecretString);

/// The text is no code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a string of 1 to {MAX_CODE_BYTES} bytes: six digits, or a recovery code")]
pub struct InvalidCode;

impl Code {
    /// Takes what somebody typed.
    ///
    /// # Errors
    /// When it is empty or longer than 64 bytes.
    pub fn parse(raw: String) -> Result<Self, InvalidCode> {
        if raw.is_empty() || raw.len() > MAX_CODE_BYTES {
            return Err(InvalidCode);
        }
        Ok(Self(raw.into()))
    }

    /// The recovery code that it is, with hyphens or without, in whatever case.
    pub(super) fn as_recovery(&self) -> Option<RecoveryCode> {
        let typed = self.0.expose_secret().to_ascii_lowercase().replace('-', "");
        let bytes = CROCKFORD.decode(typed.as_bytes()).ok()?;
        Some(RecoveryCode(bytes.try_into().ok()?))
    }
}

impl fmt::Debug for Code {
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
    pub(super) fn step_of(&self, code: &Code, now: Timestamp) -> Option<i64> {
        let typed = code.0.expose_secret();
        if typed.len() != usize::from(DIGITS) || !typed.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
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
pub(super) struct RecoveryCode([u8; RECOVERY_BYTES]);

impl RecoveryCode {
    pub(super) fn generate(randomness: &Randomness) -> Self {
        Self(randomness.bytes())
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

    fn code(text: &str) -> Code {
        Code::parse(text.to_owned()).unwrap()
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
            assert_eq!(secret.step_of(&code(digits), now), Some(seconds / 30));
        }
    }

    #[test]
    fn one_step_either_side_is_taken() {
        let secret = Secret::new(b"12345678901234567890");
        let at = |seconds| secret.step_of(&code("287082"), Timestamp::from_seconds(seconds));
        for seconds in [0, 29, 30, 59, 60, 89] {
            assert_eq!(at(seconds), Some(1), "{seconds}");
        }
        assert_eq!(at(90), None);
    }

    #[test]
    fn what_is_not_six_digits_is_no_code_of_an_app() {
        let secret = Secret::new(b"12345678901234567890");
        for text in ["28708", "2870820", " 287082", "287 082", "+87082", "٢٨٧٠٨٢"] {
            let now = Timestamp::from_seconds(59);
            assert_eq!(secret.step_of(&code(text), now), None, "{text}");
        }
    }

    #[test]
    fn a_recovery_code_is_read_with_hyphens_or_without_in_any_case() {
        let shown = RecoveryCode::generate(&Randomness::seeded(1)).reveal();
        let shown = shown.expose_secret();
        assert_eq!(shown.len(), 19);
        let plain = shown.replace('-', "");
        for typed in [shown.to_owned(), shown.to_uppercase(), plain] {
            let read = code(&typed).as_recovery().unwrap();
            assert_eq!(read.reveal().expose_secret(), shown, "{typed}");
        }
        for other in ["287082", &shown[1..], &format!("{shown}0")] {
            assert!(code(other).as_recovery().is_none(), "{other}");
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
