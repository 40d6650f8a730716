//! The layers of the configuration: defaults, file, environment; later ones win.
//!
//! Merged by hand, for a table of settings is a few lines to merge, and each value has to keep its
//! type and its origin: a secret made of digits stays a text, `1.5` is not rounded to a number of
//! seconds, and an error names the variable or the file that is to be mended.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::{
    error::{ConfigError, Origin},
    plan::PlanName,
};

const DEFAULTS: &str = include_str!("../../config/default.toml");
const PREFIX: &str = "MIRRORY__";
const SEPARATOR: &str = "__";
const DATABASE_URL: &str = "DATABASE_URL";

/// The variables of this process that [`Config::load`](super::Config::load) takes.
///
/// # Errors
/// When the value of one of them is no UTF-8.
pub fn process_environment() -> Result<Vec<(String, String)>, ConfigError> {
    let settings = std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok()?;
        path_of(&name).map(|path| match value.into_string() {
            Ok(value) => Ok((name, value)),
            Err(_) => Err(ConfigError::Bad {
                setting: shown(&path),
                origin: Origin::Environment(name),
                problem: "must be UTF-8".to_owned(),
            }),
        })
    });
    settings.collect()
}

/// The setting that a variable stands for; none when it is no variable of ours.
fn path_of(variable: &str) -> Option<Vec<String>> {
    if variable == DATABASE_URL {
        return Some(vec!["database".to_owned(), "url".to_owned()]);
    }
    let name = variable.strip_prefix(PREFIX)?.to_lowercase();
    Some(name.split(SEPARATOR).map(str::to_owned).collect())
}

pub(super) struct Layers {
    layers: Vec<(Origin, Table)>,
    merged: Table,
}

impl Layers {
    pub(super) fn read(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut layers = Self {
            layers: Vec::new(),
            merged: Table::new(),
        };
        layers.add(
            Origin::Defaults,
            parse(DEFAULTS, Path::new("default.toml"))?,
        )?;
        if let Some(file) = file {
            layers.add(Origin::File(file.to_owned()), read_file(file)?)?;
        }
        let mut variables: Vec<_> = environment
            .into_iter()
            .filter_map(|(name, value)| path_of(&name).map(|path| (name, path, value)))
            .collect();
        // DATABASE_URL sorts before MIRRORY__DATABASE__URL, which wins.
        variables.sort();
        for (name, path, value) in variables {
            let settings = path
                .into_iter()
                .rev()
                .fold(Value::String(value), |value, segment| {
                    Value::Table(Table::from_iter([(segment, value)]))
                });
            if let Value::Table(settings) = settings {
                layers.add(Origin::Environment(name), settings)?;
            }
        }
        layers.check_plans()?;
        Ok(layers)
    }

    fn add(&mut self, origin: Origin, settings: Table) -> Result<(), ConfigError> {
        merge(&mut self.merged, &settings).map_err(|(path, problem)| ConfigError::Bad {
            setting: shown(&path),
            origin: origin.clone(),
            problem: problem.to_owned(),
        })?;
        self.layers.push((origin, settings));
        Ok(())
    }

    /// The one place where a section's name is the operator's choice.
    fn check_plans(&self) -> Result<(), ConfigError> {
        let plans = self.merged.get("plans").and_then(Value::as_table);
        for (name, plan) in plans.into_iter().flatten() {
            if let Err(invalid) = name.parse::<PlanName>() {
                return Err(self.bad(&["plans", name], invalid.to_string()));
            }
            if !plan.is_table() {
                return Err(self.bad(&["plans", name], IS_SECTION.to_owned()));
            }
        }
        Ok(())
    }

