//! Transactions in the name of a caller.

use axum::extract::FromRef;

use super::{Caller, Credential, store};
use crate::{
    accounts::Proof,
    error::ApiError,
    passwords::PasswordHash,
    state::AppState,
    store::{Database, Tx, changes},
    types::clock::Clock,
};

/// Begins every transaction in which a caller changes something.
///
/// A caller is identified before the body of the request comes, and a password is proven before the
/// change: what both rest on is looked at again here, under the lock of changes, so that it stays
/// true until the commit.
#[derive(Clone)]
pub struct Transactions {
    database: Database,
    clock: Clock,
}

impl FromRef<AppState> for Transactions {
    fn from_ref(state: &AppState) -> Self {
        Self {
            database: state.database.clone(),
            clock: state.clock.clone(),
        }
    }
}

impl Transactions {
    /// A transaction of a caller.
    ///
    /// # Errors
    /// 401 when its session or API token has ended, or its account cannot be used or has another
    /// role than the one that it was judged by.
    pub async fn begin(&self, caller: &Caller) -> Result<Tx, ApiError> {
        Ok(self.begin_checked(caller).await?.0)
    }

    /// A transaction of a caller who has proven their password.
    ///
    /// # Errors
    /// As [`Self::begin`], and 401 when the account has another password by now.
    pub async fn begin_proven(&self, caller: &Caller, proven: &Proof) -> Result<Tx, ApiError> {
        let (tx, hash) = self.begin_checked(caller).await?;
        if hash == proven.password_hash {
            Ok(tx)
        } else {
            Err(ApiError::InvalidCredentials)
        }
    }

    async fn begin_checked(&self, caller: &Caller) -> Result<(Tx, PasswordHash), ApiError> {
        let mut tx = self.database.begin().await?;
        changes::lock(&mut tx).await?;
        let (account, now) = ((caller.account_id, caller.role), self.clock.now());
        let found = match caller.credential {
            Credential::AccessToken { session_id } | Credential::OneHourToken { session_id } => {
                store::of_session(&mut tx, account, session_id, now).await?
            }
            Credential::ApiToken { token_id, .. } => {
                store::of_api_token(&mut tx, account, token_id, now).await?
            }
        };
        let hash = found.ok_or(ApiError::Unauthorized)?;
        Ok((tx, hash))
    }
}
