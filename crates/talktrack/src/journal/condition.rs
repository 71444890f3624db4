//! Tracks whether the journal can write, and reports that to the tracker (which then refuses messages), to `/readyz`,
//! to the log and to the metrics.

use std::sync::atomic::Ordering;
use std::time::Duration;

use rusqlite::ffi;

use crate::event_log;
use crate::journal::{DeleteDeadLetters, Entry, Journal, Unwritten};
use crate::local::database;

/// The interval at which the journal checks whether a path has been restored.
const FILES_PAUSE: Duration = Duration::from_millis(100);

/// What a transaction that failed was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FailedWork {
    /// Records that are not durable yet. It may have been for the others as well.
    Records,
    /// The deletion of dead letters.
    DeadLetters,
    /// The store's answers about records that are durable.
    Answers,
}

impl FailedWork {
    pub(super) fn new(batch: &[Entry], tasks: &[DeleteDeadLetters]) -> Self {
        match (batch, tasks) {
            ([_, ..], _) => Self::Records,
            ([], [_, ..]) => Self::DeadLetters,
            ([], []) => Self::Answers,
        }
    }
}

impl Journal {
    /// Waits right after a commit while a path leads to another file: the commit is durable only if the next start
    /// finds it. If the path is restored, the commit is there and is acknowledged.
    ///
    /// # Errors
    /// If the deadline of a shutdown has passed.
    pub(super) fn wait_for_files(&self) -> rusqlite::Result<()> {
        let Some(files) = &self.files else { return Ok(()) };
        while let Err(problem) = files.check() {
            if self.shared.health.set_files_problem(Some(problem.clone())) {
                event_log::log_failure(&problem);
                self.set_store_up(false);
            }
            if self.shared.give_up.load(Ordering::Acquire) {
                let moved = ffi::Error::new(ffi::SQLITE_READONLY_DBMOVED);
                return Err(rusqlite::Error::SqliteFailure(moved, Some(problem)));
            }
            std::thread::sleep(FILES_PAUSE);
            if files.check().is_ok() {
                self.set_store_up(true);
            }
        }
        Ok(())
    }

    #[expect(clippy::cast_precision_loss, reason = "a batch has at most some thousand records")]
    pub(super) fn report_commit(&mut self, records: usize, took: Duration, unwritten: Unwritten) {
        let metrics = &self.shared.metrics;
        metrics.batch_size.record(records as f64);
        metrics.commit_seconds.record(took);
        metrics.publish(&self.books);
        self.report_recovery(unwritten);
        // The books come last: a caller that waits for them finds everything else up to date.
        self.shared.health.set_books(self.books);
    }

    pub(super) fn report_recovery(&mut self, unwritten: Unwritten) {
        if unwritten == Unwritten::Batch {
            return;
        }
        let full = self.outbox.as_ref().is_some_and(|outbox| outbox.is_full(&self.books));
        self.shared.health.set_full(full);
        self.backoff.reset();
        self.restore_reserve();
        if std::mem::take(&mut self.failing) {
            self.shared.health.set_journal_problem(None);
            self.set_store_up(true);
            tracing::info!("the journal can write again");
        }
    }

    pub(super) fn report_failure(&mut self, work: FailedWork, error: &rusqlite::Error) {
        self.failing = true;
        let is_full = database::is_disk_full(error);
        let cause = if is_full {
            "the journal's disk is full".to_owned()
        } else if let Some(damaged) = database::describe_damage(&self.connection, error) {
            damaged
        } else {
            format!("the journal cannot write: {error}")
        };
        match work {
            FailedWork::Records => event_log::log_failure(&cause),
            FailedWork::DeadLetters => event_log::log_failed_maintenance("delete dead letters", &cause),
            FailedWork::Answers => event_log::log_failed_maintenance("note the answers of the store", &cause),
        }
        self.shared.health.set_journal_problem(Some(cause));
        if is_full {
            // Until a commit succeeds again, every caller is refused at once and keeps its message. This is set after
            // the cause: a reader that sees a full journal without a cause would take it for `journal_max_bytes`.
            self.shared.health.set_full(true);
        }
        self.set_store_up(false);
    }

    /// Sets the metric if this file is the store. With a remote store, the writer sets it.
    fn set_store_up(&self, up: bool) {
        if self.outbox.is_none() {
            self.shared.metrics.store_up.set(f64::from(u8::from(up)));
        }
    }

    /// Restores a reserve that is too small since the disk was full.
    pub(super) fn restore_reserve(&mut self) {
        if self.reserve.grow_if_due() {
            self.reserve.limit_wal(&self.connection);
        }
    }

    /// Checkpoints the WAL and truncates it. A failure is ignored: the next write then needs more space, and may fail.
    pub(super) fn checkpoint_wal(&self) {
        if let Err(error) = database::checkpoint_truncate(&self.connection) {
            tracing::debug!(%error, "cannot truncate the journal's write-ahead log");
        }
    }
}
