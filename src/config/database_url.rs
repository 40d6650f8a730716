//! The database's URL, whose password is shown to nobody.

use std::{borrow::Cow, fmt, str::FromStr};

use secrecy::{ExposeSecret, SecretString};
use serde::{Serialize, Serializer};
use sqlx::{postgres::PgConnectOptions, sqlite::SqliteConnectOptions};
use url::{Url, form_urlencoded};

use super::url_parameters::require_taken;

/// Where the data is: an embedded SQLite file or a PostgreSQL database.
///
/// Debug, `Display` and `Serialize` show it with `[secret]` in the password's place.
#[derive(Clone)]
pub struct DatabaseUrl {
    url: SecretString,
    redacted: String,
    kind: DatabaseKind,
}

/// The two kinds of store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DatabaseKind {
    /// A PostgreSQL server, for one instance or many.
    Postgres,
    /// A file of this one instance.
    Sqlite,
}

/// Why a text is no database URL; never quotes it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidDatabaseUrl(Cow<'static, str>);

impl InvalidDatabaseUrl {
    const fn new(problem: &'static str) -> Self {
        Self(Cow::Borrowed(problem))
    }
}

impl DatabaseUrl {
    /// Which kind of store it names.
    #[must_use]
    pub const fn kind(&self) -> DatabaseKind {
        self.kind
    }

    /// The URL with its password, for the driver alone.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.url.expose_secret()
    }

    /// The URL with `[secret]` in the password's place.
    #[must_use]
    pub fn redacted(&self) -> &str {
        &self.redacted
    }
}

impl FromStr for DatabaseUrl {
    type Err = InvalidDatabaseUrl;

    fn from_str(text: &str) -> Result<Self, InvalidDatabaseUrl> {
        let (redacted, kind) = if text.starts_with("sqlite:") {
            check_sqlite(text)?;
            (text.to_owned(), DatabaseKind::Sqlite)
        } else if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            (redact_postgres(text)?, DatabaseKind::Postgres)
        } else {
            return Err(InvalidDatabaseUrl::new(
                "must begin with `sqlite:`, `postgres://` or `postgresql://`",
            ));
        };
        Ok(Self {
            url: text.into(),
            redacted,
            kind,
        })
    }
}

fn check_sqlite(text: &str) -> Result<(), InvalidDatabaseUrl> {
    let (_, parameters) = text.split_once('?').unwrap_or((text, ""));
    if parameters.contains("memory") {
        return Err(IN_MEMORY);
    }
    if !matches!(parameters, "" | "mode=rw" | "mode=rwc") {
        return Err(InvalidDatabaseUrl::new(
            "may have no parameter but `mode=rwc`: journal, locks and cache are the service's own",
        ));
    }
    let options = SqliteConnectOptions::from_str(text).map_err(|_| {
        InvalidDatabaseUrl::new("must be `sqlite:` and the path of a file, in UTF-8")
    })?;
    // An empty name is a temporary database; the driver writes `file:` for one in memory, and
    // otherwise such a name has parameters of its own.
    let name = options.get_filename().as_os_str().as_encoded_bytes();
    if name.is_empty() || name == b":memory:" || name.starts_with(b"file:") || name.contains(&0) {
        return Err(IN_MEMORY);
    }
    Ok(())
}

const IN_MEMORY: InvalidDatabaseUrl = InvalidDatabaseUrl::new(
    "must name a file: a database in memory would lose every token at the end",
);

fn redact_postgres(text: &str) -> Result<String, InvalidDatabaseUrl> {
    if text.contains("%00") {
        return Err(MALFORMED);
    }
    if has_several_hosts(text) {
        return Err(SEVERAL_HOSTS);
    }
    let url = Url::parse(text).map_err(|_| MALFORMED)?;
    let query = url.query().unwrap_or_default();
    // A `/`, `?` or `#` in a password ends it early, and the rest would be shown as path or query.
    if url.fragment().is_some() || url.path().contains('@') || query.contains('@') {
        return Err(InvalidDatabaseUrl::new(
            "must have `@`, `/`, `?` and `#` percent-encoded in the user name and the password",
        ));
    }
    for (name, _) in form_urlencoded::parse(query.as_bytes()) {
        require_taken(&name).map_err(|problem| InvalidDatabaseUrl(problem.into()))?;
    }
    PgConnectOptions::from_str(text).map_err(|_| MALFORMED)?;
    Ok(show_postgres(&url))
}

/// Whether it names more than one server, as libpq allows; the driver would look for one of this name.
fn has_several_hosts(text: &str) -> bool {
    let (_, rest) = text.split_once("://").unwrap_or(("", text));
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, after) = rest.split_at(end);
    let (_, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    // With an `@` behind it this is a part of a password.
    hosts.contains(',') && !after.contains('@')
}

const SEVERAL_HOSTS: InvalidDatabaseUrl = InvalidDatabaseUrl::new(
    "must name one server: list several in database.urls, a URL each, and the one that takes writes \
     is used",
);

const MALFORMED: InvalidDatabaseUrl = InvalidDatabaseUrl::new(
    "must be postgres://USER:PASSWORD@HOST:PORT/DATABASE, with special characters percent-encoded \
     and parameters that PostgreSQL knows",
);

fn show_postgres(url: &Url) -> String {
    let mut shown = format!("{}://{}", url.scheme(), url.username());
    if url.password().is_some() {
        shown.push_str(":[secret]");
    }
    if url.password().is_some() || !url.username().is_empty() {
        shown.push('@');
    }
    shown.push_str(url.host_str().unwrap_or_default());
    let port = url.port().map(|port| format!(":{port}"));
    shown.push_str(port.as_deref().unwrap_or_default());
    shown.push_str(url.path());
    if let Some(query) = url.query() {
        let pairs: Vec<_> = query.split('&').map(show_parameter).collect();
        shown.push('?');
        shown.push_str(&pairs.join("&"));
    }
    shown
}

fn show_parameter(pair: &str) -> &str {
    match form_urlencoded::parse(pair.as_bytes()).next() {
        Some((name, _)) if name == "password" => "password=[secret]",
        _ => pair,
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.redacted)
    }
}

impl Serialize for DatabaseUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.redacted)
    }
}
