//! The only SQL of the sessions room.

use std::net::IpAddr;

use super::{
    refresh_token::Ticket,
    session::{Session, SessionKind},
};
use crate::{
    accounts::Role,
    store::{Database, StoreError, Tx, affected, in_tx, only_row, read, write},
    types::{
        clock::Timestamp,
        ids::{AccountId, SessionId},
    },
};

const INSERT: &str = "\
INSERT INTO sessions (session_id, account_id, kind, generation, rotated_at, address, user_agent, \
created_at, last_used_at, expires_at) VALUES ($1, $2, $3, 1, $4, $5, $6, $4, $4, $7)";

/// A session that has not ended, of an account that can be used.
const FIND_LIVE: &str = "\
SELECT sessions.account_id, sessions.kind, sessions.last_used_at, accounts.role FROM sessions \
JOIN accounts ON accounts.account_id = sessions.account_id \
WHERE sessions.session_id = $1 AND sessions.expires_at > $2 AND accounts.status = 'active'";

const TOUCH: &str = "\
UPDATE sessions SET last_used_at = $2 WHERE session_id = $1 AND last_used_at < $2";

/// The current generation rises; the one before it, soon after the rise, changes nothing and is
/// told the current one. Both in one statement, so that nothing comes between.
const REFRESH: &str = "\
UPDATE sessions SET \
generation = CASE WHEN generation = $2 THEN generation + 1 ELSE generation END, \
rotated_at = CASE WHEN generation = $2 THEN $3 ELSE rotated_at END, \
expires_at = CASE WHEN generation <> $2 THEN expires_at \
WHEN created_at + $6 < $5 THEN created_at + $6 ELSE $5 END, \
last_used_at = $3 \
WHERE session_id = $1 AND kind = 'refreshed' AND expires_at > $3 \
AND (generation = $2 OR (generation = $2 + 1 AND rotated_at >= $4)) \
AND EXISTS (SELECT 1 FROM accounts \
WHERE accounts.account_id = sessions.account_id AND accounts.status = 'active') \
RETURNING account_id, generation";

/// Only what [`REFRESH`] does not take, also when the token was replaced in between.
const END_REUSED: &str = "\
DELETE FROM sessions WHERE session_id = $1 AND kind = 'refreshed' AND expires_at > $3 \
AND (generation > $2 + 1 OR (generation = $2 + 1 AND rotated_at < $4)) RETURNING account_id";

const LIST: &str = "\
SELECT session_id, kind, address, user_agent, created_at, last_used_at, expires_at FROM sessions \
WHERE account_id = $1 AND expires_at > $2 ORDER BY session_id DESC";

const END: &str = "DELETE FROM sessions WHERE session_id = $1 AND account_id = $2";

const END_OTHERS: &str = "DELETE FROM sessions WHERE account_id = $1 AND session_id <> $2";

/// Those that have ended by themselves are left to the clean-up.
const END_OLDEST: &str = "\
DELETE FROM sessions WHERE account_id = $1 AND expires_at > $2 AND session_id NOT IN \
(SELECT session_id FROM sessions WHERE account_id = $1 AND expires_at > $2 \
ORDER BY session_id DESC LIMIT $3) RETURNING session_id";

const END_ALL: &str = "DELETE FROM sessions WHERE account_id = $1";

const SWEEP: &str = "\
DELETE FROM sessions WHERE session_id IN \
(SELECT session_id FROM sessions WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2)";

/// What a token of a session proves.
#[derive(Clone, Copy, Debug, sqlx::FromRow)]
pub(super) struct LiveRow {
    pub(super) account_id: AccountId,
    #[sqlx(try_from = "String")]
    pub(super) kind: SessionKind,
    pub(super) last_used_at: Timestamp,
    #[sqlx(try_from = "String")]
    pub(super) role: Role,
}

/// A session after its refresh.
#[derive(Clone, Copy, Debug, sqlx::FromRow)]
pub(super) struct RefreshedRow {
    pub(super) account_id: AccountId,
    pub(super) generation: i64,
}

#[derive(sqlx::FromRow)]
struct SessionRow {
    session_id: SessionId,
    #[sqlx(try_from = "String")]
    kind: SessionKind,
    address: Option<String>,
    user_agent: Option<String>,
    created_at: Timestamp,
    last_used_at: Timestamp,
    expires_at: Timestamp,
}

impl From<SessionRow> for Session {
    fn from(row: SessionRow) -> Self {
        Self {
            id: row.session_id,
            kind: row.kind,
            address: row.address,
            user_agent: row.user_agent,
            created_at: row.created_at,
            last_used_at: row.last_used_at,
            expires_at: row.expires_at,
        }
    }
}

/// A session that is to be made.
pub(super) struct NewSession<'a> {
    pub(super) session_id: SessionId,
    pub(super) account_id: AccountId,
    pub(super) kind: SessionKind,
    pub(super) address: Option<IpAddr>,
    pub(super) user_agent: Option<&'a str>,
    pub(super) now: Timestamp,
    pub(super) expires_at: Timestamp,
}

