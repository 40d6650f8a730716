mod database_url;
mod layering;
mod refusals;
mod secrecy;
mod texts;
mod values;

use std::{
    fs,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use serde_json::Value;

use super::{Config, ConfigError};

const MASTER_KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

fn environment(variables: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    variables.iter().map(owned).collect()
}

fn from_environment(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::load(None, environment(variables))
}

/// Every setting by its section and name, and its default, which is null when there is none; those
/// of plans are left out.
fn settings() -> Vec<(String, String, Value)> {
    let defaults = serde_json::to_value(Config::load(None, []).unwrap()).unwrap();
    let mut settings = Vec::new();
    for (section, content) in defaults.as_object().unwrap() {
        if section != "plans" {
            for (name, default) in content.as_object().unwrap() {
                settings.push((section.clone(), name.clone(), default.clone()));
            }
        }
    }
    settings
}

/// A file that goes when the test ends.
struct File(PathBuf);

impl File {
    fn new(text: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("mirrory-config-{}-{number}.toml", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::write(&path, text).unwrap();
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn from_file(text: &str) -> Result<Config, ConfigError> {
    Config::load(Some(&File::new(text).0), [])
}

/// The message of a refusal: one line, without the name of the temporary folder.
fn refused(result: Result<Config, ConfigError>) -> String {
    let message = result.unwrap_err().to_string();
    assert_eq!(message.lines().count(), 1, "{message}");
    match message.split_once(" (in the file ") {
        Some((before, after)) => {
            let (_, after) = after.split_once(')').unwrap();
            format!("{before} (in the file){after}")
        }
        None => message,
    }
}
