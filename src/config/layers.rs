//! The layers of the configuration: defaults, file, environment; later ones win.
//!
//! The crate `config` merges them. Beside it, this file notes what each layer has, so that an error
//! names the variable or the file that is to be mended, and refuses what the crate would settle
//! without a word: a section in a setting's place, a date taken for a text, two names of one setting.

use std::{collections::BTreeMap, fs, path::Path};

use config::{Environment, File, FileFormat, Map};
use serde::de::DeserializeOwned;
use toml::{Table, Value, de::DeTable};

use super::{
    error::{ConfigError, Origin},
    plan::PlanName,
};
use crate::types::text::plain;

const DEFAULTS: &str = include_str!("../../config/default.toml");
const IS_SECTION: &str = "is a section with settings in it, not a setting";
const IS_SETTING: &str = "is a setting, not a section";

/// The variables of this process that [`Config::load`](super::Config::load) takes.
///
/// # Errors
/// When the value of one of them is no UTF-8.
pub fn process_environment() -> Result<Vec<(String, String)>, ConfigError> {
    let settings = std::env::vars_os().filter_map(|(variable, value)| {
        let variable = variable.into_string().ok()?;
        let Some(name) = name_of(&variable) else {
            // The name alone may be a mistake.
            let is_like_ours = variable.starts_with("MIRRORY_");
            return is_like_ours.then(|| Ok((variable, String::new())));
        };
        let setting = dotted(name);
        let value = value.into_string().map_err(|_| ConfigError::Bad {
            setting,
            origin: Origin::Environment(variable.clone()),
            problem: "must be UTF-8".to_owned(),
        });
        Some(value.map(|value| (variable, value)))
    });
    settings.collect()
}

/// What a variable is called after our prefix, which the crate would take in small letters too;
/// none when it is no variable of ours.
fn name_of(variable: &str) -> Option<&str> {
    match variable {
        "DATABASE_URL" => Some("DATABASE__URL"),
        _ => variable.strip_prefix("MIRRORY__"),
    }
}

/// The setting that a variable with too few underscores would be meant for, if there is one.
fn almost_named(variable: &str) -> Option<String> {
    let (section, key) = variable.strip_prefix("MIRRORY_")?.split_once('_')?;
    let key = key.trim_start_matches('_');
    Some(format!("{section}.{key}").to_lowercase())
}

fn dotted(name: &str) -> String {
    name.to_lowercase().replace("__", ".")
}

/// The settings that the defaults do not name.
const WITHOUT_DEFAULT: [&str; 6] = [
    "server.max_connections",
    "secrets.master_key",
    "bootstrap.proxy_secret",
    "log.format",
    "telemetry.metrics_listen",
    "telemetry.otlp_endpoint",
];

#[derive(Default)]
pub(super) struct Layers {
    merged: Table,
    /// By the dotted name: whether it is a section, and the last layer that has it.
    places: BTreeMap<String, (bool, Origin)>,
}

impl Layers {
    pub(super) fn read(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut layers = Self::default();
        let defaults = parse(DEFAULTS, Path::new("default.toml"))?;
        layers.note_table("", &defaults, &Origin::Defaults)?;
        let mut builder =
            config::Config::builder().add_source(File::from_str(DEFAULTS, FileFormat::Toml));
        if let Some(file) = file {
            let text = fs::read_to_string(file).map_err(|error| ConfigError::Unreadable {
                file: file.to_owned(),
                error,
            })?;
            layers.note_table("", &parse(&text, file)?, &Origin::File(file.to_owned()))?;
            builder = builder.add_source(File::from_str(&text, FileFormat::Toml));
        }
        let mut values = Map::new();
        // In this order DATABASE_URL comes before MIRRORY__DATABASE__URL, which wins.
        for (variable, value) in environment.into_iter().collect::<BTreeMap<_, _>>() {
            if let Some(name) = name_of(&variable) {
                // An env file names a setting that is not set by giving it nothing.
                if value.trim().is_empty() && WITHOUT_DEFAULT.contains(&dotted(name).as_str()) {
                    continue;
                }
                layers.note_variable(&variable, name)?;
                values.insert(name.to_owned(), value);
            } else {
                layers.refuse_almost_named(&variable)?;
            }
        }
        let variables = Environment::default().separator("__");
        layers.merged = builder
            .add_source(variables.source(Some(values)))
            .build()
            .and_then(config::Config::try_deserialize)
            .map_err(|_| ConfigError::Unmergeable)?;
        let mut merged = std::mem::take(&mut layers.merged);
        layers.make_plain("", &mut merged, Some(&defaults))?;
        layers.merged = merged;
        Ok(layers)
    }

