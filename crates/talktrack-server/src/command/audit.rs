//! `talktrack audit`: shows the audit log, oldest entry first.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::process::ExitCode;

use serde_json::{Map, Value};
use talktrack::{Timestamp, counted};

use super::Outcome;
use super::filter::parse_moment;
use crate::audit::audit_files;
use crate::config::KeyLocation;
use crate::error::Failure;
use crate::output::{Output, Stop};
use crate::terminal;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct AuditArgs {
    /// Only entries from this time on: RFC 3339, a date (in UTC), or how long ago, such as 90m, 24h or 7d
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    since: Option<Timestamp>,
    /// Print the entries unchanged, one JSON object per line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    location: KeyLocation,
}

/// Runs the command.
pub(crate) async fn run(args: AuditArgs) -> Outcome {
    show_entries(&args).map_or_else(Stop::into_outcome, |()| Ok(ExitCode::SUCCESS))
}

fn show_entries(args: &AuditArgs) -> Result<(), Stop> {
    let data_dir = args.location.load()?.data_dir;
    let files = audit_files(&data_dir);
    if files.is_empty() {
        return Err(Failure::new(format!("there is no audit log in {}", data_dir.display())).into());
    }
    let mut output = Output::stdout();
    let mut unreadable = 0_u64;
    for path in files {
        let cannot = |error| Failure::new(format!("cannot read {}: {error}", path.display()));
        for line in BufReader::new(File::open(&path).map_err(cannot)?).lines() {
            let line = line.map_err(cannot)?;
            match serde_json::from_str::<Map<String, Value>>(&line) {
                Ok(entry) if is_since(&entry, args.since) => match args.json {
                    true => output.write_json(&entry)?,
                    false => output.write_line(&describe(&entry))?,
                },
                Ok(_) => {}
                Err(_) => unreadable += 1,
            }
        }
    }
    output.flush()?;
    if unreadable > 0 {
        eprintln!("not entries of the audit log: {}", counted(unreadable, "line"));
    }
    Ok(())
}

fn is_since(entry: &Map<String, Value>, since: Option<Timestamp>) -> bool {
    let at = entry.get("at").and_then(Value::as_str).and_then(|at| at.parse::<Timestamp>().ok());
    since.is_none_or(|since| at.is_none_or(|at| at >= since))
}

/// Formats an entry: the usual fields in columns, then all others.
fn describe(entry: &Map<String, Value>) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let field = |name: &str| entry.get(name).map_or_else(|| "-".to_owned(), text);
    let usual = ["at", "who", "what", "from", "outcome"];
    let others = entry.iter().filter(|(name, _)| !usual.contains(&name.as_str()));
    let others: Vec<String> = others.map(|(name, value)| format!("{name}={}", text(value))).collect();
    let [at, who, what, from, outcome] = usual.map(field);
    let line = format!("{at}  {who}  {what}  {from}  {outcome}  {}", others.join(" "));
    terminal::escape_line(line.trim_end()).into_owned()
}
