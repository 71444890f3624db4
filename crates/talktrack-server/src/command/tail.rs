//! `talktrack tail`: shows messages as they become durable, until Ctrl-C.

mod change_feed;

use std::process::ExitCode;

use change_feed::{ChangeFeed, FeedItem};
use talktrack::SessionId;
use talktrack::clock::Seq;
use talktrack::store::MessageRow;
use tokio::signal::unix::{SignalKind, signal};

use super::client_errors::to_line;
use super::lookup::HOW_TO_BEGIN;
use super::source::SourceArgs;
use super::{Outcome, show};
use crate::output::{self, Output, Stop};
use crate::terminal::View;

/// Printed if some of the requested changes have been removed.
const GAP: &str = "talktrack: older changes are no longer kept; `talktrack export` has the messages";

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Without --url, the command follows the server that uses the data directory, or the file of the data \
    directory. It shows each message that is added or revised, as it is then."
)]
pub(crate) struct TailArgs {
    /// Begin with the oldest change that is kept (of the newest 200,000) instead of the next one
    #[arg(long)]
    since_start: bool,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    source: SourceArgs,
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
    let mut feed = ChangeFeed::open(&args).await?;
    if !args.json && feed.has_no_conversation().await? {
        eprintln!("{HOW_TO_BEGIN}; waiting");
    }
    let mut output = Output::stdout();
    let view = View::for_stdout();
    let mut session = None;
    loop {
        match feed.next().await? {
            FeedItem::Message(row) if args.json => output.write_json(&row)?,
            FeedItem::Message(row) => print_message(&mut output, &row, view, &mut session)?,
            FeedItem::UnreadableMessage { place, problem } => warn_of_unreadable(place, &problem),
            FeedItem::Gap => eprintln!("{GAP}"),
        }
        output.flush()?;
    }
}

/// Says that a message is not shown, because the server is of another version.
fn warn_of_unreadable(place: Option<Seq>, problem: &str) {
    let place = place.map_or_else(String::new, |place| format!(" {place}"));
    let problem = to_line(&problem);
    eprintln!(
        "talktrack: cannot read the message of event{place} ({problem}); update this program to the version of the server"
    );
}

/// Prints a message. If it belongs to another session than the previous one, prints a line with the session first.
fn print_message(
    output: &mut Output,
    row: &MessageRow,
    view: View,
    session: &mut Option<SessionId>,
) -> Result<(), Stop> {
    if session.replace(row.session_id) != Some(row.session_id) {
        output.write_line(&view.dim(&format!("session {}", row.session_id)))?;
    }
    show::print_message(output, row, view)
}
