//! The current state of the pipeline: the stages that a message passes through, with their counts.

use askama::Template;
use talktrack::Books;

use super::words::{bytes, grouped};
use crate::state::AppState;

/// The part of the page that the script refreshes.
#[derive(Template)]
#[template(path = "figures.html")]
pub(super) struct Figures {
    wrong: Vec<Wrong>,
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
struct Wrong {
    heading: &'static str,
    cause: String,
    /// The command that fixes the failure, if there is one.
    command: Option<String>,
}

impl Figures {
    pub(super) fn of(state: &AppState) -> Self {
        let (health, config) = (state.tracker().health(), state.config());
        let (journal_fails, store_fails) = (health.journal.is_some(), health.store.is_some());
        let stopping = state.is_stopping().then(|| "clients are asked to reconnect".to_owned());
        let causes = [
            ("Nothing becomes durable", health.journal),
            ("Nothing reaches the database; messages wait in the journal", health.store),
            ("The server is stopping", stopping),
        ];
        let wrong = causes.into_iter().filter_map(|(heading, cause)| Some(Wrong::of(heading, &cause?)));
        Self {
            wrong: wrong.collect(),
            accepted: state.tracker().accepted_messages(),
            refused: health.refused.into_iter().collect(),
            queued: number(state.tracker().queue_depth()),
            queue_capacity: number(config.queue_capacity),
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

impl Wrong {
    /// Splits a cause from the command that fixes it, as in `… (run: talktrack migrate)`.
    fn of(heading: &'static str, cause: &str) -> Self {
        let parts = cause.strip_suffix(')').and_then(|cause| cause.rsplit_once(" (run: "));
        let (cause, command) = parts.map_or((cause, None), |(cause, command)| (cause, Some(command)));
        Self { heading, cause: cause.to_owned(), command: command.map(str::to_owned) }
    }
}

fn number(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_that_mends_it_is_told_apart_from_the_cause() {
        let wrong = Wrong::of("", "Could not find the 'audio_url' column (run: talktrack migrate)");
        assert_eq!(wrong.cause, "Could not find the 'audio_url' column");
        assert_eq!(wrong.command.as_deref(), Some("talktrack migrate"));
        let wrong = Wrong::of("", "the database cannot be reached (connection refused)");
        assert_eq!(
            (wrong.cause.as_str(), wrong.command),
            ("the database cannot be reached (connection refused)", None)
        );
    }
}
