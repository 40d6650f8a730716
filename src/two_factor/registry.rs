//! The second factors: begun, confirmed, asked for, turned off.

use std::time::Duration;

use secrecy::SecretString;

use super::{
    code::{AppCode, Code, RecoveryCode, Secret},
    store::{self, Enrolled, TwoFactorStore},
};
use crate::{
    keys::{Keys, vault::VaultError},
    store::{
        Database, StoreError, Tx,
        changes::{self, AccountChange, Change, Context},
    },
    types::{
        clock::{Clock, Timestamp},
        ids::AccountId,
        randomness::Randomness,
    },
};

/// How long a secret that was begun with can be confirmed.
const PENDING_FOR: Duration = Duration::from_hours(1);

/// How many recovery codes an account is given.
const RECOVERY_CODES: usize = 10;

/// Why something about the second factor was refused.
#[derive(Debug, thiserror::Error)]
pub enum TwoFactorError {
    /// A code is needed.
    #[error("a code is needed")]
    CodeRequired,
    /// The code is wrong, or was used before.
    #[error("the code is not valid")]
    InvalidCode,
    /// Too many wrong codes came in a row.
    #[error("too many wrong codes")]
    Locked {
        /// How long that goes on.
        retry_after: Duration,
    },
    /// It is on already.
    #[error("two-factor is on already")]
    On,
    /// It is not on, or has not been begun.
    #[error("two-factor is not on")]
    Off,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The stored secret cannot be opened.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The secret cannot be written as a URL.
    #[error("the secret has no URL")]
    Url(#[from] totp_rs::TotpError),
}

/// What somebody is shown who begins: the secret, for their app.
pub struct Enrolment {
    /// The secret in base32.
    pub secret: SecretString,
    /// The same as a URL, for a QR code.
    pub otpauth_url: SecretString,
}

/// A code that is right, to be used up in the transaction of what it is for.
pub struct Presented {
    account_id: AccountId,
    kind: Kind,
}

/// A code that is right of a secret that is yet to be confirmed.
pub struct FirstCode {
    account_id: AccountId,
    sealed: Vec<u8>,
    step: i64,
}

impl Enrolled {
    fn refuse_locked(&self, now: Timestamp) -> Result<(), TwoFactorError> {
        match self.locked_until.filter(|until| *until > now) {
            Some(until) => Err(TwoFactorError::Locked {
                retry_after: now.distance(until),
            }),
            None => Ok(()),
        }
    }
}

enum Kind {
    Step { sealed: Vec<u8>, step: i64 },
    Recovery(RecoveryCode),
}

/// The second factors of a store. Clones share them.
#[derive(Clone)]
pub struct TwoFactor {
    store: TwoFactorStore,
    keys: Keys,
    clock: Clock,
    randomness: Randomness,
}

impl TwoFactor {
    /// Those of a store, sealed by the vault of `keys`.
    #[must_use]
    pub fn new(database: Database, keys: Keys, clock: Clock, randomness: Randomness) -> Self {
        Self {
            store: TwoFactorStore::new(database),
            keys,
            clock,
            randomness,
        }
    }

    /// Makes a secret for an account, in the place of one that was not confirmed.
    ///
    /// # Errors
    /// When it is on already, or the store fails.
    pub async fn begin(
        &self,
        tx: &mut Tx,
        account_id: AccountId,
        email: &str,
    ) -> Result<Enrolment, TwoFactorError> {
        let secret = Secret::generate(&self.randomness);
        let vault = self.keys.vault();
        let sealed = vault.seal(&purpose(account_id), secret.bytes(), &self.randomness);
        if !store::begin(tx, account_id, &sealed, self.clock.now()).await? {
            return Err(TwoFactorError::On);
        }
        Ok(Enrolment {
            secret: secret.base32(),
            otpauth_url: secret.otpauth_url(email)?,
        })
    }

    /// Judges a code of the secret that was begun with. Before the transaction of
    /// [`Self::confirm`]: one that waits for a second connection can keep all others waiting.
    ///
    /// # Errors
    /// When the code is wrong or too many were, nothing was begun in the last hour, or the store
    /// fails.
    pub async fn judge_first(
        &self,
        account_id: AccountId,
        code: &AppCode,
    ) -> Result<FirstCode, TwoFactorError> {
        let now = self.clock.now();
        let enrolled = self.store.find(account_id).await?;
        let enrolled = enrolled.ok_or(TwoFactorError::Off)?;
        if enrolled.confirmed_at.is_some() {
            return Err(TwoFactorError::On);
        }
        if enrolled.created_at <= now.before(PENDING_FOR) {
            return Err(TwoFactorError::Off);
        }
        enrolled.refuse_locked(now)?;
        match self.step(account_id, &enrolled, code)? {
            Some(step) => Ok(FirstCode {
                account_id,
                sealed: enrolled.sealed,
                step,
            }),
            None => Err(self.failed(account_id).await?),
        }
    }

    /// Turns it on. The recovery codes, to be shown once.
    ///
    /// # Errors
    /// When it was begun anew meanwhile, or the store fails.
    pub async fn confirm(
        &self,
        tx: &mut Tx,
        by: &Context,
        code: &FirstCode,
    ) -> Result<Vec<SecretString>, TwoFactorError> {
        let account_id = code.account_id;
        let now = self.clock.now();
        if !store::confirm(tx, account_id, &code.sealed, code.step, now).await? {
            return Err(TwoFactorError::InvalidCode);
        }
        self.record(tx, by, account_id, AccountChange::TwoFactorEnabled)
            .await?;
        Ok(self.give_codes(tx, account_id).await?)
    }