    pub(super) fn deserialize<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        let mut unknown = None;
        let mut track = serde_path_to_error::Track::new();
        let tracked =
            serde_path_to_error::Deserializer::new(Value::Table(self.merged.clone()), &mut track);
        let settings = serde_ignored::deserialize(tracked, |path| {
            unknown.get_or_insert_with(|| ignored_segments(&path));
        });
        match (settings, unknown) {
            (Ok(settings), None) => Ok(settings),
            (_, Some(path)) => Err(ConfigError::Unknown {
                setting: shown(&path),
                origin: self.origin(&path),
            }),
            (Err(error), None) => {
                Err(self.bad(&error_segments(&track.path()), error.message().to_owned()))
            }
        }
    }

    pub(super) fn bad(&self, path: &[impl AsRef<str>], problem: String) -> ConfigError {
        ConfigError::Bad {
            setting: shown(path),
            origin: self.origin(path),
            problem,
        }
    }

    fn origin(&self, path: &[impl AsRef<str>]) -> Origin {
        self.layers
            .iter()
            .rev()
            .find(|(_, settings)| contains(settings, path))
            .map_or(Origin::Defaults, |(origin, _)| origin.clone())
    }
}

fn read_file(file: &Path) -> Result<Table, ConfigError> {
    let text = fs::read_to_string(file).map_err(|error| ConfigError::Unreadable {
        file: file.to_owned(),
        error,
    })?;
    parse(&text, file)
}

fn parse(text: &str, file: &Path) -> Result<Table, ConfigError> {
    text.parse().map_err(|error: toml::de::Error| {
        let start = error.span().map_or(0, |span| span.start);
        let before = text.as_bytes().iter().take(start);
        ConfigError::NoToml {
            file: PathBuf::from(file),
            line: 1 + before.filter(|byte| **byte == b'\n').count(),
            problem: error.message().replace('\n', ", "),
        }
    })
}

const IS_SECTION: &str = "is a section with settings in it, not a setting";
const IS_SETTING: &str = "is a setting, not a section";

/// Puts the settings of `over` in the place of those in `base`; a section only ever meets a
/// section, so that no setting below one vanishes unseen.
fn merge(base: &mut Table, over: &Table) -> Result<(), (Vec<String>, &'static str)> {
    for (key, value) in over {
        let merged = match (base.get_mut(key), value) {
            (Some(Value::Table(base)), Value::Table(over)) => merge(base, over),
            (Some(Value::Table(_)), _) => Err((Vec::new(), IS_SECTION)),
            (Some(_), Value::Table(_)) => Err((Vec::new(), IS_SETTING)),
            _ => {
                base.insert(key.clone(), value.clone());
                Ok(())
            }
        };
        merged.map_err(|(mut path, problem)| {
            path.insert(0, key.clone());
            (path, problem)
        })?;
    }
    Ok(())
}

fn contains(settings: &Table, path: &[impl AsRef<str>]) -> bool {
    let Some((last, sections)) = path.split_last() else {
        return true;
    };
    sections
        .iter()
        .try_fold(settings, |section, key| {
            section.get(key.as_ref())?.as_table()
        })
        .is_some_and(|section| section.contains_key(last.as_ref()))
}

fn shown(path: &[impl AsRef<str>]) -> String {
    let segments: Vec<_> = path
        .iter()
        .map(|segment| segment.as_ref().escape_debug().to_string())
        .collect();
    segments.join(".")
}

fn ignored_segments(path: &serde_ignored::Path<'_>) -> Vec<String> {
    use serde_ignored::Path;
    let (parent, segment) = match path {
        Path::Root => return Vec::new(),
        Path::Map { parent, key } => (parent, Some(key.clone())),
        Path::Seq { parent, index } => (parent, Some(index.to_string())),
        Path::Some { parent }
        | Path::NewtypeStruct { parent }
        | Path::NewtypeVariant { parent } => (parent, None),
    };
    let mut segments = ignored_segments(parent);
    segments.extend(segment);
    segments
}

fn error_segments(path: &serde_path_to_error::Path) -> Vec<String> {
    path.iter().map(ToString::to_string).collect()
}
