//! What a lane receives, and how much of it goes into one write.

use std::time::Duration;

use talktrack_core::ids::SessionId;
use talktrack_core::record::{DeadReason, Record, Verdict};
use tokio::sync::mpsc::error::TryRecvError;

use crate::writer::lane::{BATCH, Lane, data_loss};
use crate::writer::{Feed, LaneReport};

/// How long a write waits for more records of a backlog.
pub(super) const LINGER: Duration = Duration::from_millis(10);
/// The maximum number of bytes of text in one write. The last record may exceed it.
pub(super) const BATCH_BYTES: usize = 1 << 20;

impl Lane {
    /// Waits for records and fills the batch up to the limits of one write. Returns false if no more records will
    /// arrive. While there are none, the lane regularly checks whether the store still has what it confirmed.
    pub(super) async fn receive_batch(&mut self, batch: &mut Vec<Record>) -> bool {
        while batch.is_empty() {
            let has_deletions =
                self.lost_deletions.as_ref().is_some_and(|lost| lost.is_first() || !self.load.has_more());
            let wait = if has_deletions { LINGER } else { data_loss::INTERVAL };
            match tokio::time::timeout(wait, self.next_feed()).await {
                Ok(Some(feed)) => {
                    self.receive_feed(feed, batch);
                    if !self.deliver_deletions_before(batch).await {
                        // Everything that the lane had was taken back, and is handed over again.
                        batch.clear();
                    }
                }
                Ok(None) => return false,
                Err(_) if has_deletions => _ = self.deliver_deletions().await,
                Err(_) => self.check_idle().await,
            }
        }
        self.fill_batch(batch).await;
        true
    }

    async fn next_feed(&mut self) -> Option<Feed> {
        match self.ahead.pop_front() {
            Some(feed) => Some(feed),
            None => self.records.recv().await,
        }
    }

    /// True if records wait behind this batch whose users had no bad row recently.
    pub(super) fn others_wait(&mut self) -> bool {
        while let Ok(feed) = self.records.try_recv() {
            self.ahead.push_back(feed);
        }
        let is_of_others = |record: &Record| !self.suspects.contains(record) && !self.parking.holds(record);
        self.ahead.iter().any(|feed| match feed {
            Feed::Record(record) => is_of_others(record),
            Feed::Parked(records) => records.iter().any(|record| !self.suspects.contains(record)),
            Feed::Open(_) | Feed::Rewound(_) => false,
        })
    }

    async fn deliver_deletions_before(&mut self, batch: &[Record]) -> bool {
        let is_due = |lane: &Self| {
            let lost = lane.lost_deletions.as_ref();
            lost.is_some_and(|lost| batch.iter().any(|record| lost.is_due_before(record)))
        };
        while is_due(self) {
            if !self.deliver_deletions().await {
                return false;
            }
        }
        true
    }

    /// Adds the records that have already arrived, up to the limits of one write. While a backlog is being read, also
    /// waits briefly for the next ones: a few large writes cost the store less than many small ones.
    async fn fill_batch(&mut self, batch: &mut Vec<Record>) {
        let deadline = tokio::time::Instant::now() + LINGER;
        let mut bytes = bytes_of(batch);
        while self.add_waiting(batch, &mut bytes) && self.load.has_more() {
            match tokio::time::timeout_at(deadline, self.next_feed()).await {
                Ok(Some(feed)) => bytes += self.receive_feed(feed, batch),
                _ => return,
            }
        }
    }

    /// Adds the records that have already arrived to a batch of `bytes` bytes. Returns true if there is room for more.
    pub(super) fn add_waiting(&mut self, batch: &mut Vec<Record>, bytes: &mut usize) -> bool {
        while batch.len() < BATCH && *bytes < BATCH_BYTES {
            match self.ahead.pop_front().map_or_else(|| self.records.try_recv(), Ok) {
                Ok(feed) => *bytes += self.receive_feed(feed, batch),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return true,
            }
        }
        false
    }

    /// Adds what was handed over and returns its size in bytes.
    fn receive_feed(&self, feed: Feed, batch: &mut Vec<Record>) -> usize {
        let before = batch.len();
        match feed {
            Feed::Record(record) => self.add_record(record, batch),
            // They go into one write, so that the rows that the store accepts show which ones are bad.
            Feed::Parked(records) => records.into_iter().for_each(|record| self.add_record(record, batch)),
            Feed::Open(session_id) => self.open_session(session_id),
            // Arrives only when the lane waits for it.
            Feed::Rewound(_) => {}
        }
        bytes_of(&batch[before..])
    }

    /// Adds a record that was handed over, unless its session has been parked in the meantime: then the record goes
    /// back to the journal.
    fn add_record(&self, record: Record, batch: &mut Vec<Record>) {
        match self.parking.return_to_journal(&record) {
            None => batch.push(record),
            Some(true) => self.report_verdicts([(&record, Verdict::Waits)].into_iter()),
            Some(false) => {
                self.report_verdicts([(&record, Verdict::Dead(DeadReason::UnknownSession))].into_iter())
            }
        }
    }

    /// Opens this parked session: its records follow.
    fn open_session(&self, session_id: SessionId) {
        self.parking.mark_fed(session_id);
        (self.report)(LaneReport::Wake);
    }
}

pub(super) fn bytes_of(batch: &[Record]) -> usize {
    batch.iter().map(Record::heap_bytes).sum()
}
