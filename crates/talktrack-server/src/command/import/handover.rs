//! Hands records to the tracker, waits while there is no room, and collects the outcome of each line.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use talktrack::clock::Seq;
use talktrack::store::Read;
use talktrack::{Durability, Reason, Receipt, Refused, Tracker};
use talktrack_protocol::Warnings;
use talktrack_protocol::jsonl::LinePosition;

use super::tally::ImportTally;
use crate::error::Failure;
use crate::output::WarningLog;
use crate::terminal;

/// The pause before the next attempt while the disk is full.
const PAUSE: Duration = Duration::from_millis(500);

/// How long the import waits for a store that accepts nothing. The records that the store has not accepted by then are
/// durable in the journal.
const STORE_TIMEOUT: Duration = Duration::from_secs(10);

/// How many refused lines are reported. A file of another format would have one error for each of its lines.
const MAX_REPORTED: u64 = 100;

pub(super) struct Handover {
    tracker: Tracker,
    durability: Durability,
    /// Accepted records without an outcome, in the order of acceptance, each with the place of its line.
    under_way: VecDeque<(Seq, String)>,
    warnings: WarningLog,
    pub(super) tally: ImportTally,
}

/// Why a line was not imported.
pub(super) enum ImportError {
    /// The line is invalid. Others may be valid.
    Line(String),
    /// Nothing more can be imported.
    Fatal(Failure),
}

impl Handover {
    pub(super) fn new(tracker: Tracker, counts_rows: bool) -> Self {
        let durability = tracker.durability();
        let tally = ImportTally::new(tracker.health().books, counts_rows);
        Self { tracker, durability, under_way: VecDeque::new(), warnings: WarningLog::default(), tally }
    }

    /// Returns a reader of the stored rows.
    pub(super) fn reader(&self) -> Arc<dyn Read> {
        self.tracker.reader()
    }

    /// Hands a record to the tracker, and retries while the queue or the journal is full.
    pub(super) async fn hand_over_with_retry<T, R>(
        &mut self,
        mut what: T,
        mut hand_over: impl FnMut(&Tracker, T) -> Result<R, Refused<T>>,
    ) -> Result<R, ImportError> {
        loop {
            match hand_over(&self.tracker, what) {
                Ok(accepted) => return Ok(accepted),
                Err(Refused { reason: Reason::QueueFull, returned }) => {
                    what = returned;
                    self.make_room().await?;
                }
                Err(Refused { reason: Reason::JournalFull, returned }) => {
                    what = returned;
                    self.tally.report_waiting_once();
                    tokio::time::sleep(PAUSE).await;
                }
                Err(refused) => return Err(refused.reason.into()),
            }
        }
    }

    /// Hands over a record that the tracker accepts without waiting, unless it is shutting down.
    pub(super) fn hand_over_once<R>(
        &self,
        hand_over: impl FnOnce(&Tracker) -> Result<R, Reason>,
    ) -> Result<R, ImportError> {
        Ok(hand_over(&self.tracker)?)
    }

    /// Notes a message that was accepted, with the place of its line.
    pub(super) fn expect_receipt(&mut self, receipt: &Receipt, place: LinePosition<'_>) {
        self.tally.messages += 1;
        self.under_way.push_back((receipt.seq(), place.to_string()));
    }

    /// Waits until a quarter of the records in flight is durable. The disk keeps working while more records are handed
    /// over.
    async fn make_room(&mut self) -> Result<(), ImportError> {
        match self.under_way.get(self.under_way.len() / 4) {
            // `settle` reports the outcome.
            Some((seq, _)) => drop(self.durability.wait(*seq).await),
            None => self.tracker.flush().await?,
        }
        self.settle_receipts();
        Ok(())
    }

    /// Handles the outcomes that are known by now.
    pub(super) fn settle_receipts(&mut self) {
        while let Some((seq, _)) = self.under_way.front() {
            let Some(outcome) = self.durability.outcome(*seq) else { return };
            let Some((_, place)) = self.under_way.pop_front() else { return };
            if let Err(why) = outcome {
                self.tally.messages -= 1;
                self.refuse_line(&place, &why.to_string());
            }
        }
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

    /// Waits until everything is stored, or durable if the store is unavailable, and returns the result.
    ///
    /// # Errors
    /// Fails if the tracker stopped before.
    pub(super) async fn finish(mut self) -> Result<ImportTally, Failure> {
        self.tracker.flush().await?;
        self.settle_receipts();
        self.wait_for_store().await?;
        self.tally.close(self.tracker.health().books);
        // The tracker is dropped without a shutdown, which would end the sessions that the file leaves open. Everything
        // accepted is already durable; dropping the tracker waits for its threads.
        let tracker = self.tracker;
        tokio::task::spawn_blocking(move || drop(tracker)).await.map_err(Failure::new)?;
        Ok(self.tally)
    }

    /// Waits as long as a remote store accepts records. If it accepts none, the remaining records stay in the journal.
    async fn wait_for_store(&self) -> Result<(), Failure> {
        loop {
            let stored = tokio::time::timeout(STORE_TIMEOUT, self.tracker.flush_to_store()).await;
            match (stored, self.tracker.health().store) {
                (Ok(stored), _) => return Ok(stored?),
                (Err(_), Some(cause)) => {
                    eprintln!(
                        "the database does not accept all records now: {}",
                        terminal::escape_line(&cause)
                    );
                    return Ok(());
                }
                (Err(_), None) => {}
            }
        }
    }
}

impl From<talktrack_protocol::WireError> for ImportError {
    fn from(error: talktrack_protocol::WireError) -> Self {
        Self::Line(error.to_string())
    }
}

impl From<Reason> for ImportError {
    fn from(reason: Reason) -> Self {
        Self::Line(reason.to_string())
    }
}

impl From<talktrack::ReadError> for ImportError {
    fn from(error: talktrack::ReadError) -> Self {
        Self::Fatal(error.into())
    }
}

impl From<talktrack::NotDurable> for ImportError {
    fn from(error: talktrack::NotDurable) -> Self {
        Self::Fatal(error.into())
    }
}
