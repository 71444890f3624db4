//! `talktrack keys list`: lists the API keys.

use std::process::ExitCode;

use serde::Serialize;
use talktrack::Timestamp;
use talktrack::clock::{Clock as _, SystemClock};

use super::open_key_file;
use crate::auth::{KeyUses, key_id, merge_keys};
use crate::command::Outcome;
use crate::config::{ApiKey, KeyLocation, Network};
use crate::output::{Output, Stop};
use crate::terminal::{self, View};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct ListKeysArgs {
    /// Print one JSON object per key
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    location: KeyLocation,
}

/// A key for the output.
#[derive(Serialize)]
struct KeyRow {
    name: String,
    scopes: String,
    /// The id in the key, after `tt_`.
    id: String,
    /// `active`, `expired` or `revoked`.
    state: &'static str,
    expires: Option<Timestamp>,
    revoked: Option<Timestamp>,
    /// `null` for all users.
    users: Option<Vec<String>>,
    /// `null` for all addresses.
    addresses: Option<Vec<String>>,
    last_used: Option<Timestamp>,
    last_used_from: Option<String>,
    /// The setting that contains the entry: `api_keys` or `api_keys_file`.
    place: &'static str,
}

/// Runs the command.
pub(super) fn run(args: &ListKeysArgs) -> Outcome {
    let settings = args.location.load()?;
    let of_file = open_key_file(&settings).map(|file| file.read()).transpose()?.unwrap_or_default();
    let uses = KeyUses::open(&settings.data_dir);
    let place = |key: &ApiKey| {
        if of_file.iter().any(|other| other.digest == key.digest) { "api_keys_file" } else { "api_keys" }
    };
    let keys = merge_keys(&settings.api_keys, of_file.clone());
    let rows: Vec<KeyRow> = keys.iter().map(|key| KeyRow::new(key, place(key), &uses)).collect();
    let mut output = Output::stdout();
    let written = match args.json {
        true => rows.iter().try_for_each(|row| output.write_json(row)),
        false if rows.is_empty() => output.write_line("there are no keys; `talktrack keys new` creates one"),
        false => output.write_line(&render_table(&rows, View::for_stdout())),
    };
    written.and_then(|()| output.flush()).map_or_else(Stop::into_outcome, |()| Ok(ExitCode::SUCCESS))
}

impl KeyRow {
    fn new(key: &ApiKey, place: &'static str, uses: &KeyUses) -> Self {
        let state = match (key.revoked, key.expires) {
            (Some(_), _) => "revoked",
            (None, Some(expires)) if expires <= SystemClock.now() => "expired",
            _ => "active",
        };
        let used = uses.last_use(&key.digest);
        let networks = key.networks.as_ref();
        Self {
            name: key.name.clone(),
            scopes: key.scopes.to_string(),
            id: key_id(&key.digest),
            state,
            expires: key.expires,
            revoked: key.revoked,
            users: key.users.as_ref().map(|users| users.iter().map(ToString::to_string).collect()),
            addresses: networks.map(|networks| networks.iter().map(Network::to_string).collect()),
            last_used: used.as_ref().map(|used| used.at),
            last_used_from: used.and_then(|used| used.from).map(|from| from.to_string()),
            place,
        }
    }
}

fn render_table(rows: &[KeyRow], view: View) -> String {
    let heads = ["name", "scopes", "state", "expires", "users", "addresses", "last used", "from", "in"];
    let mut table = terminal::new_table(view, &heads);
    let moment = |moment: Option<Timestamp>, none: &str| {
        moment.map_or(none.to_owned(), |at| terminal::format_time(&at.into()))
    };
    for row in rows {
        let users = match row.users.as_deref() {
            None => "all".to_owned(),
            Some([user]) => user.clone(),
            Some(users) => format!("{} users", users.len()),
        };
        table.add_row(vec![
            row.name.clone(),
            row.scopes.clone(),
            row.state.to_owned(),
            moment(row.expires, "never"),
            users,
            row.addresses.as_ref().map_or("all".to_owned(), |networks| networks.join(" ")),
            moment(row.last_used, "-"),
            row.last_used_from.clone().unwrap_or_else(|| "-".into()),
            row.place.to_owned(),
        ]);
    }
    table.trim_fmt()
}
