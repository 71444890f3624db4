//! `talktrack keys new`: makes an API key. The key is shown once; the settings get its hash.

use std::process::ExitCode;

use clap::Subcommand;
use serde::Serialize;

use super::Outcome;
use crate::auth::NewKey;
use crate::config::{Scopes, check_name};
use crate::error::Failure;
use crate::output::sum_up;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a key for a server, and the line for the settings that lets it in
    New(New),
}

#[derive(Debug, clap::Args)]
struct New {
    /// What the key is called in the settings: letters, digits, '-', '_' and '.'
    #[arg(long, value_name = "NAME", value_parser = name)]
    name: String,
    /// What it allows: read, write, metrics, admin (everything), with commas between them
    #[arg(long, value_name = "SCOPES")]
    scopes: Scopes,
    /// The two as one JSON object
    #[arg(long)]
    json: bool,
}

fn name(text: &str) -> Result<String, String> {
    check_name(text).map(|()| text.to_owned())
}

/// What is shown of a new key.
#[derive(Serialize)]
struct Shown {
    key: String,
    api_keys: String,
}

/// Makes a key and shows it. Nothing is written anywhere.
pub(crate) async fn run(args: Args) -> Outcome {
    let Action::New(New { name, scopes, json }) = args.action;
    let Some(new) = NewKey::draw(name, scopes) else {
        return Err(Failure::new("the system has no randomness to make a key of"));
    };
    let shown = Shown { key: new.key, api_keys: new.entry.to_string() };
    sum_up(json, &shown, |_| in_words(&shown), ExitCode::SUCCESS)
}

fn in_words(Shown { key, api_keys }: &Shown) -> String {
    format!(
        "The key, which is shown this once (Authorization: Bearer KEY):\n\n  {key}\n\n\
         The entry for api_keys in the settings of the server that is to take it:\n\n  {api_keys}"
    )
}
