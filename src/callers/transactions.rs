//! Transactions in the name of a caller.

use axum::extract::FromRef;

use super::{Caller, Credential, store};
use crate::{
    accounts::Proof,
    error::ApiError,
    passwords::PasswordHash,
    state::{AppState, Rooms},
    store::{Share, Tx, changes},
};

/// Begins every transaction in which a caller changes something.
///
/// A caller is identified before the body of the request comes, and a password is proven before the
/// change: what both rest on is looked at again here, under the lock of changes, so that it stays
/// true until the commit.
///
/// The lock is for one at a time: one request waits for it on a connection to the store, and the
/// others for that one.
#[derive(Clone)]
pub struct Transactions(AppState);

impl FromRef<AppState> for Transactions {
    fn from_ref(state: &AppState) -> Self {
        Self(state.clone())
    }
}

impl Transactions {
    /// A transaction of a caller.
    ///
    /// # Errors
    /// 401 when its session or API token has ended, or its account cannot be used or has another
    /// role than the one that it was judged by. 429 when the account has used up its changes of a
    /// minute, 503 when too many of them wait.
    pub async fn begin(&self, caller: &Caller) -> Result<Tx, ApiError> {
        self.count(caller)?;
        Ok(self.begin_checked(caller, Share::Management).await?.0)
    }

    /// A transaction of a caller who takes something back: it is not counted, and comes by all others.
    ///
    /// # Errors
    /// As [`Self::begin`], but for 429.
    pub async fn begin_urgent(&self, caller: &Caller) -> Result<Tx, ApiError> {
        Ok(self.begin_checked(caller, Share::Urgent).await?.0)
    }

    /// A transaction of a caller who has proven their password.
    ///
    /// # Errors
    /// As [`Self::begin`], and 401 when the account has another password by now.
    pub async fn begin_proven(&self, caller: &Caller, proven: &Proof) -> Result<Tx, ApiError> {
        self.count(caller)?;
        let (tx, hash) = self.begin_checked(caller, Share::Management).await?;
        if hash == proven.password_hash {
            Ok(tx)
        } else {
            Err(ApiError::InvalidCredentials)
        }
    }

    /// Counts a change that is asked for.
    fn count(&self, caller: &Caller) -> Result<(), ApiError> {
        let now = self.0.clock.monotonic();
        Ok(self.0.attempts.change(caller.account_id, now)?)
    }

    async fn begin_checked(
        &self,
        caller: &Caller,
        share: Share,
    ) -> Result<(Tx, PasswordHash), ApiError> {
        let mut tx = self.begin_locked(caller, share).await?;
        let (account, now) = ((caller.account_id, caller.role), self.0.clock.now());
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

    /// A transaction that has the lock of changes. The turn ends with the wait for it.
    async fn begin_locked(&self, caller: &Caller, share: Share) -> Result<Tx, ApiError> {
        let Rooms {
            database, crowds, ..
        } = &*self.0;
        let patience = database.deadline();
        let turn = crowds.change_turn(caller.account_id, share, patience);
        let _turn = turn.await?;
        let beginning = async {
            let mut tx = database.begin().await?;
            changes::lock(&mut tx).await?;
            Ok(tx)
        };
        share.around(beginning).await
    }
}
