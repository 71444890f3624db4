//! Hands records to a tracker of this process, waits while there is no room, and collects the outcome of each line.

use std::collections::VecDeque;
use std::time::Duration;

use talktrack::clock::Seq;
use talktrack::store::SessionRow;
use talktrack::{
    Closing, Durability, Message, NewSession, Reason, Refused, SessionChanges, SessionId, Tracker,
};
use talktrack_protocol::jsonl::LinePosition;

use super::ImportError;
use crate::command::import::tally::{ImportReport, ImportTally};
use crate::error::Failure;
use crate::terminal;

/// The pause before the next attempt while the disk is full.
const PAUSE: Duration = Duration::from_millis(500);

/// How long the import waits for a store that accepts nothing. The records that the store has not accepted by then are
/// durable in the journal.
const STORE_TIMEOUT: Duration = Duration::from_secs(10);

pub(in crate::command::import) struct TrackerHandover {
    tracker: Tracker,
    durability: Durability,
    /// Accepted records without an outcome, in the order of acceptance, each with the place of its line.
    under_way: VecDeque<(Seq, String)>,
    report: ImportReport,
}

impl TrackerHandover {
    pub(super) fn new(tracker: Tracker, counts_rows: bool) -> Self {
        let durability = tracker.durability();
        let tally = ImportTally::new(tracker.health().books, counts_rows);
        Self { tracker, durability, under_way: VecDeque::new(), report: ImportReport::new(tally) }
    }

    pub(super) fn report(&mut self) -> &mut ImportReport {
        &mut self.report
    }

    pub(super) async fn session(&self, session_id: SessionId) -> Result<Option<SessionRow>, ImportError> {
        Ok(self.tracker.reader().session(session_id).await?)
    }

    pub(super) async fn start_session(&mut self, session: NewSession) -> Result<(), ImportError> {
        self.hand_over_with_retry(session, Tracker::start_session).await.map(drop)
    }

    pub(super) async fn track_message(
        &mut self,
        message: Message,
        place: LinePosition<'_>,
    ) -> Result<(), ImportError> {
        let receipt = self.hand_over_with_retry(message, Tracker::track_message).await?;
        self.report.tally.messages += 1;
        self.under_way.push_back((receipt.seq(), place.to_string()));
        Ok(())
    }

    pub(super) async fn update_session(
        &mut self,
        session_id: SessionId,
        changes: SessionChanges,
    ) -> Result<(), ImportError> {
        // The session exists and its metadata is an object, so the update cannot be refused later.
        let update = |tracker: &Tracker, changes| tracker.update_session(session_id, changes);
        self.hand_over_with_retry(changes, update).await.map(drop)
    }

    /// Hands over an end, which the tracker accepts without waiting, unless it is shutting down.
    pub(super) fn end_session(&self, session_id: SessionId, closing: Closing) -> Result<(), ImportError> {
        Ok(self.tracker.end_session_as(session_id, closing).map(drop)?)
    }

    /// Hands a record to the tracker, and retries while the queue or the journal is full.
    async fn hand_over_with_retry<T, R>(
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
                    self.report.tally.report_waiting_once();
                    tokio::time::sleep(PAUSE).await;
                }
                Err(refused) => return Err(refused.reason.into()),
            }
        }
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
                self.report.tally.messages -= 1;
                self.report.refuse_line(&place, &why.to_string());
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
        self.report.tally.close(self.tracker.health().books);
        // The tracker is dropped without a shutdown, which would end the sessions that the file leaves open. Everything
        // accepted is already durable; dropping the tracker waits for its threads.
        let tracker = self.tracker;
        tokio::task::spawn_blocking(move || drop(tracker)).await.map_err(Failure::new)?;
        Ok(self.report.tally)
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
