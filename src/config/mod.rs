//! Configuration: typed sections, checked once at the start.
//!
//! `config/default.toml` lists every setting and is compiled in, so that there is one place for a
//! default. A file overrides it, `DATABASE_URL` overrides `database.url`, and variables named
//! `MIRRORY__SECTION__KEY` override them all, setting by setting. What is unknown or bad stops the
//! start with one line that names the setting and where it was found, and never shows a value: it
//! may be a secret. White space around a value is cut off; control characters, and a value in quotes,
//! are bad; an empty variable of a setting without a default leaves it as it is.
//!
//! A new setting is a field here and a line in `config/default.toml`.

mod database_url;
mod error;
mod file;
mod layers;
mod plan;
#[cfg(test)]
mod tests;
mod url_parameters;
mod values;

use std::{net::SocketAddr, path::Path};

use axum::http::HeaderValue;
use ipnet::IpNet;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::{keys::signer::Algorithm, telemetry::LogFormat, types::secret::ProxySecret};

pub use self::{
    database_url::{DatabaseKind, DatabaseUrl, InvalidDatabaseUrl},
    error::{ConfigError, Origin},
    file::process_file,
    layers::process_environment,
    plan::{InvalidPlanName, MAX_CALLS, Plan, PlanName, Plans},
};

/// The configuration in force.
///
/// Serialises with secrets and the database password shown as `[secret]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Config {
    /// Listening, and what a request may take.
    pub server: Server,
    /// The store.
    pub database: Database,
    /// What must stay secret.
    pub secrets: Secrets,
    /// What is written into tokens.
    pub tokens: Tokens,
    /// Limits that an instance keeps in memory.
    pub limits: Limits,
    /// The site of an operator who chooses the secret.
    pub bootstrap: Bootstrap,
    /// What is kept of who did what.
    pub audit: Audit,
    /// Logging.
    pub log: Log,
    /// Metrics and traces.
    pub telemetry: Telemetry,
    /// How many calls a site may make, by the name of its plan. Default: `free` 5 a day and 50 a
    /// month, `developer` 20 and 500, `professional` 200 and 5,000, `enterprise` 100,000 and
    /// 1,000,000.
    pub plans: Plans,
}

/// `[server]`
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Server {
    /// Address and port to serve on. Default: `127.0.0.1:8080`.
    #[serde(deserialize_with = "values::socket_address")]
    pub listen: SocketAddr,
    /// Networks of the reverse proxies whose `X-Forwarded-For` is believed. Default: none, so that
    /// the peer is the client.
    #[serde(deserialize_with = "values::networks")]
    pub trusted_proxies: Vec<IpNet>,
    /// Origins whose web pages may call validate-token and health, as browsers write them.
    /// Default: none.
    #[serde(
        deserialize_with = "values::origins",
        serialize_with = "values::show_origins"
    )]
    pub cors_origins: Vec<HeaderValue>,
    /// Seconds that a request's body may take to arrive, 1 to 600; then 408. Default: 10.
    #[serde(deserialize_with = "values::whole_number::<1, 600, _, _>")]
    pub body_timeout_seconds: u32,
    /// Seconds that a whole request may take, 1 to 600; then 503. Default: 15.
    #[serde(deserialize_with = "values::whole_number::<1, 600, _, _>")]
    pub request_timeout_seconds: u32,
    /// Requests about tokens that an instance works on at once, 1 to 100000; more wait
    /// half a second, then 503. Default: 1000.
    #[serde(deserialize_with = "values::whole_number::<1, 100_000, _, _>")]
    pub concurrent_requests: usize,
    /// Connections that an instance keeps at most, 1 to 1000000. When they are short, the one that has
    /// been idle for the longest time is closed. Default: none, which is 80 % of the limit of open files.
    #[serde(
        default,
        deserialize_with = "values::optional_number::<1, 1_000_000, _, _>"
    )]
    pub max_connections: Option<u32>,
    /// Seconds from a signal to the end, 0 to 3600: for half of them new connections are
    /// still taken, then running requests are given the rest. Sooner when quiet. Default: 30.
    #[serde(deserialize_with = "values::whole_number::<0, 3600, _, _>")]
    pub drain_seconds: u32,
}

/// `[database]`
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Database {
    /// The embedded SQLite file or the PostgreSQL database. Default: `sqlite://data/mirrory.db`.
    #[serde(deserialize_with = "values::database_url")]
    pub url: DatabaseUrl,
    /// Several PostgreSQL servers with the same data, in the place of `url`: of those that take
    /// writes, the one with the highest timeline is used. Default: none.
    #[serde(deserialize_with = "values::database_urls")]
    pub urls: Vec<DatabaseUrl>,
    /// Connections that an instance opens to PostgreSQL at most, 1 to 1000; two more listen for
    /// changes and look for the primary. Default: 16.
    #[serde(deserialize_with = "values::whole_number::<1, 1000, _, _>")]
    pub max_connections: u32,
}

/// `[secrets]`
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Secrets {
    /// Base64 (RFC 4648, section 4) of the 32 bytes that wrap the data key, kept as text. Default:
    /// none; with PostgreSQL it is required.
    #[serde(
        default,
        deserialize_with = "values::master_key",
        serialize_with = "values::hide"
    )]
    pub master_key: Option<SecretString>,
}

