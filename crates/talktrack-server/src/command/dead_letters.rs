//! `talktrack dead-letters`: manages records that are durable but that the store refused. Listing works while a server
//! is running. Replaying and dropping go through the running server, or are done by the command itself if none is
//! running.

mod list;
mod show;
mod settle;
mod executor;

use serde::Serialize;
use talktrack::clock::Seq;
use talktrack::store::sqlite::DeadLetter;
use talktrack::{MessageId, SessionId, Timestamp};
use talktrack_protocol::RecordLine;

use super::Outcome;

/// Printed if there are no dead letters.
const NONE: &str = "no dead letters";

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct DeadLettersArgs {
    #[command(subcommand)]
    action: DeadLettersAction,
}

#[derive(Debug, clap::Subcommand)]
enum DeadLettersAction {
    /// List dead letters, newest last
    List(list::ListLettersArgs),
    /// Show a dead letter, with its message as a line that `talktrack import` reads
    Show(show::ShowLetterArgs),
    /// Send dead letters to the store again
    Replay(settle::ReplayLettersArgs),
    /// Delete dead letters permanently
    Drop(settle::DropLettersArgs),
}

/// Runs the command.
pub(crate) async fn run(args: DeadLettersArgs) -> Outcome {
    match args.action {
        DeadLettersAction::List(args) => list::run(args).await,
        DeadLettersAction::Show(args) => show::run(args).await,
        DeadLettersAction::Replay(args) => settle::replay_letters(args).await,
        DeadLettersAction::Drop(args) => settle::drop_letters(args).await,
    }
}

/// A dead letter, for programs.
#[derive(Debug, Serialize)]
struct LetterSheet<'a> {
    seq: Seq,
    died_at: Timestamp,
    session_id: Option<SessionId>,
    message_id: Option<MessageId>,
    reason: &'a str,
    detail: Option<&'a str>,
    /// The record as a line for `talktrack import`; null if it cannot be decoded.
    frame: Option<RecordLine<'a>>,
    /// The remaining text of a record that cannot be decoded.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
}

impl<'a> LetterSheet<'a> {
    fn new(letter: &'a DeadLetter) -> Self {
        let record = letter.record.as_deref();
        Self {
            seq: letter.seq,
            died_at: letter.died_at,
            session_id: letter.session_id,
            message_id: letter.message_id,
            reason: &letter.reason,
            detail: letter.detail.as_deref(),
            frame: record.ok().and_then(RecordLine::from_record),
            text: record.err().map(String::as_str),
        }
    }
}
