//! Which file is read.

use std::{env, ffi::OsString, path::PathBuf};

use super::error::{ConfigError, Origin};
use crate::types::text::plain;

const OPTION: &str = "--config";
const VARIABLE: &str = "MIRRORY_CONFIG";

/// The configuration file of this process, if there is one: what its option `--config` names, else
/// what the variable `MIRRORY_CONFIG` does, unless that is empty.
///
/// # Errors
/// When the name can be no value of a setting either.
pub fn process_file(option: Option<PathBuf>) -> Result<Option<PathBuf>, ConfigError> {
    named(option, env::var_os(VARIABLE))
}

fn named(
    option: Option<PathBuf>,
    variable: Option<OsString>,
) -> Result<Option<PathBuf>, ConfigError> {
    let (name, setting, origin) = match (option, variable) {
        (Some(option), _) => (option.into_os_string(), OPTION, Origin::CommandLine),
        (None, Some(variable)) => {
            let origin = Origin::Environment(VARIABLE.to_owned());
            (variable, VARIABLE, origin)
        }
        (None, None) => return Ok(None),
    };
    // A path need not be UTF-8.
    let Some(text) = name.to_str() else {
        return Ok(Some(name.into()));
    };
    let bad = |problem: &dyn ToString| ConfigError::Bad {
        setting: setting.to_owned(),
        origin: origin.clone(),
        problem: problem.to_string(),
    };
    match plain(text).map_err(|problem| bad(&problem))? {
        "" if origin == Origin::CommandLine => Err(bad(&"must name a file")),
        "" => Ok(None),
        path => Ok(Some(path.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(option: Option<&str>, variable: Option<&str>) -> Result<Option<String>, String> {
        let file = named(option.map(PathBuf::from), variable.map(OsString::from));
        let shown = |path: PathBuf| path.to_str().unwrap().to_owned();
        file.map(|file| file.map(shown))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_option_goes_before_the_variable_and_an_empty_variable_is_none() {
        let path = |name: &str| Ok(Some(name.to_owned()));
        assert_eq!(read(Some("a.toml"), Some("b.toml")), path("a.toml"));
        assert_eq!(read(None, Some("b.toml")), path("b.toml"));
        for empty in [None, Some(""), Some(" \r\n")] {
            assert_eq!(read(None, empty), Ok(None));
        }
    }

    #[test]
    fn its_name_is_a_text_of_the_configuration() {
        assert_eq!(
            read(None, Some("/etc/my file.toml\r")),
            Ok(Some("/etc/my file.toml".to_owned()))
        );
        for (option, variable, expected) in [
            (
                None,
                Some("'a.toml'"),
                "bad setting `MIRRORY_CONFIG` (in the environment: MIRRORY_CONFIG): is in quotes: \
                 leave them out",
            ),
            (
                Some("a\nb"),
                None,
                "bad setting `--config` (on the command line): must not have control characters in \
                 it",
            ),
            (
                Some(" "),
                None,
                "bad setting `--config` (on the command line): must name a file",
            ),
        ] {
            assert_eq!(read(option, variable), Err(expected.to_owned()));
        }
    }
}
