//! What each failure of a room is answered with.

use std::sync::Arc;

use super::ApiError;
use crate::{
    accounts::AccountError,
    attempts::TooManyAttempts,
    keys::KeysError,
    passwords::{HashError, Overloaded},
    quota::QuotaError,
    sessions::RefreshError,
    sign_in::SignInError,
    store::StoreError,
    two_factor::TwoFactorError,
    types::turnstile::Crowded,
};

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Overloaded => Self::Overloaded,
            StoreError::WrongClock(_) => Self::WrongClock,
            StoreError::Fault(_) | StoreError::Refused(_) => Self::Internal(Arc::new(error)),
            StoreError::Unreachable(_) | StoreError::Unavailable(_) | StoreError::Timeout => {
                Self::StoreUnavailable(Arc::new(error))
            }
        }
    }
}

impl From<QuotaError> for ApiError {
    fn from(error: QuotaError) -> Self {
        match error {
            QuotaError::Store(error) => error.into(),
            QuotaError::Contended | QuotaError::Crowded(_) => Self::Overloaded,
            QuotaError::UnknownPlan(_) | QuotaError::Exceeded(_) => Self::Internal(Arc::new(error)),
        }
    }
}

impl From<KeysError> for ApiError {
    fn from(error: KeysError) -> Self {
        match error {
            KeysError::Store(error) => error.into(),
            other => Self::Internal(Arc::new(other)),
        }
    }
}

impl From<TooManyAttempts> for ApiError {
    fn from(error: TooManyAttempts) -> Self {
        Self::TooManyAttempts(error)
    }
}

impl From<AccountError> for ApiError {
    fn from(error: AccountError) -> Self {
        match error {
            AccountError::Store(error) => error.into(),
            AccountError::Taken => Self::Conflict("The e-mail address or the username is taken."),
            AccountError::OwnsSites => Self::Conflict("The account still owns sites."),
            AccountError::LastAdmin => Self::Conflict("The last admin cannot go."),
            AccountError::Changed => Self::InvalidCredentials,
            AccountError::Gone => Self::Unauthorized,
        }
    }
}

impl From<Crowded> for ApiError {
    fn from(_: Crowded) -> Self {
        Self::Overloaded
    }
}

impl From<Overloaded> for ApiError {
    fn from(_: Overloaded) -> Self {
        Self::Overloaded
    }
}

impl From<HashError> for ApiError {
    fn from(error: HashError) -> Self {
        Self::Internal(Arc::new(error))
    }
}

impl From<SignInError> for ApiError {
    fn from(error: SignInError) -> Self {
        match error {
            SignInError::Invalid => Self::InvalidCredentials,
            SignInError::TwoFactor(error) => error.into(),
            SignInError::TooManyAttempts(error) => error.into(),
            SignInError::Overloaded(error) => error.into(),
            SignInError::Hash(error) => error.into(),
            SignInError::Store(error) => error.into(),
        }
    }
}

impl From<TwoFactorError> for ApiError {
    fn from(error: TwoFactorError) -> Self {
        match error {
            TwoFactorError::CodeRequired => Self::OtpRequired,
            TwoFactorError::InvalidCode => Self::InvalidOtp,
            TwoFactorError::Locked { retry_after } => Self::TwoFactorLocked { retry_after },
            TwoFactorError::On => Self::Conflict("Two-factor is on already: turn it off first."),
            TwoFactorError::Off => Self::Conflict("Two-factor is not on: begin with it first."),
            TwoFactorError::Store(error) => error.into(),
            TwoFactorError::Vault(_) | TwoFactorError::Url(_) => Self::Internal(Arc::new(error)),
        }
    }
}

impl From<RefreshError> for ApiError {
    fn from(error: RefreshError) -> Self {
        match error {
            RefreshError::Invalid => Self::InvalidRefreshToken,
            RefreshError::Reused => Self::RefreshTokenReused,
            RefreshError::Crowded(error) => error.into(),
            RefreshError::Store(error) => error.into(),
            RefreshError::Keys(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_of_the_store_is_told_by_who_can_mend_it() {
        let cause = || Arc::new(sqlx::Error::PoolTimedOut);
        for (failure, code) in [
            (StoreError::Overloaded, "overloaded"),
            (StoreError::Unreachable(cause()), "store_unavailable"),
            (StoreError::Timeout, "store_unavailable"),
            (StoreError::Unavailable(cause()), "store_unavailable"),
            (StoreError::Refused(cause()), "internal_error"),
            (StoreError::Fault(cause()), "internal_error"),
        ] {
            assert_eq!(ApiError::from(failure).code(), code);
        }
    }
}
