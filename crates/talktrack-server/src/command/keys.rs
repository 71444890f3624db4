//! `talktrack keys`: creates, lists and revokes API keys. The settings and the file of API keys contain only hashes; a
//! key is shown once, when it is created.

mod list;
mod new;
mod revoke;

use clap::Subcommand;

use super::Outcome;
use crate::audit::{self, Actor, Entry};
use crate::auth::KeyFile;
use crate::config::{ApiKey, KeySettings};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Create a key, and add it to api_keys_file or print the entry for the settings
    New(new::Args),
    /// List the keys with their limits and last use
    List(list::Args),
    /// Revoke a key: the server refuses its requests within seconds and ends its connections within a minute
    Revoke(revoke::Args),
}

/// Runs the command.
pub(crate) async fn run(args: Args) -> Outcome {
    match args.action {
        Action::New(args) => new::run(args),
        Action::List(args) => list::run(&args),
        Action::Revoke(args) => revoke::run(&args),
    }
}

/// Returns the file of API keys, if the settings name one.
fn file(settings: &KeySettings) -> Option<KeyFile> {
    settings.api_keys_file.clone().map(KeyFile::new)
}

/// Writes an audit entry that a key was created or revoked.
fn record(settings: &KeySettings, what: &'static str, key: &ApiKey) {
    let limits = serde_json::json!({"key": key.name, "scopes": key.scopes.to_string()});
    let entry = Entry::new(Actor::of_this_process(), what, None).detail(limits);
    audit::record_command(&settings.data_dir, &entry);
}
