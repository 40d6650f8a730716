//! What commands print: one JSON document, or text for people.

use std::{
    io::{self, ErrorKind, Write},
    process::ExitCode,
};

use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    accounts::AccountError,
    app::StartError,
    config::ConfigError,
    error::Chain,
    keys::KeysError,
    moving::{ExportError, ImportError},
    passwords::{HashError, Overloaded},
    quota::QuotaError,
    store::StoreError,
    telemetry::TelemetryError,
};

/// For whom a command prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// People.
    Text,
    /// Programs.
    Json,
}

impl From<bool> for Format {
    fn from(json: bool) -> Self {
        if json { Self::Json } else { Self::Text }
    }
}

/// What a command has to say.
pub(super) enum Answer {
    /// One thing: a line a field.
    One(Value),
    /// Several: a table with these columns.
    Many(Vec<Value>, &'static [&'static str]),
    /// A text that is the answer as it is, and the same as JSON.
    Text(String, Value),
    /// As a text, and what the program ends with.
    Verdict(String, Value, ExitCode),
    /// Nothing more: what there was is printed.
    Nothing,
}

impl Answer {
    pub(super) fn one(value: &impl Serialize) -> Result<Self, Failure> {
        Ok(Self::One(serde_json::to_value(value)?))
    }

    pub(super) fn many(
        values: &[impl Serialize],
        columns: &'static [&'static str],
    ) -> Result<Self, Failure> {
        let values = values
            .iter()
            .map(serde_json::to_value)
            .collect::<Result<_, _>>()?;
        Ok(Self::Many(values, columns))
    }

    /// The same for people as for programs.
    pub(super) fn document(value: &impl Serialize) -> Result<Self, Failure> {
        let value = serde_json::to_value(value)?;
        Ok(Self::Text(pretty(&value)?, value))
    }

    /// Prints it; what the program ends with then.
    pub(super) fn print(self, format: Format) -> Result<ExitCode, Failure> {
        let code = match &self {
            Self::Verdict(_, _, code) => *code,
            _ => ExitCode::SUCCESS,
        };
        let tells_a_change = matches!(self, Self::One(_));
        let text = match (self, format) {
            (Self::Nothing, _) => return Ok(code),
            (
                Self::One(value) | Self::Text(_, value) | Self::Verdict(_, value, _),
                Format::Json,
            ) => pretty(&value)?,
            (Self::Many(values, _), Format::Json) => pretty(&Value::Array(values))?,
            (Self::Text(text, _) | Self::Verdict(text, ..), Format::Text) => text,
            (Self::One(value), Format::Text) => lines(&value),
            (Self::Many(values, columns), Format::Text) => table(&values, columns),
        };
        match writeln!(io::stdout().lock(), "{}", text.trim_end()) {
            Err(error) if tells_a_change => Err(Failure::new(format!(
                "what was done stays done, but nobody was told: {error}"
            ))),
            printed => printed.map(|()| code).map_err(Failure::from),
        }
    }
}

fn pretty(value: &Value) -> Result<String, Failure> {
    Ok(serde_json::to_string_pretty(value)?)
}

/// A line a field; those of an object inside one are shown as `outer.inner`.
fn lines(value: &Value) -> String {
    let mut lines = Vec::new();
    for (name, value) in value.as_object().into_iter().flatten() {
        match value {
            Value::Object(inner) => lines.extend(
                inner
                    .iter()
                    .map(|(inner_name, value)| format!("{name}.{inner_name}: {}", plain(value))),
            ),
            Value::Array(rows) => {
                lines.extend(rows.iter().map(|row| format!("{name}: {}", plain(row))));
            }
            value => lines.push(format!("{name}: {}", plain(value))),
        }
    }
    lines.join("\n")
}

/// A line a value; a field of an object inside one is the column `outer.inner`.
fn table(values: &[Value], columns: &[&str]) -> String {
    let header = columns.iter().map(|column| column.to_uppercase()).collect();
    let cell = |value: &Value, column: &str| {
        let pointer = format!("/{}", column.replace('.', "/"));
        plain(value.pointer(&pointer).unwrap_or(&Value::Null))
    };
    let cells = |value: &Value| columns.iter().map(|column| cell(value, column)).collect();
    let rows: Vec<Vec<String>> = std::iter::once(header)
        .chain(values.iter().map(cells))
        .collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<_> = (0..columns.len())
        .map(|column| width(column).unwrap_or(0))
        .collect();
    let pad = |(cell, width): (&String, &usize)| format!("{cell:width$}");
    let line = |row: &Vec<String>| {
        row.iter()
            .zip(&widths)
            .map(pad)
            .collect::<Vec<_>>()
            .join("  ")
    };
    rows.iter()
        .map(|row| line(row).trim_end().to_owned())
        .collect::<Vec<_>>()
        .join("\n")
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Why a command failed, in one line.
#[derive(Debug)]
pub(super) struct Failure {
    /// None when whoever read the output has gone, as `head` does when it has enough.
    message: Option<String>,
    exit_code: u8,
}

impl Failure {
    /// A failure that says what to do.
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self {
            message: Some(message.into()),
            exit_code: 1,
        }
    }

    /// What was typed can never work.
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self {
            message: Some(message.into()),
            exit_code: 2,
        }
    }

    /// That whoever read the output has gone, if that is what went wrong.
    fn unread(error: &io::Error) -> Option<Self> {
        let is_unread = error.kind() == ErrorKind::BrokenPipe;
        is_unread.then_some(Self {
            message: None,
            exit_code: 1,
        })
    }

    pub(super) fn report(&self, format: Format) -> ExitCode {
        // Where nobody reads any more, the exit code still tells.
        if let Some(message) = &self.message {
            let _unread = writeln!(io::stderr().lock(), "mirrory: {message}");
            if format == Format::Json {
                let _unread = writeln!(io::stdout().lock(), "{}", json!({ "error": message }));
            }
        }
        ExitCode::from(self.exit_code)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::unread(&error).unwrap_or_else(|| Self::new(error.to_string()))
    }
}

impl From<ExportError> for Failure {
    fn from(error: ExportError) -> Self {
        let unread = match &error {
            ExportError::Output(error) => Self::unread(error),
            _ => None,
        };
        unread.unwrap_or_else(|| Self::new(Chain(&error).to_string()))
    }
}

macro_rules! fails_with {
    ($($error:ty),*) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::new(Chain(&error).to_string())
            }
        }
    )*};
}

fails_with!(
    AccountError,
    ConfigError,
    HashError,
    ImportError,
    KeysError,
    Overloaded,
    QuotaError,
    StartError,
    StoreError,
    TelemetryError,
    serde_json::Error
);
