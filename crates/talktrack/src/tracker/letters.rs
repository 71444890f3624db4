//! Dead letters at the door: back into the queue, or out of the file.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::clock::Seq;
use crate::error::{NotDurable, Refused};
use crate::journal::TakeOut;
use crate::queue::Admission;
use crate::receipt::{Receipt, Reply};
use crate::record::{Attempt, Record};
use crate::tracker::{Door, Tracker};

impl Tracker {
    /// What the dead letters take counts as what waits in the journal.
    pub fn note_dead_letter_bytes(&self, bytes: u64) {
        self.door.shared.vitals.note_letter_bytes(bytes);
        // Whether there is room is looked at with the next commit.
        self.door.queue.nudge();
    }

    /// Brings a dead letter's record back on its way, as it is but for a new place in the order of acceptance. The sessions
    /// that this process knows learn nothing of it. Once the receipt says that it is durable again, take the old letter
    /// out with [`Self::take_out_dead_letters`]; where the store refuses it again, it becomes a new one. Replaying twice
    /// stores a message once, for its id is the same.
    ///
    /// # Errors
    /// Hands the record back where it cannot be accepted now; see [`crate::error::Reason`].
    #[expect(clippy::result_large_err, reason = "the refusal hands the record back")]
    pub fn replay(&self, record: Record) -> Result<Receipt, Refused<Record>> {
        let replayed = self.door.replay(record);
        replayed.inspect_err(|refused| self.count_refusal(refused.reason.code()))
    }

    /// Takes dead letters out for ever, and says which of them were there. Waits until that is on the disk.
    ///
    /// # Errors
    /// [`NotDurable::Stopped`] where the tracker stopped before.
    pub async fn take_out_dead_letters(&self, letters: Vec<Seq>) -> Result<Vec<Seq>, NotDurable> {
        let (done, taken_out) = oneshot::channel();
        self.door.queue.ask(TakeOut { letters, done });
        taken_out.await.map_err(|_| NotDurable::Stopped)
    }
}

impl Door {
    #[expect(clippy::result_large_err, reason = "the refusal hands the record back")]
    fn replay(&self, record: Record) -> Result<Receipt, Refused<Record>> {
        let bytes = record.heap_bytes();
        // What was valid once is valid still; room there must be.
        let admitted = self
            .check_room()
            .and_then(|()| self.check_size(bytes))
            .and_then(|()| self.queue.admit(self.options.clock.now(), bytes, Admission::IfRoom));
        match admitted {
            Ok(place) => {
                let id = record.message().map_or_else(|| record.session_id(), |stamped| stamped.id);
                let seq = place.fill_again(Attempt::Replay, record.body, Reply::Nobody);
                Ok(Receipt::new(id, seq, Arc::clone(&self.shared.progress)))
            }
            Err(reason) => Err(Refused { reason, returned: record }),
        }
    }
}
