//! The report of a salvage: one line for the log, and the details next to the broken files.

use std::fmt::Write as _;
use std::path::Path;

use crate::local::tables::sessions::checks::WrongCount;

/// The words of a report of a damage that cost nothing, as far as the books tell.
pub(super) const NOTHING_MISSING: &str = "nothing is known to be missing";

/// The most sessions that a report names. Others are only counted.
const MOST_NAMED: usize = 1_000;

/// The content of the new file, and what is missing from it.
#[derive(Debug)]
pub(super) struct Salvaged {
    pub(super) messages: u64,
    pub(super) sessions: u64,
    /// Number of records that wait for a remote store.
    pub(super) waiting: u64,
    pub(super) letters: u64,
    /// Number of sessions whose row was lost and was written again from other rows.
    pub(super) restored_sessions: u64,
    pub(super) missing: Losses,
}

/// The known losses.
#[derive(Debug, Default)]
pub(super) struct Losses {
    /// True if the books were readable; otherwise the total is unknown.
    pub(super) books_read: bool,
    pub(super) messages: u64,
    /// True if committed pages of the write-ahead log were lost. The books are then from before them, so that they do not tell
    /// what is missing.
    pub(super) log_is_incomplete: bool,
    /// Number of messages that waited for a remote store.
    pub(super) pending: u64,
    pub(super) letters: u64,
    /// Number of unreadable records on any page, of any table.
    pub(super) broken_records: u64,
    /// Sessions with fewer messages than they counted, in words.
    pub(super) incomplete: Vec<String>,
}

impl Salvaged {
    /// True if the file is known to be a file of talktrack.
    pub(super) fn is_ours(&self) -> bool {
        self.missing.books_read || self.messages + self.sessions + self.waiting + self.letters > 0
    }

    /// Returns the line for the log.
    fn write_summary(&self, damage: &str, dir: &Path) -> String {
        let Self { messages, sessions, waiting, letters, .. } = self;
        format!(
            "The database was damaged ({damage}): saved {messages} messages, {sessions} sessions, {waiting} records that \
             wait for the store and {letters} dead letters; {}; the broken files are in {}",
            self.missing.describe(),
            dir.display()
        )
    }

    /// Returns the line for the log, followed by all details.
    pub(super) fn write_report(&self, damage: &str, dir: &Path) -> String {
        let mut report = self.write_summary(damage, dir);
        let _ = write!(
            report,
            "\n\nunreadable records of all tables: {}\n\
             sessions whose row was lost and is restored from other rows: {}\n",
            self.missing.broken_records, self.restored_sessions
        );
        for session in self.missing.incomplete.iter().take(MOST_NAMED) {
            let _ = writeln!(report, "{session}");
        }
        let more = self.missing.incomplete.len().saturating_sub(MOST_NAMED);
        if more > 0 {
            let _ = writeln!(report, "and {more} more sessions");
        }
        report
    }
}

impl Losses {
    /// Adds the losses per session, because each session also knows how many messages it had.
    pub(super) fn add_sessions(&mut self, sessions: &[WrongCount]) {
        let sum = sessions.iter().map(|session| session.counted - session.found).sum();
        self.messages = self.messages.max(sum);
        let name = |WrongCount { session_id, counted, found }: &WrongCount| {
            format!("session {session_id}: {found} of {counted} messages")
        };
        self.incomplete = sessions.iter().map(name).collect();
    }

    fn describe(&self) -> String {
        let Self { books_read, messages, pending, letters, log_is_incomplete, .. } = *self;
        if log_is_incomplete {
            return format!(
                "part of the write-ahead log was lost: the messages that were acknowledged last are missing, and how many is not known; \
                 missing beyond these: {messages} messages, {pending} that waited for the store and {letters} dead letters"
            );
        }
        let known = match (messages, pending, letters) {
            (0, 0, 0) if books_read => return NOTHING_MISSING.into(),
            (0, 0, 0) => {
                return "it is not known how much is missing, because the books could not be read".into();
            }
            _ => {
                format!(
                    "missing: {messages} messages, {pending} that waited for the store and {letters} dead letters"
                )
            }
        };
        if books_read { known } else { format!("{known}, or more: the books could not be read") }
    }
}
