//! The settings as flags. Built from the list of settings, so that none can be forgotten.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, value_parser};

use super::Config;
use super::identity::KeySettings;
use super::layers::{DEFAULTS, Layers};
use super::settings::{SETTINGS, Setting};
use crate::error::Failure;

/// Every setting, for `talktrack serve`.
#[derive(Debug, Clone, Default)]
pub(crate) struct SettingFlags {
    config: Option<PathBuf>,
    given: Vec<(&'static str, String)>,
}

impl SettingFlags {
    /// The settings with these flags on top.
    ///
    /// # Errors
    /// Names the first setting that is unknown or bad.
    pub(crate) fn load(&self) -> Result<Config, Failure> {
        Config::load(self.config.as_deref(), &self.given)
    }

    fn augment(command: Command, keys: &[&str]) -> Command {
        let config =
            Arg::new("config").long("config").value_name("FILE").value_parser(value_parser!(PathBuf));
        let command = command.arg(config.help("The settings file; talktrack.toml in the data directory that --data-dir or TALKTRACK_DATA_DIR names, or in /etc/talktrack"));
        let defaults: toml::Table = DEFAULTS.parse().unwrap_or_default();
        let chosen = SETTINGS.iter().filter(|setting| keys.is_empty() || keys.contains(&setting.key));
        chosen.fold(command, |command, setting| {
            let arg = Arg::new(setting.key).long(setting.flag).value_name(setting.value);
            command.arg(arg.help(help(setting, defaults.get(setting.key))))
        })
    }

    fn read(matches: &ArgMatches) -> Self {
        let value = |key| matches.try_get_one::<String>(key).ok().flatten().cloned();
        let given = SETTINGS.iter().filter_map(|setting| Some((setting.key, value(setting.key)?))).collect();
        Self { config: matches.get_one::<PathBuf>("config").cloned(), given }
    }
}

fn help(setting: &Setting, default: Option<&toml::Value>) -> String {
    match default {
        Some(toml::Value::Integer(default)) => format!("{} [default: {default}]", setting.help),
        Some(toml::Value::String(default)) if !default.is_empty() => {
            format!("{} [default: {default}]", setting.help)
        }
        _ => setting.help.to_owned(),
    }
}

/// The settings that say where the data lie, for commands that look at them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Place(SettingFlags);

impl Place {
    const KEYS: &[&str] = &["data_dir", "database_url"];

    /// The settings with these flags on top.
    ///
    /// # Errors
    /// Names the first setting that is unknown or bad.
    pub(crate) fn load(&self) -> Result<Config, Failure> {
        self.0.load()
    }
}

/// The settings that say where API keys stand, and where the data directory is.
#[derive(Debug, Clone, Default)]
pub(crate) struct KeyPlace(SettingFlags);

impl KeyPlace {
    const KEYS: &[&str] = &["data_dir", "api_keys_file"];

    /// Those settings, with these flags on top.
    ///
    /// # Errors
    /// Names the first setting that is unknown or bad.
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
as_clap_args!(Place, Self::KEYS, Place);
as_clap_args!(KeyPlace, Self::KEYS, KeyPlace);
