//! `talktrack delete`: deletes sessions, or everything of a user, permanently.

mod executor;

use std::process::ExitCode;

use serde_json::Value;
use talktrack::{SessionId, UserId, counted};

use super::Outcome;
use super::lookup;
use super::source::SourceArgs;
use crate::deletion::operator::DeletionTarget;
use crate::error::Failure;
use crate::output::{Output, Stop};
use crate::terminal;
use executor::Executor;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "While a server uses the data directory, it carries out the deletion. With --url, the token needs the scope \
    admin, or is the user's own."
)]
pub(crate) struct DeleteArgs {
    /// The sessions: each its id, or at least the first 8 characters of it
    #[arg(value_name = "ID", required_unless_present = "user", conflicts_with = "user")]
    ids: Vec<String>,
    /// Everything of this user, instead of single sessions
    #[arg(long, value_name = "UUID")]
    user: Option<UserId>,
    /// Confirm the deletion
    #[arg(long)]
    yes: bool,
    /// Print one JSON object per deletion
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    source: SourceArgs,
}

/// Runs the command.
pub(crate) async fn run(args: DeleteArgs) -> Outcome {
    let targets = find_targets(&args).await?;
    if !args.yes {
        let what = match &args.user {
            Some(user) => format!("everything of the user {user}"),
            None => describe_sessions(&targets),
        };
        return Err(Failure::usage(format_args!("this deletes {what} permanently; add --yes to confirm")));
    }
    let executor = Executor::open(&args.source).await?;
    let deleted = delete_all(&executor, targets, args.json).await;
    executor.close().await?;
    deleted
}

/// Returns what to delete. A whole id may name a session that only other nodes know.
async fn find_targets(args: &DeleteArgs) -> Result<Vec<DeletionTarget>, Failure> {
    if let Some(user) = &args.user {
        return Ok(vec![DeletionTarget::User(user.clone())]);
    }
    let source = args.source.open()?;
    let mut found: Vec<DeletionTarget> = Vec::with_capacity(args.ids.len());
    for id in &args.ids {
        let session_id = match id.parse::<SessionId>() {
            Ok(session_id) => session_id,
            Err(_) => lookup::find_session(&source, id).await?.session_id,
        };
        let target = DeletionTarget::Session(session_id);
        if !found.contains(&target) {
            found.push(target);
        }
    }
    Ok(found)
}

fn describe_sessions(targets: &[DeletionTarget]) -> String {
    match targets {
        [DeletionTarget::Session(session_id)] => format!("the session {session_id}"),
        several => counted(several.len(), "session"),
    }
}

async fn delete_all(executor: &Executor, targets: Vec<DeletionTarget>, json: bool) -> Outcome {
    let mut output = Output::stdout();
    let mut code = ExitCode::SUCCESS;
    for target in targets {
        match executor.delete(target.clone()).await? {
            Some(report) => {
                let told = if json {
                    output.write_json(&report)
                } else {
                    print_report(&target, &report, &mut output)
                };
                told.and_then(|()| output.flush()).or_else(ignore_reader_gone)?;
            }
            None => {
                eprintln!(
                    "talktrack: there is no {}; records of it that other nodes deliver later are refused",
                    name(&target)
                );
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

/// Prints what was removed. `report` is the answer of the HTTP API.
fn print_report(target: &DeletionTarget, report: &Value, output: &mut Output) -> Result<(), Stop> {
    let parts = [
        ("sessions", "session"),
        ("messages", "message"),
        ("audio", "recording"),
        ("dead_letters", "dead letter"),
        ("journal", "waiting message"),
    ];
    let number = |key: &str| report[key].as_u64().filter(|number| *number > 0);
    let removed: Vec<_> = parts.iter().filter_map(|(key, one)| Some(counted(number(key)?, one))).collect();
    let removed = if removed.is_empty() { "nothing was left".to_owned() } else { removed.join(", ") };
    output.write_line(&format!("deleted the {}: {removed}", name(target)))?;
    if report["store"] == "pending" {
        output.write_line(
            "the database or the store of recordings cannot be reached; the rest is deleted there as soon as it can be",
        )?;
    }
    for left in report["remaining"].as_array().into_iter().flatten() {
        let text = |key: &str| terminal::escape_line(left[key].as_str().unwrap_or_default()).into_owned();
        output.write_line(&format!(
            "! {} may still hold deleted text; to remove it, run: {}",
            text("path"),
            text("remove")
        ))?;
    }
    Ok(())
}

fn name(target: &DeletionTarget) -> String {
    match target {
        DeletionTarget::Session(session_id) => format!("session {session_id}"),
        DeletionTarget::User(user_id) => format!("user {user_id}"),
    }
}

/// Ignores a closed standard output, so that the other deletions are carried out.
fn ignore_reader_gone(stop: Stop) -> Result<(), Failure> {
    match stop {
        Stop::ReaderGone => Ok(()),
        Stop::Failed(failure) => Err(failure),
    }
}
