//! The layers of settings: default file, settings file, environment, flags. Later layers override earlier ones, and
//! each value remembers its origin.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::parse;
use super::settings::{
    CONFIG_VARIABLE, DATA_DIR_VARIABLE, NO_SETTINGS, SETTINGS, Setting, USUAL_VARIABLES, VARIABLE_PREFIX,
};
use crate::error::Failure;

/// The default file, with its comments.
pub(super) const DEFAULTS: &str = include_str!("../config.default.toml");

/// The name of the settings file. It is looked up in the data directory, if that is named, and in [`SYSTEM_DIR`]. The
/// working directory is never searched: anyone who can write there could control the server.
const OWN_FILE: &str = "talktrack.toml";

/// The directory for settings of the machine's administrator.
const SYSTEM_DIR: &str = "/etc/talktrack";

/// The setting that no file can contain, because the file may itself be in the data directory.
const NEVER_IN_FILES: &str = "data_dir";

/// Where a value was set.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Origin {
    Default,
    File(PathBuf),
    Variable(String),
    Flag(&'static str),
}

/// A value as text, with its origin.
#[derive(Debug, Clone)]
struct Given {
    text: String,
    origin: Origin,
}

/// The value of every setting after all layers.
#[derive(Debug, Default)]
pub(super) struct Layers(HashMap<&'static str, Given>);

impl Layers {
    /// Reads and merges all layers.
    pub(super) fn gather(
        config: Option<&Path>,
        environment: &[(OsString, OsString)],
        flags: &[(&'static str, String)],
    ) -> Result<Self, Failure> {
        let mut layers = Self::default();
        layers.add_file_text(DEFAULTS, &Origin::Default)?;
        let variable =
            environment.iter().find(|(name, _)| name == CONFIG_VARIABLE).map(|(_, path)| Path::new(path));
        match config.or(variable) {
            Some(named) => layers.add_named_file(named)?,
            None => layers.add_usual_file(environment, flags)?,
        }
        layers.add_environment(environment)?;
        for (key, text) in flags {
            let Some(setting) = Setting::by_key(key) else { continue };
            layers.0.insert(setting.key, Given { text: text.clone(), origin: Origin::Flag(setting.flag) });
        }
        Ok(layers)
    }

    /// Returns the value of a setting, parsed by `parse`, whose error says what is expected.
    pub(super) fn get<T>(&self, key: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<T, Failure> {
        let Some(given) = self.0.get(key) else {
            return Err(Failure::usage(format!("{key}: has no default")));
        };
        parse(&given.text).map_err(|expected| invalid_setting(key, &given.origin, &expected))
    }

    /// Returns every setting as it was given, in the order of the list. For settings that may contain a secret, says
    /// only that they are set; of API keys the hashes are omitted.
    pub(super) fn without_secrets(&self) -> Vec<(&'static str, String)> {
        let told = |setting: &Setting| {
            let text = &self.0.get(setting.key)?.text;
            let told = match setting.key {
                _ if text.is_empty() => String::new(),
                "api_keys" => parse::list(text).map(without_hash).collect::<Vec<_>>().join(" "),
                "database_url" if text.starts_with("sqlite:") => text.clone(),
                "database_url" => "(set, hidden)".into(),
                key if ["secret", "password", "access_key"].iter().any(|part| key.contains(part)) => {
                    "(set, hidden)".into()
                }
                _ => text.clone(),
            };
            Some((setting.key, told))
        };
        SETTINGS.iter().filter_map(told).collect()
    }

    /// Reads the settings file at this path.
    fn add_named_file(&mut self, path: &Path) -> Result<(), Failure> {
        let text = std::fs::read_to_string(path).map_err(|error| unreadable_file(path, &error))?;
        self.add_file_text(&text, &Origin::File(path.to_owned()))
    }

    /// Reads the settings file in the data directory, if a flag or a variable names that, otherwise the one in
    /// `/etc/talktrack`, if there is any.
    fn add_usual_file(
        &mut self,
        environment: &[(OsString, OsString)],
        flags: &[(&'static str, String)],
    ) -> Result<(), Failure> {
        let flag = flags.iter().find(|(key, _)| *key == NEVER_IN_FILES).map(|(_, dir)| PathBuf::from(dir));
        let named = |(name, _): &&(OsString, OsString)| *name == *DATA_DIR_VARIABLE;
        let variable = || environment.iter().find(named).map(|(_, dir)| PathBuf::from(dir));
        let places = flag.or_else(variable).into_iter().chain([PathBuf::from(SYSTEM_DIR)]);
        for path in places.map(|dir| dir.join(OWN_FILE)) {
            match std::fs::read_to_string(&path) {
                Ok(text) => return self.add_file_text(&text, &Origin::File(path)),
                // The data directory may not exist yet, or may be a file. Opening it later reports that.
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
                Err(error) => return Err(unreadable_file(&path, &error)),
            }
        }
        Ok(())
    }

    fn add_file_text(&mut self, text: &str, origin: &Origin) -> Result<(), Failure> {
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            let line =
                error.span().map_or(0, |span| text[..span.start.min(text.len())].lines().count().max(1));
            Failure::usage(format!("{origin}: line {line}: {}", error.message()))
        })?;
        for (key, value) in table {
            let Some(setting) = Setting::by_key(&key) else { return Err(unknown_setting(&key, origin)) };
            if key == NEVER_IN_FILES && *origin != Origin::Default {
                let expected = "cannot be set in a file; name it with --data-dir or TALKTRACK_DATA_DIR";
                return Err(invalid_setting(&key, origin, expected));
            }
            let text = match value {
                toml::Value::String(text) => text,
                toml::Value::Integer(number) => number.to_string(),
                toml::Value::Boolean(switch) => switch.to_string(),
                toml::Value::Array(entries) => join_entries(&entries).ok_or_else(|| {
                    invalid_setting(&key, origin, "must be a string, or a list of strings without spaces")
                })?,
                _ => return Err(invalid_setting(&key, origin, "must be a string or a whole number")),
            };
            self.0.insert(setting.key, Given { text, origin: origin.clone() });
        }
        Ok(())
    }

    fn add_environment(&mut self, environment: &[(OsString, OsString)]) -> Result<(), Failure> {
        let usual_key =
            |name: &str| USUAL_VARIABLES.iter().find(|(usual, _)| *usual == name).map(|(_, key)| *key);
        let usual = environment.iter().filter(|(name, _)| name.to_str().and_then(usual_key).is_some());
        let own = environment.iter().filter(|(name, _)| name.to_string_lossy().starts_with(VARIABLE_PREFIX));
        for (name, value) in usual.chain(own).filter(|(name, value)| !is_of_others(name, value)) {
            let name = name.to_string_lossy().into_owned();
            let of_this_name = |setting: &&Setting| setting.variable() == name;
            let setting = match usual_key(&name) {
                Some(key) => Setting::by_key(key),
                None => SETTINGS.iter().find(of_this_name),
            };
            let origin = Origin::Variable(name.clone());
            let Some(setting) = setting else {
                return Err(unknown_setting(&name, &Origin::Variable(name.clone())));
            };
            let Some(text) = value.to_str() else {
                return Err(invalid_setting(setting.key, &origin, "must be UTF-8"));
            };
            self.0.insert(setting.key, Given { text: text.to_owned(), origin });
        }
        Ok(())
    }
}

/// Returns the name and the scopes of a key.
fn without_hash(entry: &str) -> String {
    entry.splitn(3, ':').take(2).collect::<Vec<_>>().join(":")
}

/// True for variables that have the prefix but are not settings: those of clients and tests, and those that Kubernetes
/// sets in every container if there is a service called `talktrack`.
fn is_of_others(name: &OsStr, value: &OsStr) -> bool {
    let name = name.to_string_lossy();
    let value = value.to_string_lossy();
    let is_setting = SETTINGS.iter().any(|setting| setting.variable() == name);
    // TALKTRACK_PORT=tcp://10.0.0.7:8080, TALKTRACK_SERVICE_HOST and TALKTRACK_PORT_8080_TCP_ADDR.
    let is_of_a_service = name.contains("_SERVICE_")
        || name.contains("_PORT_") && ["_TCP", "_UDP"].iter().any(|protocol| name.contains(protocol))
        || ["tcp://", "udp://"].iter().any(|scheme| value.starts_with(scheme));
    name == CONFIG_VARIABLE || NO_SETTINGS.contains(&&*name) || !is_setting && is_of_a_service
}

fn unreadable_file(path: &Path, error: &std::io::Error) -> Failure {
    Failure::usage(format!("cannot read the settings file {}: {error}", path.display()))
}

/// Joins a list in a file to the form that other layers use: entries separated by spaces. Returns `None` if an entry is
/// not a string or contains a separator.
fn join_entries(entries: &[toml::Value]) -> Option<String> {
    let text =
        |entry: &toml::Value| Some(entry.as_str()?.to_owned()).filter(|text| !text.contains([' ', ',']));
    Some(entries.iter().map(text).collect::<Option<Vec<_>>>()?.join(" "))
}

fn invalid_setting(key: &str, origin: &Origin, expected: &str) -> Failure {
    match origin {
        Origin::Default | Origin::File(_) => Failure::usage(format!("{key}: {expected} (set in {origin})")),
        Origin::Variable(_) | Origin::Flag(_) => {
            Failure::usage(format!("{key}: {expected} (set by {origin})"))
        }
    }
}

fn unknown_setting(name: &str, origin: &Origin) -> Failure {
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
