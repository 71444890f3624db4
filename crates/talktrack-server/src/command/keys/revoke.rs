//! `talktrack keys revoke`: revokes an API key.

use std::process::ExitCode;

use talktrack::clock::{Clock as _, SystemClock};

use super::{open_key_file, record_key_change};
use crate::auth::merge_keys;
use crate::command::Outcome;
use crate::config::{ApiKey, KeyLocation};
use crate::error::Failure;
use crate::output::print_summary;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct RevokeKeyArgs {
    /// The name of the key
    #[arg(value_name = "NAME")]
    name: String,
    /// Print the entry as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    location: KeyLocation,
}

/// Revokes a key. A key of the settings is revoked too, by an entry with its hash in the file.
pub(super) fn run(args: &RevokeKeyArgs) -> Outcome {
    let settings = args.location.load()?;
    let Some(file) = open_key_file(&settings) else {
        return Err(Failure::usage(
            "api_keys_file is not set, so no key can be revoked while the server runs: set it, or remove the key from api_keys \
             and restart the server",
        ));
    };
    let keys = merge_keys(&settings.api_keys, file.read()?);
    let key = keys.into_iter().find(|key| key.name == args.name && key.revoked.is_none());
    let key = key.ok_or_else(|| {
        Failure::new(format!(
            "there is no key called {} that is not revoked; see `talktrack keys list`",
            args.name
        ))
    })?;
    let revoked = ApiKey { revoked: Some(SystemClock.now()), ..key };
    file.put_key(&revoked)?;
    record_key_change(&settings, "keys.revoke", &revoked);
    let shown =
        serde_json::json!({"api_keys": revoked.to_string(), "file": file.path().display().to_string()});
    let words = format!(
        "{} is revoked: a running server refuses it within seconds, and ends its connections within a minute",
        args.name
    );
    print_summary(args.json, &shown, |_| words, ExitCode::SUCCESS)
}
