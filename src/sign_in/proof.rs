//! Proving who somebody is.

use axum::extract::FromRef;

use crate::{
    accounts::{AccountStatus, LoginName, Proof},
    attempts::{AddressKey, TooManyAttempts},
    audit::Incident,
    callers::Caller,
    middleware::client::Client,
    passwords::{HashError, Overloaded, Password, PasswordHash, Turn, Verdict, Whose},
    sessions::{Opened, SessionKind},
    state::{AppState, Rooms},
    store::{StoreError, changes::Actor},
    two_factor::{Code, TwoFactorError},
    types::ids::AccountId,
};

/// What somebody presents to sign in.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Their e-mail address or username.
    pub name: LoginName,
    /// Their password.
    pub password: Password,
    /// A code of their app, or a recovery code.
    pub code: Option<Code>,
}

/// Why somebody is not signed in.
#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    /// The name, the password, or that the account can be used: which of them is not told.
    #[error("the credentials are not valid")]
    Invalid,
    /// The second factor.
    #[error(transparent)]
    TwoFactor(#[from] TwoFactorError),
    /// Too many failures.
    #[error(transparent)]
    TooManyAttempts(#[from] TooManyAttempts),
    /// Too much waits.
    #[error(transparent)]
    Overloaded(#[from] Overloaded),
    /// A password could not be compared.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl SignInError {
    /// Whether somebody guessed, and guessed wrong.
    const fn is_failure(&self) -> bool {
        matches!(
            self,
            Self::Invalid | Self::TwoFactor(TwoFactorError::InvalidCode)
        )
    }
}

/// Signs people in.
#[derive(Clone)]
pub struct SignIn(pub(super) AppState);

impl FromRef<AppState> for SignIn {
    fn from_ref(state: &AppState) -> Self {
        Self(state.clone())
    }
}

impl SignIn {
    /// Begins a session for whoever proves to be an account that can be used.
    ///
    /// # Errors
    /// When nobody is proven, a limit is reached, or the store fails.
    pub async fn open(
        &self,
        credentials: &Credentials,
        client: &Client,
        kind: SessionKind,
    ) -> Result<Opened, SignInError> {
        let attempt = self.limited_by_address(client, async || {
            let whose = Whose::Named(credentials.name.as_str().to_owned(), client.address);
            let turn = self.0.passwords.enter(whose)?;
            // Another sign-in may have renewed the hash meanwhile, which is then read again.
            for _ in 0..2 {
                let opened = self.try_open(&turn, credentials, client, kind).await?;
                if let Some(opened) = opened {
                    return Ok(opened);
                }
            }
            Err(SignInError::Invalid)
        });
        self.limited_by_name(&credentials.name, attempt).await
    }

    /// None when the password that was proven is no longer the account's.
    async fn try_open(
        &self,
        turn: &Turn,
        credentials: &Credentials,
        client: &Client,
        kind: SessionKind,
    ) -> Result<Option<Opened>, SignInError> {
        let proof = self.0.accounts.find_proof(&credentials.name).await?;
        let password = &credentials.password;
        let (proven, kept) = self.prove(turn, password, proof, client).await?;
        let account_id = proven.account_id;
        let code = credentials.code.as_ref();
        let presented = self.0.two_factor.judge(account_id, code).await;
        let presented = presented.map_err(|error| self.refused(error, account_id, client))?;
        let by = client.acting_as(Actor::Account(account_id));
        let mut tx = self.0.database.begin().await?;
        if !self.0.accounts.claim(&mut tx, &proven, &kept).await? {
            return Ok(None);
        }
        if let Some(presented) = &presented
            && !self.0.two_factor.use_up(&mut tx, &by, presented).await?
        {
            drop(tx);
            let failed = self.0.two_factor.failed(account_id).await?;
            return Err(self.refused(failed, account_id, client));
        }
        let sessions = &self.0.sessions;
        let opened = sessions.open(&mut tx, &by, account_id, kind).await?;
        tx.commit().await?;
        Ok(Some(opened))
    }

    /// Asks somebody who is signed in for their password again. What it was held against.
    ///
    /// # Errors
    /// When it is wrong, a limit is reached, or the store fails.
    pub async fn confirm(
        &self,
        caller: &Caller,
        password: &Password,
    ) -> Result<Proof, SignInError> {
        self.limited_by_address(&caller.client, async || {
            let turn = self.0.passwords.enter(Whose::Account(caller.account_id))?;
            let proof = self.0.accounts.find_proof_by_id(caller.account_id).await?;
            let proven = self.prove(&turn, password, proof, &caller.client).await?;
            Ok(proven.0)
        })
        .await
    }

    /// Judges a code of somebody who is signed in, as one who signs in is judged: wrong ones are
    /// limited by address and counted.
    ///
    /// # Errors
    /// When it is wrong, a limit is reached, or the store fails.
    pub async fn confirm_code<T>(
        &self,
        caller: &Caller,
        judged: impl Future<Output = Result<T, TwoFactorError>>,
    ) -> Result<T, SignInError> {
        let (account_id, client) = (caller.account_id, &caller.client);
        self.limited_by_address(client, async || {
            let outcome = judged.await;
            outcome.map_err(|error| self.refused(error, account_id, client))
        })
        .await
    }

    /// Counts an attempt under a name before it is made, and takes it back unless it failed.
    ///
    /// With the name used up a password is still looked at, and only a failure is refused for it:
    /// strangers who guess must not lock the owner of the name out.
    async fn limited_by_name<T>(
        &self,
        name: &LoginName,
        attempt: impl Future<Output = Result<T, SignInError>>,
    ) -> Result<T, SignInError> {
        let Rooms {
            attempts, clock, ..
        } = &*self.0;
        let under_name = attempts.sign_in_as(name.as_str(), clock.monotonic());
        let outcome = attempt.await;
        match (&outcome, under_name) {
            (Err(error), Err(refused)) if error.is_failure() => return Err(refused.into()),
            (Err(error), Ok(())) if error.is_failure() => {}
            (_, Ok(())) => attempts.sign_in_as_unfailed(name.as_str(), clock.monotonic()),
            (_, Err(_)) => {}
        }
        outcome
    }

    /// Counts an attempt of a client's address before it is made, and takes it back unless it
    /// failed.
    async fn limited_by_address<T>(
        &self,
        client: &Client,
        attempt: impl AsyncFnOnce() -> Result<T, SignInError>,
    ) -> Result<T, SignInError> {
        let Rooms {
            attempts, clock, ..
        } = &*self.0;
        attempts.sign_in(client.address, clock.monotonic())?;
        let outcome = attempt().await;
        let has_failed = outcome.as_ref().is_err_and(SignInError::is_failure);
        if !has_failed {
            attempts.sign_in_unfailed(client.address, clock.monotonic());
        }
        outcome
    }

    /// Holds a password against what there is. With the hash to keep, which is a new one when the
    /// old one has other parameters than those of today.
    async fn prove(
        &self,
        turn: &Turn,
        password: &Password,
        proof: Option<Proof>,
        client: &Client,
    ) -> Result<(Proof, PasswordHash), SignInError> {
        let hash = proof.as_ref().map(|proof| &proof.password_hash);
        let verdict = turn.verify(password, hash).await?;
        let (account_id, proven) = match proof {
            Some(proof) if verdict != Verdict::Wrong && proof.status == AccountStatus::Active => {
                (Some(proof.account_id), Some(proof))
            }
            other => (other.map(|proof| proof.account_id), None),
        };
        let Some(proven) = proven else {
            self.count_failure(account_id, client);
            return Err(SignInError::Invalid);
        };
        let kept = match verdict {
            Verdict::RightButOutdated => turn.renew(password).await?,
            Verdict::Right | Verdict::Wrong => proven.password_hash.clone(),
        };
        Ok((proven, kept))
    }

    /// Counts what was refused for the second factor, unless it only asks for a code.
    fn refused(
        &self,
        error: TwoFactorError,
        account_id: AccountId,
        client: &Client,
    ) -> SignInError {
        if matches!(
            error,
            TwoFactorError::InvalidCode | TwoFactorError::Locked { .. }
        ) {
            self.count_failure(Some(account_id), client);
        }
        error.into()
    }

    fn count_failure(&self, account_id: Option<AccountId>, client: &Client) {
        self.0.tally.count(Incident {
            event: "sign_in.failed",
            counted_by: AddressKey::from(client.address).to_string(),
            subject: account_id.map(|account_id| account_id.to_string()),
            account_id,
            site_id: None,
            address: Some(client.address),
            user_agent: client.user_agent.clone(),
        });
    }
}
