//! Reads changes after a position and turns them into events, with the current rows.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use talktrack::clock::Seq;
use talktrack::store::sqlite::{JournalRecord, SqliteReader};
use talktrack::store::{MessageRow, Read, SessionRow};
use talktrack::{
    Change, ChangeKind, Changes, Durability, MessageId, ReadError, SessionId, SessionRef, Tracker, UserId,
};
use tokio::time::timeout;

use super::event::{Event, EventOwner};
use super::pending::{self, Pending};
use crate::store;

/// The maximum number of changes that are read at once, and the maximum size of their events in bytes. One event is
/// always returned, even a larger one.
const AT_ONCE: usize = 50;
const PAGE_BYTES: usize = 1 << 20;

/// How long the store may take for one page.
const STORE_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) struct Source {
    tracker: Tracker,
    /// The file in the data directory, which lists the changes.
    file: SqliteReader,
    /// Reads the rows: from the file, or from a remote store.
    rows: Arc<dyn Read>,
    /// The records that wait for a remote store; `None` if the file is the store itself.
    pending: Option<Pending>,
}

/// A page of events after a position.
pub(super) struct EventPage {
    pub(super) events: Vec<Arc<Event>>,
    /// The position to continue from.
    pub(super) next: Seq,
    /// The position before the first event, if changes before it are missing.
    pub(super) gap: Option<Seq>,
}

/// What was found out about a page of changes.
#[derive(Default)]
struct LookedUp {
    /// The records that still wait for a remote store.
    waiting: HashMap<Seq, JournalRecord>,
    sessions: HashMap<SessionId, SessionRow>,
    messages: HashMap<MessageId, MessageRow>,
    /// The removed messages of each edit that names them.
    removed: HashMap<Seq, Vec<MessageId>>,
    /// The number of changes whose messages were looked up; `None` if the store was not asked, or has not answered.
    looked_up: Option<usize>,
}

impl Source {
    pub(super) fn new(tracker: Tracker, file: SqliteReader, is_remote: bool) -> Self {
        let rows: Arc<dyn Read> = if is_remote { tracker.reader() } else { Arc::new(file.clone()) };
        let pending = is_remote.then(Pending::default);
        Self { tracker, file, rows, pending }
    }

    pub(super) fn durability(&self) -> Durability {
        self.tracker.durability()
    }

    /// Returns the position of the newest change.
    pub(super) async fn newest_seq(&self) -> Result<Seq, ReadError> {
        self.file.newest_change().await
    }

    /// Returns the next page of events. Rows that have been deleted since make no events.
    ///
    /// # Errors
    /// Fails if the file or the store cannot be read before the first event of the page.
    pub(super) async fn read_page(&self, place: Seq) -> Result<EventPage, ReadError> {
        let mut read = self.file.changes_since(place, AT_ONCE).await?;
        let gap =
            (!read.is_gap_free).then(|| read.changes.first().map_or(read.next, |first| first.seq.previous()));
        let (waiting, looked_up) = self.read_waiting(&read.changes).await?;
        read.truncate(looked_up);
        let removed = self.read_removed(&read.changes).await?;
        let mut known = LookedUp { waiting, removed, ..LookedUp::default() };
        if let Err(error) = self.look_up(&read.changes, &mut known).await {
            // The leading changes that do not need the store are not held up by it.
            let waits = |change: &&Change| known.waiting.contains_key(&change.seq);
            read.truncate(read.changes.iter().take_while(waits).count());
            if read.changes.is_empty() {
                return Err(error);
            }
        }
        if let Some(looked_up) = known.looked_up {
            read.truncate(looked_up);
        }
        let Changes { changes, mut next, .. } = read;
        let (mut events, mut bytes): (Vec<Arc<Event>>, usize) = (Vec::with_capacity(changes.len()), 0);
        for change in changes {
            if bytes >= PAGE_BYTES {
                next = change.seq.previous();
                break;
            }
            match self.make_event(&change, &known) {
                Ok(event) => {
                    bytes += event.as_ref().map_or(0, |event| event.bytes.len());
                    events.extend(event.map(Arc::new));
                }
                Err(error) if events.is_empty() => return Err(error),
                Err(_) => {
                    next = change.seq.previous();
                    break;
                }
            }
        }
        Ok(EventPage { events, next, gap })
    }

    /// Returns the waiting records of these changes, and for how many changes they were read. Large records may not all
    /// be read.
    async fn read_waiting(
        &self,
        changes: &[Change],
    ) -> Result<(HashMap<Seq, JournalRecord>, usize), ReadError> {
        match self.pending {
            Some(_) => self.file.outbox().journal_records(changes).await,
            None => Ok((HashMap::new(), changes.len())),
        }
    }

    /// Returns the messages that each of these changes removed, if the change names them.
    async fn read_removed(&self, changes: &[Change]) -> Result<HashMap<Seq, Vec<MessageId>>, ReadError> {
        let edits = changes.iter().filter(|change| change.kind == ChangeKind::MessagesDeleted);
        let edits: Vec<Seq> = edits.map(|change| change.seq).collect();
        if edits.is_empty() { Ok(HashMap::new()) } else { self.file.removed_messages(edits).await }
    }

