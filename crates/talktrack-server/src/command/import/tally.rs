//! The result of an import, and what is reported about its lines.

use std::time::Duration;

use serde::Serialize;
use talktrack::{Books, counted};
use talktrack_protocol::Warnings;
use talktrack_protocol::jsonl::LinePosition;

use crate::output::WarningLog;
use crate::terminal;

/// How many refused lines are reported. A file of another format would have one error for each of its lines.
const MAX_REPORTED: u64 = 100;

/// The tally, and the reports on stderr.
#[derive(Debug)]
pub(crate) struct ImportReport {
    pub(super) tally: ImportTally,
    warnings: WarningLog,
}

impl ImportReport {
    pub(super) fn new(tally: ImportTally) -> Self {
        Self { tally, warnings: WarningLog::default() }
    }

    /// Counts an invalid or refused line, and reports it on stderr if it is among the first.
    pub(super) fn refuse_line(&mut self, place: &str, problem: &str) {
        self.tally.refused += 1;
        match self.tally.refused {
            ..=MAX_REPORTED => eprintln!("{place}: {}", terminal::escape_line(problem)),
            count if count == MAX_REPORTED + 1 => {
                eprintln!("{place}: further refused lines are only counted")
            }
            _ => {}
        }
    }

    /// Reports the warnings about a line on stderr. Each different warning is reported once, with its first line.
    pub(super) fn warn(&self, place: LinePosition<'_>, warnings: Warnings) {
        for warning in warnings.into_texts() {
            if self.warnings.is_news(&warning) {
                eprintln!("{place}: warning: {}", terminal::escape_line(&warning));
            }
        }
    }
}

#[derive(Debug)]
pub(crate) struct ImportTally {
    pub(crate) lines: u64,
    pub(crate) refused: u64,
    /// The number of new sessions.
    pub(crate) sessions: u64,
    /// The number of messages that are durable now, including those that were durable before.
    pub(crate) messages: u64,
    /// The books before the first line. The difference to `after` is what this import has added.
    before: Books,
    after: Books,
    /// False for a remote store: the books then count the messages that it has, but not which of them are new.
    counts_rows: bool,
    waits: bool,
}

/// The results, for programs.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct ImportSummary {
    lines: u64,
    sessions: u64,
    messages: u64,
    /// The number of new messages; `None` if only the store could tell.
    new: Option<u64>,
    dead_lettered: u64,
    /// Messages that the store dropped because they, their session or their user were deleted.
    deleted: u64,
    pending: u64,
    refused: u64,
    seconds: f64,
}

impl ImportTally {
    pub(super) fn new(before: Books, counts_rows: bool) -> Self {
        let after = before;
        Self { lines: 0, refused: 0, sessions: 0, messages: 0, before, after, counts_rows, waits: false }
    }

    /// Sets the books after the last line.
    pub(super) fn close(&mut self, after: Books) {
        self.after = after;
    }

    /// True if every line is in the store.
    pub(super) fn is_clean(&self) -> bool {
        self.refused == 0 && self.dead_lettered() + self.deleted() == 0 && self.after.pending() == 0
    }

    pub(super) fn report_waiting_once(&mut self) {
        if !std::mem::replace(&mut self.waits, true) {
            eprintln!("there is no room now; waiting until there is some");
        }
    }

    pub(super) fn summary(&self, took: Duration) -> ImportSummary {
        ImportSummary {
            lines: self.lines,
            sessions: self.sessions,
            messages: self.messages,
            new: self.new_messages(),
            dead_lettered: self.dead_lettered(),
            deleted: self.deleted(),
            pending: self.after.pending(),
            refused: self.refused,
            seconds: took.as_secs_f64(),
        }
    }

    pub(super) fn describe(&self, took: Duration) -> String {
        let messages = self.messages;
        let of_these = self.new_messages().map_or_else(String::new, |new| {
            let known = messages.saturating_sub(new + self.dead_lettered() + self.deleted());
            format!(" ({new} new, {known} already stored)")
        });
        let mut text = format!(
            "imported {} and {}{of_these} in {}; {} refused",
            counted(self.sessions, "new session"),
            counted(messages, "message"),
            terminal::format_duration(took.as_secs_f64()),
            counted(self.refused, "line")
        );
        if self.after.pending() > 0 {
            let pending = counted(self.after.pending(), "message");
            text.push_str(&format!(
                "; in the journal, for the next `talktrack serve` or `talktrack import`: {pending}"
            ));
        }
        if self.dead_lettered() > 0 {
            text.push_str(&format!("; {} became dead letters", counted(self.dead_lettered(), "message")));
        }
        if self.deleted() > 0 {
            let deleted = counted(self.deleted(), "message");
            text.push_str(&format!("; {deleted} dropped, because of a deletion"));
        }
        text
    }

    /// Returns how many messages are new, if the books tell.
    pub(crate) fn new_messages(&self) -> Option<u64> {
        self.counts_rows.then(|| self.after.inserted.saturating_sub(self.before.inserted))
    }

    fn dead_lettered(&self) -> u64 {
        let dead = self.after.dead_lettered.saturating_sub(self.before.dead_lettered);
        dead.saturating_sub(self.deleted())
    }

    /// Returns how many messages were dropped. The books count a dropped message as a dead letter that was removed
    /// immediately.
    fn deleted(&self) -> u64 {
        self.after.letters_taken_out.saturating_sub(self.before.letters_taken_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_books_tell_what_was_new() {
        let mut tally = ImportTally::new(Books { inserted: 10, ..Books::default() }, true);
        (tally.lines, tally.sessions, tally.messages) = (9, 1, 7);
        tally.close(Books { inserted: 14, ..Books::default() });
        assert!(tally.is_clean());
        assert_eq!(
            tally.describe(Duration::from_millis(1_500)),
            "imported 1 new session and 7 messages (4 new, 3 already stored) in 1.5s; 0 lines refused"
        );
        tally.refused = 1;
        assert!(!tally.is_clean());
    }

    #[test]
    fn what_the_store_dropped_is_no_dead_letter() {
        let mut tally =
            ImportTally::new(Books { dead_lettered: 3, letters_taken_out: 3, ..Books::default() }, false);
        (tally.lines, tally.messages) = (2, 2);
        tally.close(Books { durable: 5, dead_lettered: 5, letters_taken_out: 5, ..Books::default() });
        assert!(!tally.is_clean());
        assert_eq!(
            tally.describe(Duration::from_millis(1_500)),
            "imported 0 new sessions and 2 messages in 1.5s; 0 lines refused; 2 messages dropped, because of a deletion"
        );
    }

    #[test]
    fn what_a_remote_store_has_not_taken_is_told_and_what_it_had_before_is_not_guessed() {
        let mut tally = ImportTally::new(Books::default(), false);
        (tally.lines, tally.messages) = (9, 7);
        tally.close(Books { durable: 7, stored: 5, ..Books::default() });
        assert!(!tally.is_clean());
        assert_eq!(
            tally.describe(Duration::from_millis(1_500)),
            "imported 0 new sessions and 7 messages in 1.5s; 0 lines refused; in the journal, for the next \
             `talktrack serve` or `talktrack import`: 2 messages"
        );
    }
}
