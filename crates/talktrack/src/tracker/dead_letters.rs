//! Dead letters: replay them into the queue, or delete them.

use std::sync::Arc;

use talktrack_core::clock::Seq;
use talktrack_core::error::{NotDurable, Refused};
use talktrack_core::record::{Attempt, Record};
use tokio::sync::oneshot;

use crate::journal::DeleteDeadLetters;
use crate::queue::Admission;
use crate::receipt::{RecordReceipt, Reply};
use crate::tracker::{Inner, Tracker};

impl Tracker {
    /// Sets the size of the dead letters in bytes. It counts towards the limit of the journal.
    #[doc(hidden)]
    pub fn set_dead_letter_bytes(&self, bytes: u64) {
        self.inner.shared.health.set_letter_bytes(bytes);
        // The journal checks with its next commit whether there is room.
        self.inner.queue.wake();
    }

    /// Enqueues the record of a dead letter again. The record stays as it is, except that it gets a new place in the
    /// order of acceptance. The session registry does not change. When the receipt says that the record is durable
    /// again, delete the old letter with [`Self::delete_dead_letters`]. If the store refuses the record again, a new
    /// dead letter is written. Replaying a record twice stores its message once, because the id is the same.
    ///
    /// # Errors
    /// Returns the record with a [`crate::Reason`] if it cannot be accepted now.
    #[expect(clippy::result_large_err, reason = "the refusal hands the record back")]
    pub fn replay_record(&self, record: Record) -> Result<RecordReceipt, Refused<Record>> {
        let replayed = self.inner.replay_record(record);
        replayed.inspect_err(|refused| self.count_refusal(refused.reason.code()))
    }

    /// Deletes dead letters permanently and returns which of them existed. Waits until the deletion is on disk.
    ///
    /// # Errors
    /// [`NotDurable::Stopped`] if the tracker stopped first.
    pub async fn delete_dead_letters(&self, letters: Vec<Seq>) -> Result<Vec<Seq>, NotDurable> {
        let (done, taken_out) = oneshot::channel();
        self.inner.queue.enqueue_maintenance(DeleteDeadLetters { letters, done });
        taken_out.await.map_err(|_| NotDurable::Stopped)
    }
}

impl Inner {
    #[expect(clippy::result_large_err, reason = "the refusal hands the record back")]
    fn replay_record(&self, record: Record) -> Result<RecordReceipt, Refused<Record>> {
        let bytes = record.heap_bytes();
        // The record passed the validity checks when it was first accepted, so only the limits are checked again.
        let admitted = self
            .check_room()
            .and_then(|()| self.check_size(bytes))
            .and_then(|()| self.queue.reserve(self.options.clock.now(), bytes, Admission::IfRoom));
        match admitted {
            Ok(permit) => {
                let message_id = record.message().map(|stamped| stamped.id);
                let seq = permit.send_attempt(Attempt::Replay, record.body, Reply::None);
                Ok(RecordReceipt::new(message_id, seq, Arc::clone(&self.shared.progress)))
            }
            Err(reason) => Err(Refused { reason, returned: record }),
        }
    }
}
