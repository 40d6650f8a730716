//! Proving who somebody is.

use std::sync::Arc;

use crate::{
    accounts::{AccountStatus, Accounts, LoginName, Proof},
    attempts::{Attempts, TooManyAttempts},
    audit::{Incident, Tally},
    middleware::client::Client,
    passwords::{HashError, Overloaded, Password, PasswordHash, Passwords, Turn, Verdict},
    sessions::{Opened, SessionKind, Sessions},
    store::{Database, StoreError, changes::Actor},
    types::clock::Clock,
};

/// What somebody presents to sign in.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Their e-mail address or username.
    pub name: LoginName,
    /// Their password.
    pub password: Password,
}

/// Why somebody is not signed in.
#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    /// The name, the password, or that the account can be used: which of them is not told.
    #[error("the credentials are not valid")]
    Invalid,
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

/// Signs people in. Clones share everything.
#[derive(Clone)]
pub struct SignIn {
    pub(crate) database: Database,
    pub(crate) accounts: Accounts,
    pub(crate) passwords: Passwords,
    pub(crate) sessions: Sessions,
    pub(crate) attempts: Arc<Attempts>,
    pub(crate) tally: Tally,
    pub(crate) clock: Clock,
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
        let Credentials { name, .. } = credentials;
        let now = self.clock.monotonic();
        let turn = self.passwords.enter()?;
        self.attempts.sign_in(client.address, name.as_str(), now)?;
        let outcome = self.prove(&turn, credentials, client, kind).await;
        if !matches!(outcome, Err(SignInError::Invalid)) {
            let now = self.clock.monotonic();
            self.attempts
                .sign_in_unfailed(client.address, name.as_str(), now);
        }
        outcome
    }

    async fn prove(
        &self,
        turn: &Turn,
        credentials: &Credentials,
        client: &Client,
        kind: SessionKind,
    ) -> Result<Opened, SignInError> {
        let Credentials { name, password } = credentials;
        let proof = self.accounts.find_proof(name).await?;
        let hash = proof.as_ref().map(|proof| &proof.password_hash);
        let verdict = turn.verify(password, hash).await?;
        let usable = proof
            .as_ref()
            .filter(|proof| verdict != Verdict::Wrong && proof.status == AccountStatus::Active);
        let Some(proven) = usable else {
            self.count_failure(proof.as_ref(), client);
            return Err(SignInError::Invalid);
        };
        let kept = match verdict {
            Verdict::RightButOutdated => turn.renew(password).await?,
            _ => proven.password_hash.clone(),
        };
        self.begin(proven, &kept, client, kind).await
    }

    async fn begin(
        &self,
        proven: &Proof,
        kept: &PasswordHash,
        client: &Client,
        kind: SessionKind,
    ) -> Result<Opened, SignInError> {
        let by = client.acting_as(Actor::Account(proven.account_id));
        let mut tx = self.database.begin().await?;
        if !self.accounts.claim(&mut tx, proven, kept).await? {
            return Err(SignInError::Invalid);
        }
        let opened = self.sessions.open(&mut tx, &by, proven.account_id, kind);
        let opened = opened.await?;
        tx.commit().await?;
        Ok(opened)
    }

    fn count_failure(&self, proof: Option<&Proof>, client: &Client) {
        let account_id = proof.map(|proof| proof.account_id);
        self.tally.count(Incident {
            event: "sign_in.failed",
            counted_by: client.address.to_string(),
            subject: account_id.map(|account_id| account_id.to_string()),
            account_id,
            site_id: None,
            address: Some(client.address),
            user_agent: client.user_agent.clone(),
        });
    }
}
