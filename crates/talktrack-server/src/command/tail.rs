//! `talktrack tail`: shows messages as they are written, until Ctrl-C.

use std::process::ExitCode;
use std::time::Duration;

use talktrack::store::MessageRow;
use tokio::signal::unix::{SignalKind, signal};
use uuid::Uuid;

use super::Outcome;
use super::lookup::{self, HOW_TO_BEGIN};
use super::show;
use crate::config::DataLocation;
use crate::output::{self, Output, Stop};
use crate::store::MessageTail;
use crate::terminal::View;

/// How often the store is polled: often enough for a person, and rarely enough to cost nothing.
const PAUSE: Duration = Duration::from_millis(200);

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct TailArgs {
    /// Begin with the first stored message instead of the next one
    #[arg(long)]
    since_start: bool,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    location: DataLocation,
}

/// Runs the command.
pub(crate) async fn run(args: TailArgs) -> Outcome {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        stopped = follow_messages(args) => stopped.map_or_else(Stop::into_outcome, |()| Ok(ExitCode::SUCCESS)),
        () = output::wait_until_reader_gone() => Ok(ExitCode::SUCCESS),
        _ = tokio::signal::ctrl_c() => Ok(ExitCode::SUCCESS),
        _ = terminate.recv() => Ok(ExitCode::SUCCESS),
    }
}

async fn follow_messages(args: TailArgs) -> Result<(), Stop> {
    let mut tail = MessageTail::open(lookup::open_store(&args.location)?, args.since_start).await?;
    if tail.is_at_the_beginning() && !args.json {
        eprintln!("{HOW_TO_BEGIN}; waiting");
    }
    let (mut output, view) = (Output::stdout(), View::for_stdout());
    let mut session = None;
    loop {
        let (rows, more) = tail.next().await?;
        for row in &rows {
            if args.json {
                output.write_json(row)?
            } else {
                print_message(&mut output, row, view, &mut session)?
            }
        }
        output.flush()?;
        if !more {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Prints a message. If it belongs to another session than the previous one, prints a line with the session first.
fn print_message(
    output: &mut Output,
    row: &MessageRow,
    view: View,
    session: &mut Option<Uuid>,
) -> Result<(), Stop> {
    if session.replace(row.session_id) != Some(row.session_id) {
        output.write_line(&view.dim(&format!("session {}", row.session_id)))?;
    }
    show::print_message(output, row, view)
}
