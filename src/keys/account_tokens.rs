//! Tokens of accounts, by the keys at work.

use super::{
    keyring::{Keys, KeysError},
    signer::{AccountClaims, UnverifiedAccountToken},
    vault::Vault,
};

impl Keys {
    /// Signs a token of an account with the key whose turn it is.
    ///
    /// # Errors
    /// When there is no such key, or the store must be asked and fails.
    pub async fn sign_for_account(&self, claims: &AccountClaims) -> Result<String, KeysError> {
        let keyset = self.0.current().await?;
        let key = keyset.signing(self.0.clock.now());
        Ok(key
            .ok_or(KeysError::NoSigningKey)?
            .sign_for_account(claims)?)
    }

    /// What a token of an account says, if a live key of ours signed it and it has not expired. Its
    /// session is not looked at.
    ///
    /// # Errors
    /// When the store must be asked and fails.
    pub async fn verify_for_account(
        &self,
        token: &str,
    ) -> Result<Option<AccountClaims>, KeysError> {
        let Ok(token) = UnverifiedAccountToken::parse(token) else {
            return Ok(None);
        };
        let Some(kid) = token.kid() else {
            return Ok(None);
        };
        let keyset = self.0.knowing(kid).await?;
        let now = self.0.clock.now();
        let claims = keyset
            .verifying(kid, now)
            .and_then(|usable| usable.key.verify_for_account(&token).ok());
        Ok(claims.filter(|claims| now < claims.expires_at))
    }

    /// Where other rooms keep what must not be readable in the store.
    pub(crate) fn vault(&self) -> &Vault {
        &self.0.vault
    }
}
