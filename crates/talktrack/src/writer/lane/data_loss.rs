//! Detects a store that has lost data. The lane compares the number of its last delivery with the number that the store
//! has. If the store's number is lower, everything delivered after it is lost, and is delivered again.

use std::time::Duration;
use talktrack_core::clock::Seq;

use talktrack_core::record::{Attempt, Record};

use crate::health::Reporter;
use crate::store::{Delivery, ErrorClass, StoreError};
use crate::writer::lane::Lane;
use crate::writer::{Feed, LaneReport, Rewound};

/// How often a lane that has nothing to deliver compares the numbers.
pub(super) const INTERVAL: Duration = Duration::from_secs(10);

/// The result of comparing the store's delivery number with the lane's.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    /// The store has everything that it confirmed.
    Same,
    /// The store has nothing after this delivery.
    Lost(i64),
    /// Another server has delivered as this node.
    Foreign(i64),
}

/// `held` is the store's number, and `last` the last number that it confirmed. `highest` is the highest number that was
/// sent, or `None` if an earlier process may have sent a higher one.
fn compare_deliveries(held: Option<i64>, last: i64, highest: Option<i64>) -> Comparison {
    match held.unwrap_or(0) {
        held if highest.is_some_and(|highest| held > highest) => Comparison::Foreign(held),
        held if held >= last => Comparison::Same,
        held => Comparison::Lost(held),
    }
}

impl Lane {
    /// Compares the numbers, and retries until the store has answered. Returns true if the store still has what it
    /// confirmed. Otherwise every record of the lane was taken back and is handed over again.
    pub(super) async fn check_for_loss(&mut self) -> bool {
        loop {
            match self.compare_numbers().await {
                Ok(Comparison::Same) => {
                    self.is_checked = true;
                    return true;
                }
                Ok(Comparison::Lost(held)) => {
                    self.rewind(held).await;
                    return false;
                }
                Ok(Comparison::Foreign(held)) => {
                    let error = foreign_writer_error(self.number, held, self.numbers.highest());
                    (self.report)(LaneReport::Foreign);
                    self.wait_for_retry(&error).await;
                }
                Err(error) => self.wait_for_retry(&error).await,
            }
        }
    }

    /// Compares the numbers while the lane has nothing to deliver. If the store cannot be reached, the next interval
    /// tries again.
    pub(super) async fn check_idle(&mut self) {
        if self.numbers.last() == 0 {
            return;
        }
        let compared = self.compare_numbers().await;
        if compared.is_ok() {
            // No write follows that would end an outage of this lane, such as a reported silence of the store.
            self.outage.report_answer(self.number);
        }
        match compared {
            Ok(Comparison::Same) => self.is_checked = true,
            Ok(Comparison::Lost(held)) => self.rewind(held).await,
            Ok(Comparison::Foreign(_)) => _ = self.check_for_loss().await,
            Err(error) => {
                tracing::debug!(%error, "cannot compare the delivery numbers with the store; trying again later")
            }
        }
    }

    async fn compare_numbers(&mut self) -> Result<Comparison, StoreError> {
        let held = self.report_if_slow(self.read_last_delivery()).await?;
        let highest = self.is_known.then(|| self.numbers.highest());
        let comparison = compare_deliveries(held, self.numbers.last(), highest);
        if comparison == Comparison::Same {
            let held = held.unwrap_or(0);
            self.numbers.continue_after(held);
            // The store may still complete one transaction that an earlier process sent before it died. That
            // transaction starts from the number that was seen first.
            self.is_known |= self.held_before.replace(held).is_some_and(|first| first != held);
        }
        Ok(comparison)
    }

    /// Returns the store's number of the last delivery.
    async fn read_last_delivery(&self) -> Result<Option<i64>, StoreError> {
        self.claim.confirm().await?;
        self.store.last_delivery(self.node, self.number).await
    }

    /// Asks the journal to make pending what the store has lost, and waits for it.
    async fn rewind(&mut self, held: i64) {
        tracing::warn!(
            lane = self.number,
            "the store has lost records that it had confirmed; the records in the re-send window are delivered again"
        );
        (self.report)(LaneReport::Rewind { lane: self.number, after: held });
        self.lost_deletions = None;
        self.ahead.clear();
        while let Some(feed) = self.records.recv().await {
            if let Feed::Rewound(rewound) = feed {
                self.resume_after_rewind(rewound, held);
                return;
            }
        }
    }

    fn resume_after_rewind(&mut self, rewound: Rewound, held: i64) {
        self.numbers.continue_after(held);
        (self.is_known, self.is_checked, self.held_before) = (true, true, Some(held));
        let Rewound { last, mut deletions } = rewound;
        deletions.iter_mut().for_each(|record| record.attempt = Attempt::Retry);
        if !deletions.is_empty() {
            self.lost_deletions = Some(LostDeletions { after: last, deletions, is_first: true });
        }
    }

    /// Delivers the deletions that come before or after all other records. Their answers are ignored, because each of
    /// these records is delivered once more in its place. Returns false if the store lost data meanwhile: then every
    /// record is handed over again.
    pub(super) async fn deliver_deletions(&mut self) -> bool {
        let Some(lost) = self.lost_deletions.take() else { return true };
        for record in &lost.deletions {
            let part = std::slice::from_ref(record);
            let delivery = Delivery::new(self.node, self.number, part).numbered(&self.numbers);
            if let Err(error) = self.report_if_slow(self.store.write(delivery)).await {
                // All deletions are delivered again, from the first, when the store can be reached.
                self.lost_deletions = Some(lost);
                self.wait_for_retry(&error).await;
                return self.check_for_loss().await;
            }
        }
        self.outage.report_success(Reporter::Lane(self.number));
        if lost.is_first {
            self.lost_deletions = Some(LostDeletions { is_first: false, ..lost });
        }
        true
    }
}

/// Deletions that the store has lost.
pub(in crate::writer) struct LostDeletions {
    /// The last record that became pending again.
    after: Seq,
    deletions: Vec<Record>,
    /// True until they have been delivered before the other records.
    is_first: bool,
}

impl LostDeletions {
    /// True if the deletions are delivered before this record.
    pub(super) fn is_due_before(&self, record: &Record) -> bool {
        self.is_first || record.seq > self.after
    }

    pub(super) fn is_first(&self) -> bool {
        self.is_first
    }
}

fn foreign_writer_error(lane: usize, held: i64, highest: i64) -> StoreError {
    let message = format!(
        "another server delivers under the node id of this data directory (lane {lane}: the store holds delivery {held}, this \
         server has sent {highest}): one of the two directories is a copy of the other; restart this server, which then gets a \
         new node id and delivers the waiting records"
    );
    StoreError::new(ErrorClass::Systemic, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_tell_what_a_store_has_forgotten_and_whether_somebody_else_writes() {
        for (held, last, highest, expected) in [
            (None, 0, None, Comparison::Same),
            (None, 0, Some(1), Comparison::Same),
            (Some(7), 7, Some(7), Comparison::Same),
            // The answer to number 8 was lost.
            (Some(8), 7, Some(8), Comparison::Same),
            (Some(6), 7, Some(7), Comparison::Lost(6)),
            (None, 7, Some(7), Comparison::Lost(0)),
            (Some(9), 7, Some(8), Comparison::Foreign(9)),
            (Some(1), 0, Some(0), Comparison::Foreign(1)),
            (Some(9), 7, None, Comparison::Same),
        ] {
            assert_eq!(compare_deliveries(held, last, highest), expected, "{held:?} {last} {highest:?}");
        }
    }
}
