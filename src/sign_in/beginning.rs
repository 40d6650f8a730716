//! Changes that somebody at an unlocked screen must not make: they ask for the password again, and for
//! a code.

use axum::extract::FromRef;

use super::SignIn;
use crate::{
    callers::{Caller, Transactions},
    error::ApiError,
    passwords::Password,
    store::Tx,
    two_factor::{Presented, TwoFactorError},
};

impl SignIn {
    /// Begins a change that takes the password and what is judged of a code, none where none is
    /// needed. The code is used up in it, and one that is not good counts as one of a sign-in does.
    ///
    /// # Errors
    /// When one of them is wrong, a limit is reached, or the store fails.
    pub(crate) async fn begin_with_code(
        &self,
        caller: &Caller,
        password: &Password,
        judged: impl Future<Output = Result<Option<Presented>, TwoFactorError>>,
    ) -> Result<Tx, ApiError> {
        let proven = self.confirm(caller, password).await?;
        let presented = self.confirm_code(caller, judged).await?;
        let transactions = Transactions::from_ref(&self.0);
        let mut tx = transactions.begin_proven(caller, &proven).await?;
        let Some(presented) = presented else {
            return Ok(tx);
        };
        let two_factor = &self.0.two_factor;
        let using_up = async move {
            let by = caller.context();
            if two_factor.use_up(&mut tx, &by, &presented).await? {
                return Ok(tx);
            }
            drop(tx);
            Err(two_factor.failed(caller.account_id).await?)
        };
        Ok(self.confirm_code(caller, using_up).await?)
    }
}
