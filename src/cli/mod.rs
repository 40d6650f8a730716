//! The command line: one file a group of commands, each a thin caller of a room.

mod account;
mod api_token;
mod args;
mod audit;
mod clock;
mod database;
mod doctor;
mod healthcheck;
mod introduction;
mod key;
mod master_key;
mod moving;
mod output;
mod progress;
mod serve;
mod signals;
mod site;
mod token;
mod usage;

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use serde_json::json;

use self::{
    args::{Args, ClockCommand, Command},
    output::{Answer, Failure, Format},
};
use crate::{
    app::{StartError, make_store, missing_store, open_store},
    config::{Config, ConfigError, process_environment, process_file},
    openapi,
    store::{Database, database::COMMAND_DEADLINE},
    telemetry::{self, LogFormat},
    types::{clock::Clock, randomness::Randomness},
};

/// What a command works with.
struct Context {
    config: Config,
    clock: Clock,
    randomness: Randomness,
    /// Whether the command is refused while the clock is wrong.
    needs_right_clock: bool,
}

impl Context {
    /// Opens the store, and makes an embedded one that is not there.
    async fn make_store(&self) -> Result<Database, StartError> {
        let database = make_store(&self.config.database, COMMAND_DEADLINE).await?;
        self.check_clock(database).await
    }

    /// Opens the store, which must be there: a mistyped path is no empty store.
    async fn open_store(&self) -> Result<Database, StartError> {
        let settings = &self.config.database;
        match missing_store(settings)? {
            Some(file) => Err(StartError::NoStore(file)),
            None => {
                self.check_clock(open_store(settings, COMMAND_DEADLINE).await?)
                    .await
            }
        }
    }

    async fn check_clock(&self, database: Database) -> Result<Database, StartError> {
        if self.needs_right_clock {
            database.refuse_wrong_clock(&self.clock).await?;
        }
        Ok(database)
    }
}

/// Runs the program: 0 done, 1 failed, 2 wrong usage.
#[must_use]
pub fn run() -> ExitCode {
    let args = Args::parse();
    let format = Format::from(args.json);
    match start(args, format) {
        Ok(code) => code,
        Err(failure) => failure.report(format),
    }
}

fn start(args: Args, format: Format) -> Result<ExitCode, Failure> {
    let command = args.command.unwrap_or(Command::Serve);
    let config = match load(args.config) {
        Err(error) if matches!(command, Command::Doctor) => {
            return doctor::without_configuration(&error)?.print(format);
        }
        config => config?,
    };
    let log_format = config.log.format.unwrap_or_else(LogFormat::for_stderr);
    // Dropped last: what is logged until then is written.
    let _guard = telemetry::init(log_format)?;
    let context = Context {
        config,
        clock: Clock::system(),
        randomness: Randomness::system(),
        needs_right_clock: command.needs_right_clock(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(execute(context, command, format));
    // A thread that still waits for a lock must not keep the process.
    runtime.shutdown_background();
    outcome?.print(format)
}

fn load(file: Option<PathBuf>) -> Result<Config, ConfigError> {
    Config::load(process_file(file)?.as_deref(), process_environment()?)
}

async fn execute(context: Context, command: Command, format: Format) -> Result<Answer, Failure> {
    match command {
        Command::Serve => serve::run(context, format).await,
        Command::Migrate => {
            context.make_store().await?;
            let answer = json!({ "status": "migrated" });
            Ok(Answer::Text("the store is up to date".to_owned(), answer))
        }
        Command::Site(command) => site::run(&context, command, format).await,
        Command::Token(command) => token::run(&context, command).await,
        Command::ApiToken(command) => api_token::run(&context, command).await,
        Command::Usage {
            command: Some(command),
            ..
        } => usage::change(&context, command).await,
        Command::Usage { site_id, .. } => usage::show(&context, site_id).await,
        Command::Clock(ClockCommand::Accept) => clock::accept(&context).await,
        Command::Key(command) => key::run(&context, command).await,
        Command::Account(command) => account::run(&context, command).await,
        Command::Audit(command) => audit::run(&context, command).await,
        Command::Export { output } => moving::export(&context, &output, format).await,
        Command::Import { file } => moving::import(&context, &file).await,
        Command::Database(command) => database::run(&context, &command).await,
        Command::Config => {
            let toml = context
                .config
                .to_toml()
                .map_err(|error| Failure::new(error.to_string()))?;
            Ok(Answer::Text(toml, serde_json::to_value(&context.config)?))
        }
        Command::Openapi => Answer::document(&openapi::document()),
        Command::Healthcheck => healthcheck::run(&context).await,
        Command::Doctor => doctor::run(&context).await,
    }
}
