//! The settings as command line flags. The flags are built from the list of settings, so that none can be forgotten.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Once;

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, value_parser};

use super::identity::KeySettings;
use super::layers::{DEFAULTS, Layers};
use super::settings::{SETTINGS, Setting};
use super::{Config, Database};
use crate::error::Failure;

/// All settings, for `talktrack serve`.
#[derive(Debug, Clone, Default)]
pub(crate) struct SettingFlags {
    config: Option<PathBuf>,
    given: Vec<(&'static str, String)>,
}

impl SettingFlags {
    /// Reads the settings. These flags override all other layers.
    ///
    /// # Errors
    /// Names the first unknown or invalid setting.
    pub(crate) fn load(&self) -> Result<Config, Failure> {
        Config::load(self.config.as_deref(), &self.given)
    }

    fn augment(command: Command, keys: &[&str]) -> Command {
        let config =
            Arg::new("config").long("config").value_name("FILE").value_parser(value_parser!(PathBuf));
        let command = command.arg(config.help("The settings file [default: talktrack.toml in the data directory that --data-dir or TALKTRACK_DATA_DIR names, otherwise in /etc/talktrack]"));
        let defaults: toml::Table = DEFAULTS.parse().unwrap_or_default();
        let chosen = SETTINGS.iter().filter(|setting| keys.is_empty() || keys.contains(&setting.key));
        chosen.fold(command, |command, setting| {
            let arg = Arg::new(setting.key).long(setting.flag).value_name(setting.value);
            command.arg(arg.help(setting_help(setting, defaults.get(setting.key))))
        })
    }

    fn read(matches: &ArgMatches) -> Self {
        let value = |key| matches.try_get_one::<String>(key).ok().flatten().cloned();
        let given = SETTINGS.iter().filter_map(|setting| Some((setting.key, value(setting.key)?))).collect();
        Self { config: matches.get_one::<PathBuf>("config").cloned(), given }
    }
}

fn setting_help(setting: &Setting, default: Option<&toml::Value>) -> String {
    match default {
        Some(toml::Value::Integer(default)) => format!("{} [default: {default}]", setting.help),
        Some(toml::Value::String(default)) if !default.is_empty() => {
            format!("{} [default: {default}]", setting.help)
        }
        _ => setting.help.to_owned(),
    }
}

/// The settings that locate the data, for commands that read it.
#[derive(Debug, Clone, Default)]
pub(crate) struct DataLocation(SettingFlags);

impl DataLocation {
    const KEYS: &[&str] = &["data_dir", "database_url"];

    /// True if a flag says where the data is.
    pub(crate) fn is_named_by_flags(&self) -> bool {
        self.0.config.is_some() || !self.0.given.is_empty()
    }

    /// Reads the settings. These flags override all other layers. The first call of a process writes the warnings about
    /// them to stderr.
    ///
    /// # Errors
    /// Names the first unknown or invalid setting.
    pub(crate) fn load(&self) -> Result<Config, Failure> {
        static WARNED: Once = Once::new();
        let config = self.0.load()?;
        WARNED.call_once(|| {
            for warning in config.warnings() {
                eprintln!("talktrack: {warning}");
            }
        });
        Ok(config)
    }
}

impl Config {
    /// Returns a line for each part of a setting that has no effect, such as a parameter of `database_url` that talktrack
    /// does not know. The lines contain no secrets.
    pub(crate) fn warnings(&self) -> impl Iterator<Item = String> {
        let address = match &self.database {
            Database::File(_) => None,
            Database::Postgres(address) => Some(address),
        };
        address.into_iter().flat_map(|address| address.warnings()).map(|line| format!("database_url: {line}"))
    }
}

/// The settings that locate the API keys and the data directory.
#[derive(Debug, Clone, Default)]
pub(crate) struct KeyLocation(SettingFlags);

impl KeyLocation {
    const KEYS: &[&str] = &["data_dir", "api_keys_file"];

    /// Reads these settings. The flags override all other layers.
    ///
    /// # Errors
    /// Names the first unknown or invalid setting.
    pub(crate) fn load(&self) -> Result<KeySettings, Failure> {
        let environment: Vec<(OsString, OsString)> = std::env::vars_os().collect();
        KeySettings::read(&Layers::gather(self.0.config.as_deref(), &environment, &self.0.given)?)
    }
}

macro_rules! as_clap_args {
    ($name:ident, $keys:expr, $wrap:expr) => {
        impl Args for $name {
            fn augment_args(command: Command) -> Command {
                SettingFlags::augment(command, $keys)
            }

            fn augment_args_for_update(command: Command) -> Command {
                Self::augment_args(command)
            }
        }

        impl FromArgMatches for $name {
            fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
                Ok($wrap(SettingFlags::read(matches)))
            }

            fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
                *self = Self::from_arg_matches(matches)?;
                Ok(())
            }
        }
    };
}

as_clap_args!(SettingFlags, &[], |flags| flags);
as_clap_args!(DataLocation, Self::KEYS, DataLocation);
as_clap_args!(KeyLocation, Self::KEYS, KeyLocation);
