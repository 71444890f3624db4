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
pub(crate) struct KeysArgs {
    #[command(subcommand)]
    action: KeysAction,
}

#[derive(Debug, Subcommand)]
enum KeysAction {
    /// Create a key, and add it to api_keys_file or print the entry for the settings
    New(new::NewKeyArgs),
    /// List the keys with their limits and last use
    List(list::ListKeysArgs),
    /// Revoke a key: the server refuses its requests within seconds and ends its connections within a minute
    Revoke(revoke::RevokeKeyArgs),
}

/// Runs the command.
pub(crate) async fn run(args: KeysArgs) -> Outcome {
    match args.action {
        KeysAction::New(args) => new::run(args),
        KeysAction::List(args) => list::run(&args),
        KeysAction::Revoke(args) => revoke::run(&args),
    }
}

/// Returns the file of API keys, if the settings name one.
fn open_key_file(settings: &KeySettings) -> Option<KeyFile> {
    settings.api_keys_file.clone().map(KeyFile::new)
}

/// Writes an audit entry that a key was created or revoked.
fn record_key_change(settings: &KeySettings, what: &'static str, key: &ApiKey) {
    let limits = serde_json::json!({"key": key.name, "scopes": key.scopes.to_string()});
    let entry = Entry::new(Actor::of_this_process(), what, None).detail(limits);
    audit::record_command(&settings.data_dir, &entry);
}