/// When a refresh token is good: the moments that decide it.
#[derive(Clone, Copy)]
pub(super) struct RefreshTimes {
    pub(super) now: Timestamp,
    /// A generation that was replaced since then is still taken.
    pub(super) replaced_since: Timestamp,
    /// When the session ends unless it is refreshed again.
    pub(super) expires_at: Timestamp,
    /// How long after its making it ends in any case, in microseconds.
    pub(super) longest_micros: i64,
}

#[derive(Clone, Debug)]
pub(super) struct SessionStore {
    database: Database,
}

impl SessionStore {
    pub(super) const fn new(database: Database) -> Self {
        Self { database }
    }

    pub(super) const fn database(&self) -> &Database {
        &self.database
    }

    pub(super) async fn find_live(
        &self,
        session_id: SessionId,
        now: Timestamp,
    ) -> Result<Option<LiveRow>, StoreError> {
        read!(self.database, |connection| sqlx::query_as(FIND_LIVE)
            .bind(session_id)
            .bind(now)
            .fetch_optional(connection))
    }

    pub(super) async fn touch(
        &self,
        session_id: SessionId,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        write!(self.database, |connection| affected(
            sqlx::query(TOUCH)
                .bind(session_id)
                .bind(now)
                .execute(connection)
        ))?;
        Ok(())
    }

    pub(super) async fn refresh(
        &self,
        ticket: Ticket,
        times: RefreshTimes,
    ) -> Result<Option<RefreshedRow>, StoreError> {
        write!(self.database, |connection| only_row(
            sqlx::query_as(REFRESH)
                .bind(ticket.session_id)
                .bind(ticket.generation)
                .bind(times.now)
                .bind(times.replaced_since)
                .bind(times.expires_at)
                .bind(times.longest_micros)
                .fetch_all(connection)
        ))
    }

    pub(super) async fn list(
        &self,
        account_id: AccountId,
        now: Timestamp,
    ) -> Result<Vec<Session>, StoreError> {
        let rows: Vec<SessionRow> = read!(self.database, |connection| sqlx::query_as(LIST)
            .bind(account_id)
            .bind(now)
            .fetch_all(connection))?;
        Ok(rows.into_iter().map(Session::from).collect())
    }

    /// Removes up to `limit` sessions that have ended.
    pub(super) async fn sweep(&self, now: Timestamp, limit: i64) -> Result<u64, StoreError> {
        write!(self.database, |connection| affected(
            sqlx::query(SWEEP).bind(now).bind(limit).execute(connection)
        ))
    }
}

pub(super) async fn insert(tx: &mut Tx, session: &NewSession<'_>) -> Result<(), StoreError> {
    in_tx!(tx, |connection| affected(
        sqlx::query(INSERT)
            .bind(session.session_id)
            .bind(session.account_id)
            .bind(session.kind.as_str())
            .bind(session.now)
            .bind(session.address.map(|address| address.to_string()))
            .bind(session.user_agent)
            .bind(session.expires_at)
            .execute(connection)
    ))?;
    Ok(())
}

/// Ends a session whose refresh token has been replaced; whose it was.
pub(super) async fn end_reused(
    tx: &mut Tx,
    ticket: Ticket,
    now: Timestamp,
    replaced_since: Timestamp,
) -> Result<Option<AccountId>, StoreError> {
    let ended: Option<(AccountId,)> = in_tx!(tx, |connection| sqlx::query_as(END_REUSED)
        .bind(ticket.session_id)
        .bind(ticket.generation)
        .bind(now)
        .bind(replaced_since)
        .fetch_optional(connection))?;
    Ok(ended.map(|(account_id,)| account_id))
}

/// Ends a session of an account; whether there was one.
pub(super) async fn end(
    tx: &mut Tx,
    account_id: AccountId,
    session_id: SessionId,
) -> Result<bool, StoreError> {
    let ended = in_tx!(tx, |connection| affected(
        sqlx::query(END)
            .bind(session_id)
            .bind(account_id)
            .execute(connection)
    ))?;
    Ok(ended == 1)
}

/// Ends every session of an account but one; how many.
///
/// # Errors
/// When the store fails.
pub async fn end_others(
    tx: &mut Tx,
    account_id: AccountId,
    kept: SessionId,
) -> Result<u64, StoreError> {
    in_tx!(tx, |connection| affected(
        sqlx::query(END_OTHERS)
            .bind(account_id)
            .bind(kept)
            .execute(connection)
    ))
}

/// Ends the oldest sessions of an account that go on, but for the `kept` newest; which.
pub(super) async fn end_oldest(
    tx: &mut Tx,
    account_id: AccountId,
    now: Timestamp,
    kept: i64,
) -> Result<Vec<SessionId>, StoreError> {
    let ended: Vec<(SessionId,)> = in_tx!(tx, |connection| sqlx::query_as(END_OLDEST)
        .bind(account_id)
        .bind(now)
        .bind(kept)
        .fetch_all(connection))?;
    Ok(ended.into_iter().map(|(session_id,)| session_id).collect())
}

/// Ends every session of an account; how many.
///
/// # Errors
/// When the store fails.
pub async fn end_all(tx: &mut Tx, account_id: AccountId) -> Result<u64, StoreError> {
    in_tx!(tx, |connection| affected(
        sqlx::query(END_ALL).bind(account_id).execute(connection)
    ))
}
