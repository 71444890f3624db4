//! `talktrack keys new`: creates an API key.

use std::process::ExitCode;
use std::sync::Arc;

use serde::Serialize;
use talktrack::clock::{Clock as _, SystemClock};
use talktrack::{Timestamp, UserId};

use super::{open_key_file, record_key_change};
use crate::auth::NewKey;
use crate::command::Outcome;
use crate::config::{
    KeyLocation, Network, Scopes, check_name, parse_duration, parse_key_networks, parse_key_users,
};
use crate::error::Failure;
use crate::output::print_summary;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct NewKeyArgs {
    /// The name of the key in the settings: letters, digits, '-', '_' and '.'
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    name: String,
    /// What the key allows: read, write, metrics, admin (everything), separated by commas
    #[arg(long, value_name = "SCOPES")]
    scopes: Scopes,
    /// When the key expires: a duration from now such as 90d, or a time such as 2027-01-01T00:00:00Z; never by default
    #[arg(long, value_name = "WHEN", value_parser = parse_expiry)]
    expires: Option<Timestamp>,
    /// The users that the key may act for, separated by commas; all by default
    #[arg(long, value_name = "UUIDS", value_parser = parse_users)]
    users: Option<Users>,
    /// The addresses or networks that the key may be used from, separated by commas; all by default
    #[arg(long, value_name = "NETWORKS", value_parser = parse_networks)]
    addresses: Option<Networks>,
    /// Print the key and its entry as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    location: KeyLocation,
}

// Type aliases and wrappers for lists that clap must parse as one value.
type Users = Arc<[UserId]>;
#[derive(Debug, Clone)]
struct Networks(Vec<Network>);

/// The output for a new key.
#[derive(Serialize)]
struct NewKeyOutput {
    key: String,
    api_keys: String,
    /// The file that the entry was added to.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
}

/// Runs the command.
pub(super) fn run(args: NewKeyArgs) -> Outcome {
    let settings = args.location.load()?;
    let Some(mut new) = NewKey::generate(args.name, args.scopes) else {
        return Err(Failure::new("no key was created: the random generator of the system failed"));
    };
    (new.entry.expires, new.entry.users) = (args.expires, args.users);
    new.entry.networks = args.addresses.map(|Networks(networks)| networks);
    let file = open_key_file(&settings);
    if let Some(file) = &file {
        if settings.api_keys.iter().any(|key| key.name == new.entry.name) {
            return Err(Failure::usage(format!(
                "--name: api_keys already has a key called {}",
                new.entry.name
            )));
        }
        file.add_key(&new.entry)?;
        record_key_change(&settings, "keys.new", &new.entry);
    }
    let file = file.map(|file| file.path().display().to_string());
    let shown = NewKeyOutput { key: new.key, api_keys: new.entry.to_string(), file };
    print_summary(args.json, &shown, |_| describe(&shown), ExitCode::SUCCESS)
}

fn describe(NewKeyOutput { key, api_keys, file }: &NewKeyOutput) -> String {
    let entry = match file {
        Some(file) => format!("Its entry is in {file}; a running server applies it within seconds:"),
        None => "The entry for api_keys in the settings of the server that is to accept it:".to_owned(),
    };
    format!(
        "The key, which is shown only once (Authorization: Bearer KEY):\n\n  {key}\n\n{entry}\n\n  {api_keys}"
    )
}

fn parse_name(text: &str) -> Result<String, String> {
    check_name(text).map(|()| text.to_owned())
}

fn parse_users(text: &str) -> Result<Users, String> {
    parse_key_users(text)
}

fn parse_networks(text: &str) -> Result<Networks, String> {
    parse_key_networks(text).map(Networks)
}

fn parse_expiry(text: &str) -> Result<Timestamp, String> {
    let now = SystemClock.now();
    let moment = text.parse().ok().or_else(|| parse_duration(text).ok().map(|after| now.plus(after)));
    moment.filter(|moment| *moment > now).ok_or_else(|| {
        "must be a duration such as 90d, or a future time such as 2027-01-01T00:00:00Z".to_owned()
    })
}