    /// Judges the code that somebody presents, whose password is right. None when it is off.
    ///
    /// # Errors
    /// When a code is needed and there is none, it is wrong, or too many were.
    pub async fn judge(
        &self,
        account_id: AccountId,
        code: Option<&Code>,
    ) -> Result<Option<Presented>, TwoFactorError> {
        let enrolled = self.store.find(account_id).await?;
        let Some(enrolled) = enrolled.filter(|enrolled| enrolled.confirmed_at.is_some()) else {
            return Ok(None);
        };
        let code = match code.ok_or(TwoFactorError::CodeRequired)? {
            Code::App(code) => code,
            Code::Recovery(code) => {
                let kind = Kind::Recovery(code.clone());
                return Ok(Some(Presented { account_id, kind }));
            }
        };
        let now = self.clock.now();
        enrolled.refuse_locked(now)?;
        match self.step(account_id, &enrolled, code)? {
            Some(step) => {
                let sealed = enrolled.sealed;
                let kind = Kind::Step { sealed, step };
                Ok(Some(Presented { account_id, kind }))
            }
            None => Err(self.failed(account_id).await?),
        }
    }

    /// Judges the code of somebody for whom it must be on.
    ///
    /// # Errors
    /// When it is off, the code is wrong, or too many were.
    pub async fn require(
        &self,
        account_id: AccountId,
        code: &Code,
    ) -> Result<Presented, TwoFactorError> {
        let presented = self.judge(account_id, Some(code)).await?;
        presented.ok_or(TwoFactorError::Off)
    }

    /// Uses a code up, in the transaction of what it is presented for. Whether it was still good;
    /// if not, undo the transaction and call [`Self::failed`].
    ///
    /// # Errors
    /// When the store fails.
    pub async fn use_up(
        &self,
        tx: &mut Tx,
        by: &Context,
        presented: &Presented,
    ) -> Result<bool, StoreError> {
        let account_id = presented.account_id;
        match &presented.kind {
            Kind::Step { sealed, step } => {
                store::use_step(tx, account_id, sealed, *step, self.clock.now()).await
            }
            Kind::Recovery(code) => {
                // In this order, as those who remove both take them. Undone if the code is no good.
                store::end_row(tx, account_id).await?;
                let used = store::use_recovery_code(tx, account_id, &code.digest()).await?;
                if used {
                    let change = AccountChange::RecoveryCodeUsed;
                    self.record(tx, by, account_id, change).await?;
                }
                Ok(used)
            }
        }
    }

    /// Counts a wrong code; the fifth in a row locks it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn failed(&self, account_id: AccountId) -> Result<TwoFactorError, StoreError> {
        self.store
            .count_failure(account_id, self.clock.now())
            .await?;
        Ok(TwoFactorError::InvalidCode)
    }

    /// Replaces the recovery codes.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn replace_codes(
        &self,
        tx: &mut Tx,
        by: &Context,
        account_id: AccountId,
    ) -> Result<Vec<SecretString>, StoreError> {
        let change = AccountChange::RecoveryCodesReplaced;
        self.record(tx, by, account_id, change).await?;
        self.give_codes(tx, account_id).await
    }

    /// Turns it off, or forgets what was begun. Whether there was anything.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn disable(
        &self,
        tx: &mut Tx,
        by: &Context,
        account_id: AccountId,
    ) -> Result<bool, StoreError> {
        disable(tx, by, account_id, self.clock.now(), &self.randomness).await
    }

    async fn give_codes(
        &self,
        tx: &mut Tx,
        account_id: AccountId,
    ) -> Result<Vec<SecretString>, StoreError> {
        store::forget_codes(tx, account_id).await?;
        let mut shown = Vec::with_capacity(RECOVERY_CODES);
        for _ in 0..RECOVERY_CODES {
            let code = RecoveryCode::generate(&self.randomness);
            store::insert_code(tx, account_id, &code.digest()).await?;
            shown.push(code.reveal());
        }
        Ok(shown)
    }

    /// The step that a code is of, by the sealed secret.
    fn step(
        &self,
        account_id: AccountId,
        enrolled: &Enrolled,
        code: &AppCode,
    ) -> Result<Option<i64>, VaultError> {
        let vault = self.keys.vault();
        let secret = Secret::new(&vault.open(&purpose(account_id), &enrolled.sealed)?);
        Ok(secret.step_of(code, self.clock.now()))
    }

    async fn record(
        &self,
        tx: &mut Tx,
        by: &Context,
        account_id: AccountId,
        change: AccountChange,
    ) -> Result<(), StoreError> {
        let change = Change::OfAccount(account_id, change);
        changes::record(tx, by, &change, self.clock.now(), &self.randomness).await
    }
}

/// Turns it off for an account. Needs no key, so that an operator can do it without one.
///
/// # Errors
/// When the store fails.
pub async fn disable(
    tx: &mut Tx,
    by: &Context,
    account_id: AccountId,
    now: Timestamp,
    randomness: &Randomness,
) -> Result<bool, StoreError> {
    let was_there = store::remove(tx, account_id).await?;
    if was_there {
        let change = Change::OfAccount(account_id, AccountChange::TwoFactorDisabled);
        changes::record(tx, by, &change, now, randomness).await?;
    }
    Ok(was_there)
}

/// What a sealed secret is bound to, so that one account's cannot be put in the place of another's.
fn purpose(account_id: AccountId) -> String {
    format!("two-factor:{account_id}")
}
