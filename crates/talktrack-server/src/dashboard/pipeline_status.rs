//! The current state of the pipeline: the stages that a message passes through, with their counts.

use askama::Template;
use talktrack::Books;

use super::format::{format_bytes, group_digits};
use crate::state::AppState;

/// The part of the page that the script refreshes.
#[derive(Template)]
#[template(path = "pipeline_status.html")]
pub(super) struct PipelineStatus {
    faults: Vec<Fault>,
    accepted: u64,
    refused: Vec<(&'static str, u64)>,
    queued: u64,
    queue_capacity: u64,
    journal_fails: bool,
    store_fails: bool,
    /// True if the store is remote and the local file is its outbox.
    is_remote: bool,
    books: Books,
}

/// A failure to show on the page.
#[derive(Debug, PartialEq, Eq)]
struct Fault {
    heading: &'static str,
    cause: String,
    /// The command that fixes the failure, if there is one.
    command: Option<String>,
}

impl PipelineStatus {
    pub(super) fn new(state: &AppState) -> Self {
        let health = state.tracker().health();
        let config = state.config();
        let journal_fails = health.journal.is_some();
        let store_fails = health.store.is_some();
        let stopping = state.is_stopping().then(|| "clients are asked to reconnect".to_owned());
        let causes = [
            ("Nothing becomes durable", health.journal),
            ("Nothing reaches the database; messages wait in the journal", health.store),
            ("The server is stopping", stopping),
        ];
        let faults = causes.into_iter().filter_map(|(heading, cause)| Some(Fault::new(heading, &cause?)));
        Self {
            faults: faults.collect(),
            accepted: state.tracker().accepted_messages(),
            refused: health.refused.into_iter().collect(),
            queued: to_u64(state.tracker().queue_depth()),
            queue_capacity: to_u64(config.queue_capacity),
            journal_fails,
            store_fails,
            is_remote: state.tracker().is_outbox(),
            books: health.books,
        }
    }

    fn all_refused(&self) -> u64 {
        self.refused.iter().map(|(_, count)| count).sum()
    }

    fn is_balanced(&self) -> bool {
        self.books.durable == self.books.stored + self.books.dead_lettered + self.books.pending()
            && (self.is_remote || self.books.pending() == 0)
    }
}

impl Fault {
    /// Splits a cause from the command that fixes it, as in `… (run: talktrack migrate)`.
    fn new(heading: &'static str, cause: &str) -> Self {
        let parts = cause.strip_suffix(')').and_then(|cause| cause.rsplit_once(" (run: "));
        let (cause, command) = parts.map_or((cause, None), |(cause, command)| (cause, Some(command)));
        Self { heading, cause: cause.to_owned(), command: command.map(str::to_owned) }
    }
}

fn to_u64(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_that_mends_it_is_told_apart_from_the_cause() {
        let faults = Fault::new("", "Could not find the 'audio_url' column (run: talktrack migrate)");
        assert_eq!(faults.cause, "Could not find the 'audio_url' column");
        assert_eq!(faults.command.as_deref(), Some("talktrack migrate"));
        let faults = Fault::new("", "the database cannot be reached (connection refused)");
        assert_eq!(
            (faults.cause.as_str(), faults.command),
            ("the database cannot be reached (connection refused)", None)
        );
    }
}
