//! The command line: one file a group of commands, each a thin caller of a room.

mod account;
mod args;
mod audit;
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
mod site;
mod token;
mod usage;

use std::process::ExitCode;

use clap::Parser;
use serde_json::json;

use self::{
    args::{Args, Command},
    output::{Answer, Failure, Format},
};
use crate::{
    app::{StartError, missing_store, open_store},
    config::{Config, process_environment},
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
}

impl Context {
    /// Opens the store, and makes an embedded one that is not there.
    async fn make_store(&self) -> Result<Database, StartError> {
        let settings = &self.config.database;
        let missing = missing_store(settings)?;
        let database = open_store(settings, COMMAND_DEADLINE).await?;
        if let Some(file) = missing {
            tracing::warn!(file = %file.display(), "there was no store: made a new one");
        }
        Ok(database)
    }

    /// Opens the store, which must be there: a mistyped path is no empty store.
    async fn open_store(&self) -> Result<Database, StartError> {
        let settings = &self.config.database;
        match missing_store(settings)? {
            Some(file) => Err(StartError::NoStore(file)),
            None => open_store(settings, COMMAND_DEADLINE).await,
        }
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
    let config = match Config::load(args.config.as_deref(), process_environment()?) {
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
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(execute(context, command, format));
    // A thread that still waits for a lock must not keep the process.
    runtime.shutdown_background();
    outcome?.print(format)
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
        Command::Usage { site_id } => usage::run(&context, site_id).await,
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
