//! Removing and replacing messages of a session that is kept.
//!
//! Messages that a caller names, and all messages of a session, are removed by a record, as a session is: it is durable
//! before the store has applied it. What only the store can decide (the last messages, and which of the new messages replace
//! stored ones) is done by the store while the caller waits. If the store is remote, the records of the session that wait
//! are delivered first, and records of what the store did follow: if it forgets the edit, they are delivered again.

use std::collections::HashSet;
use std::time::Duration;

use talktrack_core::clock::{Seq, Timestamp};
use talktrack_core::error::{Invalid, NotDurable, ReadError, Reason};
use talktrack_core::ids::{MessageId, SessionId};
use talktrack_core::message::{Author, Message};
use talktrack_core::record::{Body, Edit, MessagesEdit, StampedMessage};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use crate::queue::Admission;
use crate::receipt::{Deletion, Reply, SessionReceipt};
use crate::store::{EditedMessages, MessageRow, StoreError};
use crate::tracker::outbox::OutboxStore;
use crate::tracker::{Inner, Tracker, new_message_id};

/// How long an edit waits until the records of its session are delivered.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(10);
const DELIVERY_POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Why messages were not removed or replaced.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EditError {
    /// The edit cannot be accepted now.
    #[error(transparent)]
    NotAccepted(#[from] Reason),
    /// The store refused the edit, or the tracker stopped.
    #[error(transparent)]
    Refused(#[from] NotDurable),
    /// The remote store cannot be reached, or does not take records of the session that wait for it. Nothing was removed,
    /// unless the outcome is unknown: then do not repeat an edit that removes the last messages.
    #[error("the store cannot apply the edit now: {0}")]
    Unavailable(String),
}

impl From<StoreError> for EditError {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error.message)
    }
}

