//! What an operator sees of the service: its log, its [`metrics`], its [`traces`].
//!
//! The log is one line an event on stderr, for people or as JSON.
//! Events are queued and written by a thread of their own, so that no request waits for the log.
//! Of warnings and errors of one kind, one a second is written, with how many more there were.
//! JSON lines are flat: `timestamp`, `level`, `target`, `message` and the event's own fields, so an
//! event must not have a field of one of these names.

mod floods;
mod json;
mod lines;
pub mod metrics;
pub mod traces;

use std::{
    io::{self, IsTerminal},
    panic::PanicHookInfo,
};

use serde::{Deserialize, Serialize};
use tracing::{Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{ParseError, Targets},
    fmt::MakeWriter,
    layer::SubscriberExt,
    registry::Registry,
    util::{SubscriberInitExt, TryInitError},
};

pub use self::lines::Guard;
use self::{floods::Floods, json::JsonLine};
use crate::types::clock::Clock;

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people: one line, coloured on a terminal.
    Pretty,
    /// For machines: one JSON object a line.
    Json,
}

/// Why a text is no log format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a log format is `pretty` or `json`")]
pub struct InvalidLogFormat;

impl LogFormat {
    /// What suits stderr: pretty on a terminal, else JSON.
    #[must_use]
    pub fn for_stderr() -> Self {
        if io::stderr().is_terminal() {
            Self::Pretty
        } else {
            Self::Json
        }
    }
}

impl std::str::FromStr for LogFormat {
    type Err = InvalidLogFormat;

    fn from_str(text: &str) -> Result<Self, InvalidLogFormat> {
        match text {
            "pretty" => Ok(Self::Pretty),
            "json" => Ok(Self::Json),
            _ => Err(InvalidLogFormat),
        }
    }
}

/// Why logging could not start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `RUST_LOG` cannot be understood.
    #[error("bad RUST_LOG: {0}; write it like `info` or `warn,mirrory=debug`")]
    Filter(ParseError),
    /// A word of `RUST_LOG` would filter for a target that nothing has.
    #[error(
        "bad RUST_LOG: `{}` is no level (error, warn, info, debug, trace, off) and no target that \
         begins with mirrory; write it like `info` or `warn,mirrory=debug`",
        .0.escape_debug()
    )]
    UnknownWord(String),
    /// `RUST_LOG` is no UTF-8.
    #[error("bad RUST_LOG: must be UTF-8")]
    FilterNotUnicode,
    /// There is no thread to write with.
    #[error("the thread that writes the log cannot be started: {0}")]
    NoThread(io::Error),
    /// Something else logs already.
    #[error("logging was started before: {0}")]
    AlreadyStarted(TryInitError),
}

/// Starts logging to stderr in `format`, filtered by `RUST_LOG` (default: `info`, also for ours when it
/// names other targets alone). From then on a panic is a line of the log, too.
///
/// A line is written within a twentieth of a second, also when nothing follows it; without colours
/// when stderr is no terminal or `NO_COLOR` is set. When stderr blocks, the service goes on: up to
/// 4 MiB of lines wait in memory, later ones are dropped, and a last line tells how many.
///
/// # Errors
/// When `RUST_LOG` is bad, logging was started before, or no thread can be started.
pub fn init(format: LogFormat) -> Result<Guard, TelemetryError> {
    let directives = match std::env::var("RUST_LOG") {
        Ok(directives) => directives,
        Err(std::env::VarError::NotPresent) => String::new(),
        Err(std::env::VarError::NotUnicode(_)) => return Err(TelemetryError::FilterNotUnicode),
    };
    let filter = filter(&directives)?;
    let floods = Floods::new(Clock::system());
    floods.watch().map_err(TelemetryError::NoThread)?;
    let (writer, guard) =
        lines::background(io::stderr(), floods.clone()).map_err(TelemetryError::NoThread)?;
    let colours_wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let ansi = colours_wanted && io::stderr().is_terminal();
    subscriber(format, ansi, filter, writer, floods)
        .try_init()
        .map_err(TelemetryError::AlreadyStarted)?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(guard)
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("no message");
    let place = panic.location().map(tracing::field::display);
    tracing::error!(panic = message, place, "a fault of ours");
}

fn filter(directives: &str) -> Result<EnvFilter, TelemetryError> {
    let mut is_ours_told = false;
    let listed = directives.split(',').map(str::trim);
    let listed: Vec<_> = listed.filter(|directive| !directive.is_empty()).collect();
    for directive in &listed {
        is_ours_told |= covers_ours(directive)?;
    }
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .parse(listed.join(","))
        .map_err(TelemetryError::Filter)?;
    if is_ours_told {
        return Ok(filter);
    }
    // Else a filter for something else would silence what goes wrong here.
    Ok(filter.add_directive(LevelFilter::INFO.into()))
}

/// Whether a directive of `RUST_LOG` says what of ours is logged. A word alone is a level, or a target
/// of which all is logged: a misspelt level would be a target that nothing has.
fn covers_ours(directive: &str) -> Result<bool, TelemetryError> {
    if directive.contains('[') {
        return Ok(false);
    }
    if let Some((target, _)) = directive.split_once('=') {
        return Ok(OURS.starts_with(target));
    }
    if directive.parse::<LevelFilter>().is_ok() {
        return Ok(true);
    }
    match directive.strip_prefix(OURS) {
        Some("") => Ok(true),
        Some(module) if module.starts_with("::") => Ok(false),
        _ => Err(TelemetryError::UnknownWord(directive.to_owned())),
    }
}

/// What every target of this program begins with.
const OURS: &str = "mirrory";

/// What other crates may log, whatever `RUST_LOG` says.
///
/// Below `info` they print what they handle, and no release of theirs promises not to print a
/// body, a header or a parameter: axum-core logs rejections (target `axum::rejection`, trace) with
/// their text, which quotes the request; h2 prints what a peer sends with GOAWAY (debug); sqlx
/// prints rows of its own (trace) and the server's notices; rustls whole handshake messages, with
/// session tickets (trace). So nothing below `info` passes but from the crates named here, which
/// were read: hyper and hyper-util print lengths and states at debug, `sqlx::query` the text of our
/// statements with `$1` in it, `sqlx::pool` how long a connection took to get.
fn caps() -> Targets {
    Targets::new()
        .with_default(LevelFilter::INFO)
        .with_target("mirrory", LevelFilter::TRACE)
        .with_target("hyper", LevelFilter::DEBUG)
        .with_target("sqlx::query", LevelFilter::DEBUG)
        .with_target("sqlx::pool", LevelFilter::DEBUG)
        // PostgreSQL tells each start and each command that the table of the migrations is there.
        .with_target("sqlx::postgres::notice", LevelFilter::WARN)
        .with_target("opentelemetry", LevelFilter::WARN)
}

fn subscriber<W>(
    format: LogFormat,
    ansi: bool,
    filter: EnvFilter,
    writer: W,
    floods: Floods,
) -> impl Subscriber + Send + Sync
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines: Box<dyn Layer<_> + Send + Sync> = match format {
        LogFormat::Pretty => lines.with_ansi(ansi).boxed(),
        LogFormat::Json => {
            let clock = Clock::system();
            lines.event_format(JsonLine { clock }).boxed()
        }
    };
    let layered = Registry::default().with(lines).with(filter).with(caps());
    layered.with(floods)
}

#[cfg(test)]
mod tests;
