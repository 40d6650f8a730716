//! The only SQL of the two-factor room.

use crate::{
    store::{Database, StoreError, Tx, affected, in_tx, read, write},
    types::{clock::Timestamp, ids::AccountId, secret::SecretDigest},
};

/// A secret that was not confirmed is replaced, one that was is kept.
const BEGIN: &str = "\
INSERT INTO two_factor (account_id, sealed, created_at, last_step, failures) \
VALUES ($1, $2, $3, 0, 0) ON CONFLICT (account_id) DO UPDATE SET \
sealed = excluded.sealed, created_at = excluded.created_at WHERE two_factor.confirmed_at IS NULL";

const FIND: &str = "\
SELECT sealed, created_at, confirmed_at, locked_until FROM two_factor WHERE account_id = $1";

const CONFIRM: &str = "\
UPDATE two_factor SET confirmed_at = $4, last_step = $3 \
WHERE account_id = $1 AND sealed = $2 AND confirmed_at IS NULL";

/// Each step counts once, and only after the last one.
const USE_STEP: &str = "\
UPDATE two_factor SET last_step = $3, failures = 0, locked_until = NULL \
WHERE account_id = $1 AND sealed = $2 AND confirmed_at IS NOT NULL AND last_step < $3 \
AND (locked_until IS NULL OR locked_until <= $4)";

const COUNT_FAILURE: &str = "\
UPDATE two_factor SET \
failures = CASE WHEN failures + 1 >= $4 THEN 0 ELSE failures + 1 END, \
locked_until = CASE WHEN failures + 1 >= $4 THEN $3 ELSE NULL END \
WHERE account_id = $1 AND (locked_until IS NULL OR locked_until <= $2)";

const END_ROW: &str = "\
UPDATE two_factor SET failures = 0, locked_until = NULL WHERE account_id = $1";

const INSERT_CODE: &str = "INSERT INTO recovery_codes (account_id, digest) VALUES ($1, $2)";

const USE_CODE: &str = "DELETE FROM recovery_codes WHERE account_id = $1 AND digest = $2";

const FORGET_CODES: &str = "DELETE FROM recovery_codes WHERE account_id = $1";

const REMOVE: &str = "DELETE FROM two_factor WHERE account_id = $1";

/// How many wrong codes in a row lock it.
const FAILURES: i64 = 5;

/// What the store holds of a second factor.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(super) struct Enrolled {
    pub(super) sealed: Vec<u8>,
    pub(super) created_at: Timestamp,
    pub(super) confirmed_at: Option<Timestamp>,
    pub(super) locked_until: Option<Timestamp>,
}

#[derive(Clone, Debug)]
pub(super) struct TwoFactorStore {
    database: Database,
}

impl TwoFactorStore {
    pub(super) const fn new(database: Database) -> Self {
        Self { database }
    }

    pub(super) async fn find(&self, account_id: AccountId) -> Result<Option<Enrolled>, StoreError> {
        read!(self.database, |connection| sqlx::query_as(FIND)
            .bind(account_id)
            .fetch_optional(connection))
    }

    pub(super) async fn count_failure(
        &self,
        account_id: AccountId,
        now: Timestamp,
        locked_until: Timestamp,
    ) -> Result<(), StoreError> {
        write!(self.database, |connection| affected(
            sqlx::query(COUNT_FAILURE)
                .bind(account_id)
                .bind(now)
                .bind(locked_until)
                .bind(FAILURES)
                .execute(connection)
        ))?;
        Ok(())
    }
}

/// Keeps a secret that is yet to be confirmed; whether it did, which it does not when one is.
pub(super) async fn begin(
    tx: &mut Tx,
    account_id: AccountId,
    sealed: &[u8],
    now: Timestamp,
) -> Result<bool, StoreError> {
    let begun = in_tx!(tx, |connection| affected(
        sqlx::query(BEGIN)
            .bind(account_id)
            .bind(sealed)
            .bind(now)
            .execute(connection)
    ))?;
    Ok(begun == 1)
}

/// Turns on the secret that was confirmed, if it is still the one that was begun with.
pub(super) async fn confirm(
    tx: &mut Tx,
    account_id: AccountId,
    sealed: &[u8],
    step: i64,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let confirmed = in_tx!(tx, |connection| affected(
        sqlx::query(CONFIRM)
            .bind(account_id)
            .bind(sealed)
            .bind(step)
            .bind(now)
            .execute(connection)
    ))?;
    Ok(confirmed == 1)
}

/// Uses up the code of a step; whether it was good.
pub(super) async fn use_step(
    tx: &mut Tx,
    account_id: AccountId,
    sealed: &[u8],
    step: i64,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let used = in_tx!(tx, |connection| affected(
        sqlx::query(USE_STEP)
            .bind(account_id)
            .bind(sealed)
            .bind(step)
            .bind(now)
            .execute(connection)
    ))?;
    Ok(used == 1)
}

/// Uses up a recovery code; whether it was good.
pub(super) async fn use_recovery_code(
    tx: &mut Tx,
    account_id: AccountId,
    digest: &SecretDigest,
) -> Result<bool, StoreError> {
    let used = in_tx!(tx, |connection| affected(
        sqlx::query(USE_CODE)
            .bind(account_id)
            .bind(digest)
            .execute(connection)
    ))?;
    Ok(used == 1)
}

/// Ends the row of wrong codes, and the lock that came of it.
pub(super) async fn end_row(tx: &mut Tx, account_id: AccountId) -> Result<(), StoreError> {
    in_tx!(tx, |connection| affected(
        sqlx::query(END_ROW).bind(account_id).execute(connection)
    ))?;
    Ok(())
}

pub(super) async fn insert_code(
    tx: &mut Tx,
    account_id: AccountId,
    digest: &SecretDigest,
) -> Result<(), StoreError> {
    in_tx!(tx, |connection| affected(
        sqlx::query(INSERT_CODE)
            .bind(account_id)
            .bind(digest)
            .execute(connection)
    ))?;
    Ok(())
}

pub(super) async fn forget_codes(tx: &mut Tx, account_id: AccountId) -> Result<(), StoreError> {
    in_tx!(tx, |connection| affected(
        sqlx::query(FORGET_CODES)
            .bind(account_id)
            .execute(connection)
    ))?;
    Ok(())
}

/// Removes the second factor and its recovery codes; whether there was one.
pub(super) async fn remove(tx: &mut Tx, account_id: AccountId) -> Result<bool, StoreError> {
    let removed = in_tx!(tx, |connection| affected(
        sqlx::query(REMOVE).bind(account_id).execute(connection)
    ))?;
    Ok(removed == 1)
}
