//! A dead letter as the pages show it.

use talktrack::clock::Seq;
use talktrack::store::sqlite::DeadLetter;
use talktrack::{MessageId, SessionId};
use talktrack_protocol::RecordLine;

use super::format::Moment;
use crate::{dead_letters, terminal};

/// How many characters of a letter the list shows.
const GLIMPSE: usize = 1_000;

/// A dead letter for the templates.
pub(super) struct LetterView {
    pub(super) seq: Seq,
    pub(super) reason: String,
    pub(super) detail: Option<String>,
    pub(super) when: Moment,
    pub(super) session_id: Option<SessionId>,
    pub(super) message_id: Option<MessageId>,
    /// What kind of record the letter contains.
    pub(super) kind: &'static str,
    /// The text of a message, or the raw contents of any other record.
    pub(super) text: String,
    /// The record as a line for `talktrack import`.
    pub(super) line: Option<String>,
}

impl LetterView {
    pub(super) fn new(letter: DeadLetter) -> Self {
        let kind = dead_letters::kind_of_record(&letter);
        let record = letter.record.as_deref();
        let line = record.ok().and_then(RecordLine::from_record);
        let line = line.and_then(|line| serde_json::to_string(&line).ok());
        let line = line.map(|line| terminal::escape_json(&line).into_owned());
        let words = record.ok().and_then(|record| Some(record.message()?.message.content.clone()));
        let text = match record {
            Ok(_) => words.or_else(|| line.clone()).unwrap_or_default(),
            Err(text) => text.clone(),
        };
        Self {
            seq: letter.seq,
            detail: letter.detail,
            when: Moment::new(letter.died_at),
            session_id: letter.session_id,
            message_id: letter.message_id,
            reason: letter.reason,
            kind,
            text,
            line,
        }
    }

    /// Returns the beginning of the text.
    pub(super) fn glimpse(&self) -> String {
        terminal::truncate(&self.text, GLIMPSE)
    }
}

/// Explains a reason in words.
pub(super) fn explain_reason(reason: &str) -> &'static str {
    match reason {
        "unknown_session" => "no session with this id exists",
        "other_user" => "the session belongs to another user",
        "forbidden" => "a user's token may revise only what a token wrote",
        "id_conflict" => "another message has this id",
        "data" => "the store refuses this row",
        "corrupt" => "its bytes have changed since it was accepted",
        "deleted" => "its session was deleted",
        _ => "",
    }
}