    /// Cuts off the white space around every text. Lists are left as they are: each of their entries is
    /// a text of its own, also of those with commas between them.
    fn make_plain(
        &self,
        parent: &str,
        table: &mut Table,
        defaults: Option<&Table>,
    ) -> Result<(), ConfigError> {
        for (name, value) in table {
            let setting = format!("{parent}{name}");
            let default = defaults.and_then(|defaults| defaults.get(name));
            match value {
                Value::String(text) if !default.is_some_and(Value::is_array) => {
                    let kept = plain(text).map_err(|bad| self.bad(&setting, &bad.to_string()))?;
                    *text = kept.to_owned();
                }
                Value::Table(table) => {
                    let defaults = default.and_then(Value::as_table);
                    self.make_plain(&format!("{setting}."), table, defaults)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn note_table(
        &mut self,
        parent: &str,
        table: &Table,
        origin: &Origin,
    ) -> Result<(), ConfigError> {
        for (name, value) in table {
            let setting = format!("{parent}{name}");
            self.note(&setting, value.is_table(), origin)?;
            // The crate would take the name for a path, and the date for a text.
            if parent.is_empty() && name.contains(['.', '[']) {
                return Err(self.unknown(setting));
            }
            if value.is_datetime() {
                return Err(self.bad(&setting, "must not be a date or a time"));
            }
            if let Value::Table(table) = value {
                self.note_table(&format!("{setting}."), table, origin)?;
            }
        }
        Ok(())
    }

    fn note_variable(&mut self, variable: &str, name: &str) -> Result<(), ConfigError> {
        let origin = Origin::Environment(variable.to_owned());
        let setting = dotted(name);
        for (end, _) in setting.match_indices('.') {
            self.note(&setting[..end], true, &origin)?;
        }
        self.note(&setting, false, &origin)?;
        // The crate would take it for a second name of the same setting.
        if name.contains(|c| matches!(c, 'a'..='z' | '.' | '[' | '\u{80}'..)) {
            let problem = "the variable's name must be in capitals, with `__` between its parts";
            return Err(self.bad(&setting, problem));
        }
        Ok(())
    }

    fn is_setting(&self, name: &str) -> bool {
        WITHOUT_DEFAULT.contains(&name) || matches!(self.places.get(name), Some((false, _)))
    }

    fn refuse_almost_named(&self, variable: &str) -> Result<(), ConfigError> {
        match almost_named(variable) {
            // Others' are left alone, as those that Kubernetes makes for its services.
            Some(setting) if self.is_setting(&setting) => Err(ConfigError::Bad {
                setting,
                origin: Origin::Environment(variable.to_owned()),
                problem: "the variable's name must have two underscores each time, as in \
                          `MIRRORY__SECTION__KEY`"
                    .to_owned(),
            }),
            _ => Ok(()),
        }
    }

    fn note(
        &mut self,
        setting: &str,
        is_section: bool,
        origin: &Origin,
    ) -> Result<(), ConfigError> {
        let place = (is_section, origin.clone());
        let before = self.places.insert(setting.to_owned(), place);
        let mut must_be_section = before.map(|(was_section, _)| was_section);
        // The one section whose sections' names are the operator's choice.
        if let Some(("plans", plan)) = setting.rsplit_once('.') {
            must_be_section = Some(true);
            plan.parse::<PlanName>()
                .map_err(|invalid| self.bad(setting, &invalid.to_string()))?;
        }
        match must_be_section {
            Some(true) if !is_section => Err(self.bad(setting, IS_SECTION)),
            Some(false) if is_section => Err(self.bad(setting, IS_SETTING)),
            _ => Ok(()),
        }
    }

    pub(super) fn deserialize<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        let mut unknown = None;
        let mut track = serde_path_to_error::Track::new();
        let tracked =
            serde_path_to_error::Deserializer::new(Value::Table(self.merged.clone()), &mut track);
        let settings = serde_ignored::deserialize(tracked, |path| {
            unknown.get_or_insert_with(|| path.to_string());
        });
        match (settings, unknown) {
            (Ok(settings), None) => Ok(settings),
            (_, Some(setting)) => Err(self.unknown(setting)),
            (Err(error), None) => Err(self.bad(&track.path().to_string(), error.message())),
        }
    }

    pub(super) fn bad(&self, setting: &str, problem: &str) -> ConfigError {
        ConfigError::Bad {
            setting: setting.to_owned(),
            origin: self.origin(setting),
            problem: problem.to_owned(),
        }
    }

    fn unknown(&self, setting: String) -> ConfigError {
        ConfigError::Unknown {
            origin: self.origin(&setting),
            setting,
        }
    }

    fn origin(&self, setting: &str) -> Origin {
        let place = self.places.get(setting);
        place.map_or(Origin::Defaults, |(_, origin)| origin.clone())
    }
}

fn parse(text: &str, file: &Path) -> Result<Table, ConfigError> {
    text.parse().map_err(|error: toml::de::Error| {
        let start = error.span().map_or(0, |span| span.start);
        let before = text.as_bytes().iter().take(start);
        // Of a value that is no mistake of syntax the message would quote it.
        let syntax = DeTable::parse(text).err();
        let problem = syntax.map(|error| error.message().replace('\n', ", "));
        ConfigError::NoToml {
            file: file.to_owned(),
            line: 1 + before.filter(|byte| **byte == b'\n').count(),
            problem: problem.unwrap_or_else(|| "a value is out of range".to_owned()),
        }
    })
}
