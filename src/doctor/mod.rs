//! ROOM doctor: looks at a set-up and says what is wrong with it, and what to do. It changes nothing:
//! it applies no migrations and makes no store, no key and no site.

mod embedded;
mod files;
mod keys;
mod limits;
mod network;
mod postgres;
mod store;

use serde::Serialize;

use crate::{
    app,
    config::Config,
    store::{Database, database::COMMAND_DEADLINE, servers::Purpose},
    types::{clock::Clock, randomness::Randomness},
};

pub(crate) use network::ask_server;

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// As it should be.
    Ok,
    /// It works, but should be looked at.
    Warning,
    /// It does not work.
    Failed,
}

/// What was looked at, and how it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What it is, in one word.
    pub check: &'static str,
    /// How it is.
    pub status: Status,
    /// What was found.
    pub detail: String,
    /// What to do about it.
    pub advice: Option<String>,
}

impl Check {
    fn ok(check: &'static str, detail: impl Into<String>) -> Self {
        Self {
            check,
            status: Status::Ok,
            detail: detail.into(),
            advice: None,
        }
    }

    fn warning(check: &'static str, detail: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            status: Status::Warning,
            advice: Some(advice.into()),
            ..Self::ok(check, detail)
        }
    }

    fn failed(check: &'static str, detail: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            status: Status::Failed,
            ..Self::warning(check, detail, advice)
        }
    }

    /// That the configuration cannot be read, and nothing else be looked at.
    #[must_use]
    pub fn of_bad_configuration(problem: impl Into<String>) -> Self {
        let advice = "mend the setting that is named; config/default.toml has them all";
        Self::failed("configuration", problem, advice)
    }
}

/// Looks at everything, one thing after the other.
pub async fn examine(config: &Config, clock: &Clock, randomness: &Randomness) -> Vec<Check> {
    let mut checks = vec![Check::ok(
        "configuration",
        format!("read; {} plans", config.plans.len()),
    )];
    checks.extend(postgres::each_server(&config.database).await);
    match reach(config).await {
        Err(check) => checks.push(check),
        Ok(database) => {
            checks.extend(examine_store(config, &database, clock, randomness).await);
            database.close().await;
        }
    }
    checks.extend(files::examine(config));
    checks.extend(embedded::free_space(config));
    checks.push(limits::examine(config));
    checks.extend(network::examine(config).await);
    checks
}

/// The store, opened so that it is not changed by that.
async fn reach(config: &Config) -> Result<Database, Check> {
    let settings = &config.database;
    let failed = |error: &(dyn std::error::Error + 'static), advice: &str| {
        let problem = format!("{}: {}", settings.redacted(), crate::error::Chain(error));
        Check::failed("store", problem, advice)
    };
    let advice = "start the database, and see that database.url (or database.urls) is right from this \
                  machine";
    match app::missing_store(settings) {
        Err(error) => return Err(failed(&error, advice)),
        Ok(Some(file)) => {
            let key = app::master_key_file(settings).map_err(|error| failed(&error, advice))?;
            if key.exists() {
                let detail = format!(
                    "there is none, {}, but its master key is there: {}",
                    file.display(),
                    key.display()
                );
                let advice = "restore the store from your back-up, or set database.url to where it \
                              is; to bring an export in, run `mirrory import`";
                return Err(Check::failed("store", detail, advice));
            }
            let detail = format!("there is none yet: {}", file.display());
            let advice = "`mirrory serve` makes it; if there should be one, run this where the \
                          server runs or set database.url";
            return Err(Check::warning("store", detail, advice));
        }
        Ok(None) => {}
    }
    let opened = Database::open_to(Purpose::Look, settings, COMMAND_DEADLINE).await;
    opened.map_err(|error| match error.refusal() {
        Some(refusal) => {
            let problem = format!("{}: {}", settings.redacted(), refusal.problem);
            Check::failed("store", problem, &refusal.advice)
        }
        None => failed(&error, advice),
    })
}

async fn examine_store(
    config: &Config,
    database: &Database,
    clock: &Clock,
    randomness: &Randomness,
) -> Vec<Check> {
    let mut checks = vec![store::version(config, database).await];
    if checks[0].status == Status::Failed {
        return checks;
    }
    checks.push(store::clock(database, clock).await);
    let (migrations, has_tables) = store::migrations(database).await;
    checks.push(migrations);
    if has_tables {
        checks.extend(store::unfinished_import(database).await);
        checks.push(store::plans(config, database).await);
        checks.extend(keys::examine(config, database, clock, randomness).await);
    }
    checks.extend(postgres::examine(config, database).await);
    checks.extend(embedded::quick_check(database, embedded::PATIENCE).await);
    checks
}