/// `[tokens]`
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Tokens {
    /// Seconds from a token's issue to its expiry, 1 to 315360000 (10 years). Default: 86400.
    #[serde(deserialize_with = "values::whole_number::<1, 315_360_000, _, _>")]
    pub ttl_seconds: u32,
    /// The algorithm of the first signing key; it has no effect on a store that has keys.
    /// Default: `HS256`.
    #[serde(deserialize_with = "values::algorithm")]
    pub algorithm: Algorithm,
    /// The claim `iss`, written and required. Default: `mirrory`.
    #[serde(deserialize_with = "values::claim")]
    pub issuer: String,
    /// The claim `aud`, written and required. Default: `mirrory-desktop`.
    #[serde(deserialize_with = "values::claim")]
    pub audience: String,
    /// What a token costs the WordPress user, written on its record; 0 or more. Default: 200.
    #[serde(deserialize_with = "values::whole_number::<0, { i64::MAX }, _, _>")]
    pub coins: i64,
    /// How many tokens an instance keeps in memory, 0 to 100000000; one takes about half a
    /// kilobyte. Default: 100000.
    #[serde(deserialize_with = "values::whole_number::<0, 100_000_000, _, _>")]
    pub cache_capacity: usize,
}

/// `[limits]`
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Limits {
    /// Failed requests that one client address has a minute; 0: off. Default: 30.
    #[serde(deserialize_with = "values::whole_number::<0, { u32::MAX as i64 }, _, _>")]
    pub failures_per_minute: u32,
    /// Valid verdicts that one token is good for at once, and again an hour; 0: off. Default: 30.
    #[serde(deserialize_with = "values::whole_number::<0, { u32::MAX as i64 }, _, _>")]
    pub validations_per_token_per_hour: u32,
    /// Connections that one client address keeps at most; 0: off. Trusted proxies are not counted.
    /// Default: 512.
    #[serde(deserialize_with = "values::whole_number::<0, { u32::MAX as i64 }, _, _>")]
    pub connections_per_address: u32,
    /// Sites that an account of the role `owner` may have; 0: off. Default: 100.
    #[serde(deserialize_with = "values::whole_number::<0, { u32::MAX as i64 }, _, _>")]
    pub sites_per_owner: u32,
    /// Changes that one account may ask for a minute; 0: off. Default: 120.
    #[serde(deserialize_with = "values::whole_number::<0, { u32::MAX as i64 }, _, _>")]
    pub changes_per_minute: u32,
}

/// `[bootstrap]`
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Bootstrap {
    /// One more secret of the site `default`: 16 to 512 bytes, not beginning with `mps_`.
    /// Default: none.
    #[serde(
        default,
        deserialize_with = "values::proxy_secret",
        serialize_with = "values::hide"
    )]
    pub proxy_secret: Option<ProxySecret>,
    /// The plan that the site `default` is made on; one of [`Config::plans`]. Default: `free`.
    #[serde(deserialize_with = "values::plan_name")]
    pub plan: PlanName,
}

/// `[audit]`
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Audit {
    /// Days that a row of the audit log is kept, 1 to 36500. Default: 400.
    #[serde(deserialize_with = "values::whole_number::<1, 36_500, _, _>")]
    pub kept_days: u32,
}

/// `[log]`
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Log {
    /// How log lines look. Default: none, which is [`LogFormat::for_stderr`].
    #[serde(default, deserialize_with = "values::log_format")]
    pub format: Option<LogFormat>,
}

/// `[telemetry]`
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Telemetry {
    /// Address and port to serve `/metrics` on, and nothing else. Default: none, and nothing is
    /// measured.
    #[serde(default, deserialize_with = "values::metrics_address")]
    pub metrics_listen: Option<SocketAddr>,
    /// Where traces are sent, without the path `/v1/traces` (OTLP over HTTP, in Protobuf). Default:
    /// none, and nothing is traced.
    #[serde(default, deserialize_with = "values::endpoint")]
    pub otlp_endpoint: Option<Url>,
    /// Share of the requests that are traced, 0 to 1, unless a trusted proxy has decided. Default:
    /// 0.01.
    #[serde(deserialize_with = "values::share")]
    pub trace_ratio: f64,
}

impl Database {
    /// Which kind of store is named.
    #[must_use]
    pub const fn kind(&self) -> DatabaseKind {
        if self.urls.is_empty() {
            self.url.kind()
        } else {
            DatabaseKind::Postgres
        }
    }

    /// Where the store may be, what is to be tried first at first.
    #[must_use]
    pub fn places(&self) -> &[DatabaseUrl] {
        if self.urls.is_empty() {
            std::slice::from_ref(&self.url)
        } else {
            &self.urls
        }
    }

    /// The places as they may be shown.
    #[must_use]
    pub fn redacted(&self) -> String {
        let places: Vec<_> = self.places().iter().map(DatabaseUrl::redacted).collect();
        places.join(", ")
    }
}

impl Config {
    /// Reads the defaults, then `file`, then `environment`.
    ///
    /// The caller chooses the file, mostly that of [`process_file`], and hands in the variables, mostly
    /// [`process_environment`]'s. Of these only `DATABASE_URL` and those that begin with
    /// `MIRRORY__` count; one that is nearly named so is refused. `Config::load(None, [])` is the
    /// defaults.
    ///
    /// # Errors
    /// When the file cannot be read or is no TOML, and when a setting is unknown or bad.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let layers = layers::Layers::read(file, environment)?;
        let config: Self = layers.deserialize()?;
        if !config.plans.contains_key(&config.bootstrap.plan) {
            return Err(layers.bad("bootstrap.plan", "must be one of the plans"));
        }
        Ok(config)
    }

    /// This configuration as TOML, with secrets shown as `[secret]`; for people to read.
    ///
    /// # Errors
    /// When a value has no form in TOML, which no setting's type allows.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }
}
