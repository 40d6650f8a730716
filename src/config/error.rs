//! Why there is no configuration, in one line.

use std::{fmt, io, path::PathBuf};

/// Why the configuration was refused. Shows as one line, without any setting's value in it.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A name that is no setting.
    #[error("unknown setting `{}` ({origin})", setting.escape_debug())]
    Unknown {
        /// Its path, such as `server.lissten`.
        setting: String,
        /// Where it stands.
        origin: Origin,
    },
    /// A setting with a value that it cannot have.
    #[error("bad setting `{}` ({origin}): {problem}", setting.escape_debug())]
    Bad {
        /// Its path, such as `server.listen`.
        setting: String,
        /// Where the value stands.
        origin: Origin,
        /// What the value must be.
        problem: String,
    },
    /// The file cannot be read.
    #[error("cannot read the configuration file {file:?}: {error}")]
    Unreadable {
        /// The file that was asked for.
        file: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The file is no TOML.
    #[error("the configuration file {file:?} is no TOML: line {line}: {problem}")]
    NoToml {
        /// The file that was asked for.
        file: PathBuf,
        /// The line of the mistake, from 1.
        line: usize,
        /// What the parser says; the line itself is left out, since it may hold a secret.
        problem: String,
    },
    /// The layers have a name in them that no setting can have. What the library says is left out,
    /// since it may quote a value.
    #[error("the file and the environment cannot be merged into one configuration")]
    Unmergeable,
}

/// Where a setting was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The defaults inside the binary.
    Defaults,
    /// The configuration file.
    File(PathBuf),
    /// An option of the command line.
    CommandLine,
    /// The environment variable of this name.
    Environment(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Defaults => formatter.write_str("in the defaults"),
            Self::CommandLine => formatter.write_str("on the command line"),
            Self::File(path) => {
                let path = path.to_string_lossy();
                write!(formatter, "in the file \"{}\"", path.escape_debug())
            }
            Self::Environment(name) => {
                write!(formatter, "in the environment: {}", name.escape_debug())
            }
        }
    }
}
