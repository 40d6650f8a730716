//! Which copy of which data a server of PostgreSQL has.

use sqlx::{PgConnection, Row, postgres::PgRow};

use super::refusal::Refusal;

/// Which copy of which data a server that takes writes has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// A number that was drawn when the data was made. A replica has its primary's; what was dumped
    /// and restored, or upgraded, has another.
    pub(crate) system: i64,
    /// How often it was promoted, on its way through all its servers.
    pub(crate) timeline: i64,
    /// When the server was started, in its own microseconds.
    pub(super) started: i64,
}

/// The timeline is that which is written to now. The control file's is the last checkpoint's, and
/// lags behind a promotion. One text and nothing prepared: a pooler may hand the session on.
const IDENTIFY: &str = "\
SELECT system_identifier, \
  CASE WHEN NOT pg_is_in_recovery() AND current_setting('transaction_read_only') = 'off' \
    THEN pg_walfile_name(pg_current_wal_lsn()) END, \
  (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::BIGINT \
FROM pg_control_system()";

/// A setting of a role counts when it signs in, a privilege when it is used.
const GRANT: &str = "\
SELECT format('GRANT EXECUTE ON FUNCTION pg_control_system(), pg_current_wal_lsn(), \
  pg_walfile_name(pg_lsn), pg_postmaster_start_time() TO %I', current_user)";

const WHY_READ_ONLY: &str = "\
SELECT CASE WHEN NOT pg_is_in_recovery() THEN coalesce(\
  (SELECT CASE source \
    WHEN 'user' THEN format('ALTER ROLE %I', session_user) \
    WHEN 'database' THEN format('ALTER DATABASE %I', current_database()) \
    WHEN 'database user' THEN \
      format('ALTER ROLE %I IN DATABASE %I', session_user, current_database()) END \
  FROM pg_settings WHERE name = 'default_transaction_read_only'), '') END";

/// Which copy of the data a server has; none if it takes no writes: sessions of a standby are
/// read-only, and so are those of a server that was told to be.
///
/// # Errors
/// When it does not tell.
pub(in crate::store) async fn identify(
    connection: &mut PgConnection,
) -> Result<Option<Identity>, sqlx::Error> {
    let row = match sqlx::raw_sql(IDENTIFY).fetch_one(&mut *connection).await {
        Ok(row) => row,
        Err(error) => return Err(explained(error, connection).await),
    };
    let Some(segment) = row.try_get::<Option<&str>, _>(1)? else {
        return Ok(None);
    };
    Ok(Some(Identity {
        system: row.try_get(0)?,
        timeline: timeline_of(segment)?,
        started: row.try_get(2)?,
    }))
}

/// A segment's name begins with its timeline, in eight hexadecimal digits.
fn timeline_of(segment: &str) -> Result<i64, sqlx::Error> {
    let digits = segment.get(..8).unwrap_or(segment);
    i64::from_str_radix(digits, 16).map_err(|error| sqlx::Error::Decode(error.into()))
}

/// A refusal in the place of an error that says that the server may not or cannot tell.
async fn explained(error: sqlx::Error, connection: &mut PgConnection) -> sqlx::Error {
    let Some(said) = error.as_database_error() else {
        return error;
    };
    let advice = match said.code().as_deref() {
        // Privileges on functions are a database's own.
        Some("42501") => match text(connection, GRANT).await {
            Ok(grant) => format!("in this database, as its superuser: {grant}"),
            Err(error) => return error,
        },
        // It is not supported, or not there.
        Some("0A000" | "42883") => {
            "use PostgreSQL itself: what is only like it cannot be told from an old primary"
                .to_owned()
        }
        _ => return error,
    };
    Refusal::nameless(said.message(), advice).into()
}

/// Why a server that answers takes no writes, as well as it can tell.
pub(super) async fn read_only(connection: &mut PgConnection) -> sqlx::Error {
    let row = sqlx::raw_sql(WHY_READ_ONLY).fetch_one(connection).await;
    let setting: Result<Option<String>, _> = row.and_then(|row: PgRow| row.try_get(0));
    match setting {
        Err(error) => error,
        Ok(None) => Refusal::read_only(
            "the server is read-only, as a standby is",
            "name the primary in database.url (or database.urls), or promote this server",
        )
        .into(),
        Ok(Some(of)) => Refusal::read_only(
            "the server is read-only, by its setting default_transaction_read_only",
            if of.is_empty() {
                "turn it off, unless it keeps an old primary from being written".to_owned()
            } else {
                format!(
                    "{of} RESET default_transaction_read_only, unless it keeps an old primary from \
                     being written"
                )
            },
        )
        .into(),
    }
}

/// Whether two connections lead to one database of one server: a lock that one of them takes, and
/// keeps, is then not to be had by the other. A server may have several names, and a copy of it all
/// else that it would tell.
pub(in crate::store) async fn are_on_one_server(
    one: &mut PgConnection,
    other: &mut PgConnection,
) -> Result<bool, sqlx::Error> {
    let key: i64 = sqlx::raw_sql(
        "WITH drawn AS MATERIALIZED (SELECT (random() * 9e18)::BIGINT AS key) \
         SELECT key, pg_advisory_lock(key) FROM drawn",
    )
    .fetch_one(one)
    .await?
    .try_get(0)?;
    let is_free: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)")
        .bind(key)
        .fetch_one(other)
        .await?;
    Ok(!is_free)
}

async fn text(
    connection: &mut PgConnection,
    question: &'static str,
) -> Result<String, sqlx::Error> {
    let row: PgRow = sqlx::raw_sql(question).fetch_one(connection).await?;
    row.try_get(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeline_is_hexadecimal() {
        let of = |segment| timeline_of(segment).ok();
        assert_eq!(of("000000010000000000000001"), Some(1));
        assert_eq!(of("0000001A00000000000000FF"), Some(26));
        assert_eq!(of("FFFFFFFF0000000000000001"), Some(0xffff_ffff));
        assert_eq!(of(""), None);
        assert_eq!(of("zzzzzzzz0000000000000001"), None);
    }
}