impl From<ReadError> for EditError {
    fn from(error: ReadError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl Tracker {
    /// Removes messages that the edit names, or all messages of the session. With a remote store, they leave this machine
    /// at once, and the store as soon as it can be reached.
    ///
    /// # Errors
    /// A [`Reason`] if the edit cannot be accepted now.
    pub fn delete_messages(&self, edit: MessagesEdit) -> Result<Deletion, Reason> {
        self.inner.check_open()?;
        let permit = self.inner.queue.reserve(self.inner.now().at, 0, Admission::IfRoom)?;
        let (deleting, answers) = Deletion::channel();
        let seq = permit.send(Body::EditMessages(edit), Reply::Deleted(deleting));
        Ok(Deletion::new(answers, seq, &self.inner.shared.progress))
    }

    /// Removes the last messages of a session, or replaces all of its messages, in one transaction of the store. Returns
    /// the rows that were removed and written. The session must be stored, or its start must wait on this node.
    ///
    /// # Errors
    /// [`EditError`]. If the caller does not learn the outcome, messages may have been removed all the same.
    pub async fn edit_messages(&self, edit: MessagesEdit) -> Result<EditedMessages, EditError> {
        self.inner.check_open()?;
        match &self.inner.outbox {
            None => Ok(self.inner.enqueue_edit(edit)?.durable().await?),
            Some(outbox) => self.inner.edit_remote(outbox, edit).await,
        }
    }
}

impl Tracker {
    /// Checks and stamps the messages that are to replace all messages of a session, for [`Self::edit_messages`]. A message
    /// without an id gets one. A message without a time stays at the time that it has, or gets the current one.
    ///
    /// # Errors
    /// The place of the first message that cannot be accepted, and the [`Reason`].
    pub fn stamp_replacement(
        &self,
        messages: Vec<Message>,
        author: &Author,
    ) -> Result<Vec<StampedMessage>, (usize, Reason)> {
        let now = self.inner.now().at;
        let stamp = |(place, message)| {
            self.inner.stamp_written(message, author, now).map_err(|reason| (place, reason))
        };
        let stamped: Vec<StampedMessage> =
            messages.into_iter().enumerate().map(stamp).collect::<Result<_, _>>()?;
        let mut seen = HashSet::new();
        match stamped.iter().position(|stamped| !seen.insert(stamped.id)) {
            Some(place) => {
                Err((place, Invalid::new("id", "is the id of an earlier message of the list").into()))
            }
            None => Ok(stamped),
        }
    }
}

impl Inner {
    fn stamp_written(
        &self,
        mut message: Message,
        author: &Author,
        now: Timestamp,
    ) -> Result<StampedMessage, Reason> {
        self.check_message(&mut message)?;
        let claimed = message.created_at.take_if(|claimed| self.is_ahead(*claimed, now));
        message.set_notes(author, claimed);
        Ok(StampedMessage {
            id: message.given_id(author).unwrap_or_else(|| new_message_id(now)),
            owner: author.user_id().cloned(),
            by_user: author.is_user(),
            session_started_at: None,
            created_at: message.created_at.unwrap_or(now),
            takes_back: None,
            message,
        })
    }

    fn enqueue_edit(&self, edit: MessagesEdit) -> Result<SessionReceipt<EditedMessages>, Reason> {
        let permit = self.queue.reserve(self.now().at, 0, Admission::IfRoom)?;
        let (reply, answer) = oneshot::channel();
        let seq = permit.send(Body::EditMessages(edit), Reply::Edited(reply));
        Ok(SessionReceipt::new(answer, seq, &self.shared.progress))
    }

    async fn edit_remote(
        &self,
        outbox: &OutboxStore,
        edit: MessagesEdit,
    ) -> Result<EditedMessages, EditError> {
        self.wait_until_delivered(outbox, edit.session_id).await?;
        outbox.claim.confirm().await?;
        let accepted = Seq::from(self.now().at);
        let edited = outbox.claim.store().edit_messages(&edit, accepted).await??;
        self.record_edit(&edit, &edited).await?;
        Ok(edited)
    }

    /// Waits until the store has all records of the session that were accepted before this call.
    async fn wait_until_delivered(
        &self,
        outbox: &OutboxStore,
        session_id: SessionId,
    ) -> Result<(), EditError> {
        let up_to = self.queue.last_seq();
        // A refusal of the last record is an answer too.
        let _ = self.shared.progress.watch().wait(up_to).await;
        let deadline = Instant::now() + DELIVERY_TIMEOUT;
        while outbox.journal.is_session_pending(session_id, up_to).await? {
            if Instant::now() >= deadline || self.shared.health.snapshot().store.is_some() {
                let why = "records of the session still wait for the store";
                return Err(EditError::Unavailable(why.to_owned()));
            }
            sleep(DELIVERY_POLL_INTERVAL).await;
        }
        Ok(())
    }

    /// Records what the store has done, so that it is done again if the store forgets it.
    async fn record_edit(&self, edit: &MessagesEdit, edited: &EditedMessages) -> Result<(), EditError> {
        let removed: Vec<MessageId> = edited.removed.iter().map(|row| row.id).collect();
        let written = edited.written.iter().map(|row| row.id).collect();
        let news: Vec<StampedMessage> =
            edited.written.iter().filter_map(|row| stamp_written(edit, row.clone())).collect();
        if removed.is_empty() && news.is_empty() {
            return Ok(());
        }
        let fact = MessagesEdit { edit: Edit::Delete(removed), written, by_user: false, ..edit.clone() };
        let reserve = |bytes| self.queue.reserve(self.now().at, bytes, Admission::Always);
        let mut last = reserve(0)?.send(Body::EditMessages(fact), Reply::None);
        for stamped in news {
            last = reserve(stamped.message.heap_bytes())?.send(Body::Message(stamped), Reply::None);
        }
        self.shared.progress.watch().wait(last).await.or_else(|why| match why {
            // The session was deleted meanwhile, with these messages.
            NotDurable::Deleted => Ok(()),
            why => Err(why.into()),
        })
    }
}

/// Returns the record of a row that a replacement wrote. `None` if the row holds values that talktrack does not write.
fn stamp_written(edit: &MessagesEdit, row: MessageRow) -> Option<StampedMessage> {
    let id = row.id;
    let by_user = row.is_by_user();
    let message = row.into_message()?;
    let created_at = message.created_at?;
    let owner = edit.owner.clone();
    Some(StampedMessage {
        id,
        owner,
        by_user,
        session_started_at: None,
        created_at,
        takes_back: None,
        message,
    })
}
