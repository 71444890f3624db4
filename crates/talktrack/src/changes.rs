//! The change feed: what became durable, in order. Each record that changed something adds one row in its own
//! transaction. Followers that derive data from the tables (live events, the search index, the statistics) read
//! this feed, and learn from it when they are too far behind.
//!
//! No row is ever added before existing ones: its `seq` is that of the record, or a new one after all others. A dead
//! letter that is replayed is a new record. Records that the file takes over from its own outbox were announced when
//! they became durable, and are not announced again.

use talktrack_core::clock::Seq;
use talktrack_core::ids::{MessageId, SessionId, UserId};
use talktrack_core::record::{Body, Record, Verdict};

/// What a durable record changed. The row itself is read from the store. It may have changed again since, or may be
/// gone.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change {
    /// The change's place in the feed: the record's place in the order of acceptance.
    pub seq: Seq,
    /// The kind of the change.
    pub kind: ChangeKind,
    /// The session.
    pub session_id: SessionId,
    /// The owner of the session, if the record named one. With a remote store, this is a claim that the store may not
    /// confirm.
    pub user_id: Option<UserId>,
    /// The message, if the record is one.
    pub message_id: Option<MessageId>,
}

/// The kind of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// A session started or was resumed.
    SessionStarted,
    /// The session's metadata were updated.
    SessionUpdated,
    /// The session ended, or was ended again.
    SessionEnded,
    /// The session was deleted with all its messages.
    SessionDeleted,
    /// A message was added. With a remote store, this is reported even if the store already has the message.
    Message,
    /// A message was replaced by a later revision, or made final by the end of its session.
    Revision,
    /// Messages were removed, and the session was kept.
    MessagesDeleted,
}

/// Changes after a place in the feed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Changes {
    /// The changes in order.
    pub changes: Vec<Change>,
    /// The place from which to continue.
    pub next: Seq,
    /// True if no change is missing between the requested place and `next`. False if changes after the requested place
    /// are no longer kept: they are too old, or were lost with a damaged file.
    pub is_gap_free: bool,
}

impl Changes {
    /// Keeps only the first changes. The others are read again with the next call.
    pub fn truncate(&mut self, length: usize) {
        if let Some(first) = self.changes.get(length) {
            self.next = first.seq.previous();
        }
        self.changes.truncate(length);
    }
}

impl ChangeKind {
    /// Returns the number of the kind in the table `changes`.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::SessionStarted => 1,
            Self::SessionUpdated => 2,
            Self::SessionEnded => 3,
            Self::SessionDeleted => 4,
            Self::Message => 5,
            Self::Revision => 6,
            Self::MessagesDeleted => 7,
        }
    }

    /// Returns the kind with this number, or `None` if there is none.
    pub(crate) fn from_code(code: u8) -> Option<Self> {
        [
            Self::SessionStarted,
            Self::SessionUpdated,
            Self::SessionEnded,
            Self::SessionDeleted,
            Self::Message,
            Self::Revision,
            Self::MessagesDeleted,
        ]
        .into_iter()
        .find(|kind| kind.code() == code)
    }
}

impl Change {
    /// Returns `None` if the record changed nothing.
    pub(crate) fn from_record(record: &Record, verdict: &Verdict) -> Option<Self> {
        let nothing = match verdict {
            Verdict::AlreadyThere
            | Verdict::Waits
            | Verdict::StaysActive
            | Verdict::Refused(_)
            | Verdict::Dead(_) => true,
            Verdict::Inserted
            | Verdict::Reopened(_)
            | Verdict::Revised { .. }
            | Verdict::Journaled
            | Verdict::Started { .. }
            | Verdict::Updated
            | Verdict::Ended(_)
            | Verdict::Deleted(_)
            | Verdict::Expired(..)
            | Verdict::Edited(_) => false,
        };
        if nothing {
            return None;
        }
        let revises = |revision| match verdict {
            Verdict::Journaled => revision > 0,
            verdict => matches!(verdict, Verdict::Revised { .. }),
        };
        let (kind, user_id) = match &record.body {
            Body::Start(start) => (ChangeKind::SessionStarted, Some(&start.user_id)),
            Body::Update(update) => (ChangeKind::SessionUpdated, update.owner.as_ref()),
            Body::End(end) => (ChangeKind::SessionEnded, end.owner.as_ref()),
            Body::Heartbeat(_) | Body::DeleteUser(_) => return None,
            // Only the remote store can decide whether the session is old enough to be deleted.
            Body::Delete(_) if *verdict == Verdict::Journaled => return None,
            Body::Delete(delete) => (ChangeKind::SessionDeleted, delete.told_to.as_ref()),
            Body::EditMessages(edit) => (ChangeKind::MessagesDeleted, edit.told_to.as_ref()),
            Body::Message(stamped) if revises(stamped.message.revision) => {
                (ChangeKind::Revision, stamped.owner.as_ref())
            }
            Body::Message(stamped) => (ChangeKind::Message, stamped.owner.as_ref()),
        };
        let message_id = record.message().map(|stamped| stamped.id);
        let user_id = user_id.cloned();
        Some(Self { seq: record.seq, kind, session_id: record.session_id(), user_id, message_id })
    }
}

/// The kinds that remove rows of messages.
pub(crate) const REMOVING: [ChangeKind; 2] = [ChangeKind::SessionDeleted, ChangeKind::MessagesDeleted];

/// The kinds that change or remove existing rows.
pub(crate) const INVALIDATING: [ChangeKind; 3] =
    [ChangeKind::SessionDeleted, ChangeKind::Revision, ChangeKind::MessagesDeleted];