    /// Asks the store for the rows of changes that do not wait for it. A record leaves the journal only after the store
    /// has it.
    async fn look_up(&self, changes: &[Change], known: &mut LookedUp) -> Result<(), ReadError> {
        let is_needed = changes.iter().any(|change| {
            change.kind != ChangeKind::MessagesDeleted && !known.waiting.contains_key(&change.seq)
        });
        if !is_needed && self.tracker.health().store.is_some() {
            return Ok(());
        }
        let asked = timeout(STORE_TIMEOUT, self.read_rows(changes, known)).await;
        match asked.unwrap_or_else(|_| Err(ReadError::unavailable("the store did not answer in time"))) {
            Err(error) if is_needed => Err(error),
            _ => Ok(()),
        }
    }

    async fn read_rows(&self, changes: &[Change], known: &mut LookedUp) -> Result<(), ReadError> {
        let is_wanted =
            |change: &Change| change.kind == ChangeKind::Revision || !known.waiting.contains_key(&change.seq);
        let (messages, looked_up) =
            store::read_changed_messages(self.rows.as_ref(), changes, is_wanted).await?;
        known.messages = messages;
        known.looked_up = Some(looked_up);
        let sessions = changes.iter().filter(|change| self.needs_session(change, known));
        let sessions: HashSet<SessionId> = sessions.map(|change| change.session_id).collect();
        if !sessions.is_empty() {
            let rows = self.rows.sessions_by_id(&Vec::from_iter(sessions)).await?;
            known.sessions = rows.into_iter().map(|row| (row.session_id, row)).collect();
        }
        Ok(())
    }

    /// True if the row of the session is needed: for an event of the session, or because only that row tells whose a
    /// message is.
    fn needs_session(&self, change: &Change, known: &LookedUp) -> bool {
        if let (Some(pending), Some(waiting)) = (&self.pending, known.waiting.get(&change.seq)) {
            return pending.needs_session(&waiting.record);
        }
        match change.message_id {
            Some(id) => known.messages.get(&id).is_some_and(|row| self.owner(change, row).is_none()),
            None => ![ChangeKind::SessionDeleted, ChangeKind::MessagesDeleted].contains(&change.kind),
        }
    }

    /// Returns the user that a message belongs to. With a remote store, the user in the record is only a claim, which
    /// the store may have refused.
    fn owner(&self, change: &Change, row: &MessageRow) -> Option<UserId> {
        let named = change.user_id.as_ref().filter(|_| self.pending.is_none());
        named.or(row.user_id.as_ref()).cloned()
    }

    /// Makes the event of a change; `None` if its row no longer exists.
    ///
    /// # Errors
    /// Fails if the store is needed to tell whose the session is.
    fn make_event(&self, change: &Change, known: &LookedUp) -> Result<Option<Event>, ReadError> {
        let Change { seq, kind, session_id, message_id, .. } = *change;
        let user_id = change.user_id.clone();
        if kind == ChangeKind::SessionDeleted {
            if let Some(pending) = &self.pending {
                pending.forget_session(session_id);
            }
            let data = json!({"session_id": session_id, "user_id": user_id});
            // A deleted session's user can no longer be looked up. If the user was not recorded, the session had none.
            let owner = user_id.clone().map_or(EventOwner::Nobody, EventOwner::User);
            return Ok(Some(Event::new(seq, kind, session_id, owner, &data)));
        }
        if kind == ChangeKind::MessagesDeleted {
            let ids = known.removed.get(&seq);
            let data = json!({"session_id": session_id, "user_id": user_id, "message_ids": ids});
            let owner = user_id.map_or(EventOwner::Nobody, EventOwner::User);
            return Ok(Some(Event::new(seq, kind, session_id, owner, &data)));
        }
        let session = known.sessions.get(&session_id);
        if let (Some(pending), Some(waiting)) = (&self.pending, known.waiting.get(&seq)) {
            if let Some(id) = message_id {
                return Ok(pending::message_event(kind, waiting, known.messages.get(&id), session));
            }
            let claim = SessionRef { session_id, user_id: waiting.record.owner().cloned() };
            let remembered = self.tracker.session_in_memory(claim);
            return pending.session_event(kind, &waiting.record, session, remembered);
        }
        if let Some(id) = message_id {
            let row = known.messages.get(&id).filter(|row| row.session_id == session_id);
            let owner = row
                .and_then(|row| self.owner(change, row))
                .map(EventOwner::User)
                .or(session.map(EventOwner::of_session));
            return Ok(row.zip(owner).map(|(row, owner)| Event::new(seq, kind, session_id, owner, row)));
        }
        if let Some(pending) = &self.pending {
            pending.forget_session(session_id);
        }
        let row = session.filter(|row| user_id.is_none() || row.user_id == user_id);
        Ok(row.map(|row| Event::about_session(seq, kind, EventOwner::of_session(row), row)))
    }
}
