//! The layers in which settings are given: default file, own file, environment, flags. The later one wins, and each value
//! remembers where it came from.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use super::settings::{CONFIG_VARIABLE, SETTINGS, Setting, TOKEN_VARIABLE, USUAL_VARIABLES, VARIABLE_PREFIX};
use crate::error::Failure;

/// The defaults, with their comments.
pub(super) const DEFAULTS: &str = include_str!("../config.default.toml");

/// Read where it is there and no other file is named.
const OWN_FILE: &str = "talktrack.toml";

/// Where a value was given.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Origin {
    Default,
    File(PathBuf),
    Variable(String),
    Flag(&'static str),
}

/// A value as it was given.
#[derive(Debug, Clone)]
struct Given {
    text: String,
    origin: Origin,
}

/// Every setting's value after all layers.
#[derive(Debug, Default)]
pub(super) struct Layers(HashMap<&'static str, Given>);

impl Layers {
    /// Lays the layers over each other.
    pub(super) fn gather(
        config: Option<&Path>,
        environment: &[(OsString, OsString)],
        flags: &[(&'static str, String)],
    ) -> Result<Self, Failure> {
        let mut layers = Self::default();
        layers.file(DEFAULTS, &Origin::Default)?;
        let variable =
            environment.iter().find(|(name, _)| name == CONFIG_VARIABLE).map(|(_, path)| Path::new(path));
        layers.own_file(config.or(variable))?;
        layers.environment(environment)?;
        for (key, text) in flags {
            let Some(setting) = Setting::by_key(key) else { continue };
            layers.0.insert(setting.key, Given { text: text.clone(), origin: Origin::Flag(setting.flag) });
        }
        Ok(layers)
    }

    /// The value of a setting, read by `parse`, which says what is expected where it cannot read it.
    pub(super) fn get<T>(&self, key: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<T, Failure> {
        let Some(given) = self.0.get(key) else {
            return Err(Failure::usage(format!("{key}: has no default")));
        };
        parse(&given.text).map_err(|expected| bad(key, &given.origin, &expected))
    }

    fn own_file(&mut self, named: Option<&Path>) -> Result<(), Failure> {
        let path = named.unwrap_or(Path::new(OWN_FILE));
        match std::fs::read_to_string(path) {
            Ok(text) => self.file(&text, &Origin::File(path.to_owned())),
            Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => {
                Err(Failure::usage(format!("cannot read the settings file {}: {error}", path.display())))
            }
        }
    }

    fn file(&mut self, text: &str, origin: &Origin) -> Result<(), Failure> {
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            let line =
                error.span().map_or(0, |span| text[..span.start.min(text.len())].lines().count().max(1));
            Failure::usage(format!("{origin}: line {line}: {}", error.message()))
        })?;
        for (key, value) in table {
            let Some(setting) = Setting::by_key(&key) else { return Err(unknown(&key, origin)) };
            let text = match value {
                toml::Value::String(text) => text,
                toml::Value::Integer(number) => number.to_string(),
                toml::Value::Boolean(switch) => switch.to_string(),
                toml::Value::Array(entries) => joined(&entries).ok_or_else(|| {
                    bad(&key, origin, "must be a string, or a list of strings without spaces")
                })?,
                _ => return Err(bad(&key, origin, "must be a string or a whole number")),
            };
            self.0.insert(setting.key, Given { text, origin: origin.clone() });
        }
        Ok(())
    }

    fn environment(&mut self, environment: &[(OsString, OsString)]) -> Result<(), Failure> {
        let usual_key =
            |name: &str| USUAL_VARIABLES.iter().find(|(usual, _)| *usual == name).map(|(_, key)| *key);
        let usual = environment.iter().filter(|(name, _)| name.to_str().and_then(usual_key).is_some());
        let own = environment.iter().filter(|(name, _)| name.to_string_lossy().starts_with(VARIABLE_PREFIX));
        let no_setting = |name: &OsString| name == CONFIG_VARIABLE || name == TOKEN_VARIABLE;
        for (name, value) in usual.chain(own).filter(|(name, _)| !no_setting(name)) {
            let name = name.to_string_lossy().into_owned();
            let of_this_name = |setting: &&Setting| setting.variable() == name;
            let setting = match usual_key(&name) {
                Some(key) => Setting::by_key(key),
                None => SETTINGS.iter().find(of_this_name),
            };
            let origin = Origin::Variable(name.clone());
            let Some(setting) = setting else { return Err(unknown(&name, &Origin::Variable(name.clone()))) };
            let Some(text) = value.to_str() else { return Err(bad(setting.key, &origin, "must be UTF-8")) };
            self.0.insert(setting.key, Given { text: text.to_owned(), origin });
        }
        Ok(())
    }
}

/// A list in a file is the same as its entries with spaces between them elsewhere.
fn joined(entries: &[toml::Value]) -> Option<String> {
    let text =
        |entry: &toml::Value| Some(entry.as_str()?.to_owned()).filter(|text| !text.contains([' ', ',']));
    Some(entries.iter().map(text).collect::<Option<Vec<_>>>()?.join(" "))
}

fn bad(key: &str, origin: &Origin, expected: &str) -> Failure {
    match origin {
        Origin::Default | Origin::File(_) => Failure::usage(format!("{key}: {expected} (set in {origin})")),
        Origin::Variable(_) | Origin::Flag(_) => {
            Failure::usage(format!("{key}: {expected} (set by {origin})"))
        }
    }
}

fn unknown(name: &str, origin: &Origin) -> Failure {
    let known = SETTINGS.iter().map(|setting| setting.key).collect::<Vec<_>>().join(" ");
    match origin {
        Origin::Variable(_) => {
            Failure::usage(format!("unknown setting: {origin}; the settings are: {known}"))
        }
        _ => Failure::usage(format!("unknown setting: {name} in {origin}; the settings are: {known}")),
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => write!(f, "the default settings"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Variable(name) => write!(f, "the environment variable {name}"),
            Self::Flag(flag) => write!(f, "the flag --{flag}"),
        }
    }
}
