//! One session as a caller reads it: the stored rows merged with the durable records of this node that still wait for
//! the store.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use talktrack::record::{Body, Record};
use talktrack::store::sqlite::OutboxReader;
use talktrack::store::{CountedMessage, MessageCursor, MessageRow, Page, Read, Rows, SessionRow};
use talktrack::{MessageId, ReadError, ReadErrorKind, SessionId, SessionRef, StoredTime, UserId};

use super::pending_edits::PendingEdits;
use super::pending_messages::{ListOrder, RowsById, fold_messages, merge_page};
use super::proof::{self, Denied};
use super::{Granted, SessionName, hide_foreign_parents, rows_for};
use crate::auth::Caller;
use crate::config::Scope;
use crate::error::Problem;
use crate::pending_session;
use crate::state::AppState;

/// A session that the caller may read.
pub(crate) struct SessionView {
    /// The merged row of the session.
    pub(crate) session: SessionRow,
    /// Reads only the rows that the caller may see.
    rows: Arc<dyn Rows>,
    /// Reads all rows: a waiting message may revise a stored row that the caller may not see.
    reader: Arc<dyn Read>,
    /// The journal of this node, if the store is remote.
    journal: Option<OutboxReader>,
    /// The edits of the session's messages that wait for the store.
    edits: PendingEdits,
    /// True if the journal has everything of the session that this node knows. If the store cannot answer, the journal
    /// alone is then the answer.
    is_in_journal: bool,
    /// True if the stored row proves whose the session is. If false, only records that were accepted for that user are
    /// shown.
    is_stored: bool,
}

impl SessionView {
    /// Finds the session and merges its row.
    ///
    /// # Errors
    /// 404 if the session is another user's, or if neither the store nor this node has it; 503 if the store must be
    /// asked and cannot answer.
    pub(crate) async fn open(state: &AppState, caller: &Caller, name: &SessionName) -> Result<Self, Problem> {
        caller.require(Scope::Read)?;
        Ok(Self::find(state, caller, name).await.map_err(Denied::for_reader)?)
    }

    /// Opens a session for a caller who may change its messages.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub(crate) async fn open_granted(
        state: &AppState,
        caller: &Caller,
        granted: &Granted,
    ) -> Result<Self, Problem> {
        Ok(Self::find(state, caller, &SessionName::from(granted.session_id)).await?)
    }

    pub(super) async fn find(state: &AppState, caller: &Caller, name: &SessionName) -> Result<Self, Denied> {
        let (Granted { session_id, owner, .. }, row) = proof::find_row(state, caller, name).await?;
        let journal = state.is_remote().then(|| state.local().outbox());
        // The journal is read before the store: a record that moves to the store in between is then found in the store.
        let waiting = match &journal {
            Some(journal) => {
                journal.pending_session_records(session_id).await.map_err(Denied::Unavailable)?
            }
            None => Vec::new(),
        };
        let rows = rows_for(state, caller);
        let stored = match row {
            Some(row) if journal.is_none() => Ok(Some(row)),
            // The row that proved the access may be older than the journal's records.
            _ => proof::with_timeout(rows.session(session_id)).await,
        };
        let owner =
            stored.as_ref().ok().and_then(Option::as_ref).and_then(|row| row.user_id.clone()).or(owner);
        let is_stored = matches!(stored, Ok(Some(_)));
        let (mut row, mut is_in_journal) =
            fold_records(stored.as_ref().ok().cloned().flatten(), &waiting, owner.as_ref());
        // A row that cannot be read is no reason to answer with an older one.
        if let (Some(journal), Err(Denied::Unavailable(error))) = (&journal, &stored)
            && error.kind == ReadErrorKind::Unavailable
            && !is_in_journal
        {
            row = find_in_journal(journal, session_id, owner.as_ref()).await?;
            is_in_journal = row.is_some();
        }
        let Some(session) = row else { return Err(stored.err().unwrap_or(Denied::NotFound)) };
        let mut session = with_moved_start(state, session);
        hide_foreign_parents(state, caller, std::slice::from_mut(&mut session)).await;
        let user = session.user_id.clone();
        let edits = PendingEdits::from_records(
            waiting.iter().filter(|record| shows(record, user.as_ref(), is_stored)),
        );
        let reader = state.tracker().reader();
        let mut view = Self { session, rows, reader, journal, edits, is_in_journal, is_stored };
        view.session.message_count = view.count_messages().await.map_err(Denied::Unavailable)?;
        view.advance_last_event().await.map_err(Denied::Unavailable)?;
        Ok(view)
    }

    /// Returns up to `limit` messages after the cursor, in the order in which they were said.
    ///
    /// # Errors
    /// Fails if the store cannot answer, unless the journal has the whole session.
    pub(crate) async fn messages(
        &self,
        after: Option<MessageCursor>,
        limit: usize,
    ) -> Result<Page<MessageRow>, ReadError> {
        self.page(ListOrder::OldestFirst, after, limit).await
    }

    /// Returns up to `limit` messages before the cursor, or the last ones, newest first.
    ///
    /// # Errors
    /// As for [`messages`](Self::messages).
    pub(crate) async fn latest_messages(
        &self,
        before: Option<MessageCursor>,
        limit: usize,
    ) -> Result<Page<MessageRow>, ReadError> {
        self.page(ListOrder::NewestFirst, before, limit).await
    }

    /// Returns one message of the session.
    ///
    /// # Errors
    /// As for [`messages`](Self::messages).
    pub(crate) async fn message(&self, id: MessageId) -> Result<Option<MessageRow>, ReadError> {
        let found = match self.find_message(id).await {
            Err(_) if self.is_in_journal => self.read_journal().await?.remove(&id),
            found => found?,
        };
        Ok(found.filter(|row| row.session_id == self.session.session_id))
    }

    async fn find_message(&self, id: MessageId) -> Result<Option<MessageRow>, ReadError> {
        if let Some(row) = self.read_waiting().await?.remove(&id) {
            return Ok(Some(row));
        }
        if self.edits.clears() {
            return Ok(None);
        }
        let stored = self.reader.messages_by_id(&[id]).await?;
        let visible = self.filter_visible(&stored).await?;
        let is_shown = |row: &MessageRow| visible.contains(&row.id) && !self.edits.hides(row);
        Ok(stored.into_iter().find(is_shown))
    }

    /// Returns a page of the stored messages, merged with the waiting ones.
    pub(super) async fn page(
        &self,
        order: ListOrder,
        cursor: Option<MessageCursor>,
        limit: usize,
    ) -> Result<Page<MessageRow>, ReadError> {
        let (waiting, page) = match self.read_both(order, cursor, limit).await {
            Err(_) if self.is_in_journal => (self.read_journal().await?, Page::default()),
            found => found?,
        };
        if waiting.is_empty() { Ok(page) } else { merge_page(page, waiting, order, cursor, limit) }
    }

    /// Returns the waiting messages, and a page of the stored ones. The journal is read before the store: a message that
    /// moves to the store in between is then found in the store.
    async fn read_both(
        &self,
        order: ListOrder,
        cursor: Option<MessageCursor>,
        limit: usize,
    ) -> Result<(RowsById, Page<MessageRow>), ReadError> {
        let waiting = self.read_waiting().await?;
        let page =
            if self.edits.clears() { Page::default() } else { self.read_shown(order, cursor, limit).await? };
        Ok((waiting, page))
    }

    /// Reads a page of stored messages without those that a waiting edit removes. A page of which all rows are hidden is
    /// skipped, because an empty page is the end of a list.
    async fn read_shown(
        &self,
        order: ListOrder,
        mut cursor: Option<MessageCursor>,
        limit: usize,
    ) -> Result<Page<MessageRow>, ReadError> {
        let session_id = self.session.session_id;
        loop {
            let mut page = match order {
                ListOrder::OldestFirst => self.rows.messages(session_id, cursor, limit).await?,
                ListOrder::NewestFirst => self.rows.latest_messages(session_id, cursor, limit).await?,
            };
            if self.edits.is_empty() {
                return Ok(page);
            }
            cursor = page.last_before_more().map(MessageRow::cursor);
            page.rows.retain(|row| !self.edits.hides(row));
            if cursor.is_none() || !page.rows.is_empty() {
                return Ok(page);
            }
        }
    }

    /// Returns the number of messages: those that the store counts and those that wait here, without those that a waiting
    /// edit removes.
    async fn count_messages(&self) -> Result<i64, ReadError> {
        let stored = self.session.message_count;
        let (Some(journal), Some(user_id)) = (&self.journal, &self.session.user_id) else {
            return Ok(stored);
        };
        let session_id = self.session.session_id;
        let waiting = journal.pending_counted(session_id, user_id).await?;
        if self.edits.clears() {
            return Ok(waiting.iter().map(|message| i64::from(message.is_final)).sum());
        }
        if waiting.is_empty() && self.edits.is_empty() {
            return Ok(stored);
        }
        let asked: Vec<MessageId> =
            waiting.iter().map(|message| message.id).chain(self.edits.removed()).collect();
        let counted = match self.reader.message_count(session_id, &asked).await {
            Err(_) if self.is_in_journal => {
                let rows = self.read_journal().await?;
                return Ok(rows.values().map(|row| i64::from(CountedMessage::of_row(row).is_final)).sum());
            }
            counted => counted?,
        };
        let (stored, found) = counted.unwrap_or_default();
        let found: HashMap<MessageId, CountedMessage> =
            found.into_iter().map(|message| (message.id, message)).collect();
        let added = waiting.iter().map(|message| match found.get(&message.id) {
            Some(known) if known.revision >= message.revision => 0,
            known => i64::from(message.is_final) - i64::from(known.is_some_and(|known| known.is_final)),
        });
        let removed = self.edits.removed().filter(|id| found.get(id).is_some_and(|known| known.is_final));
        let removed = i64::try_from(removed.count()).unwrap_or(i64::MAX);
        Ok(stored.saturating_add(added.sum()).saturating_sub(removed))
    }

    /// Moves the last event of the session forward to the last message that waits.
    async fn advance_last_event(&mut self) -> Result<(), ReadError> {
        if let (Some(journal), Some(user_id)) = (&self.journal, &self.session.user_id) {
            let waiting = journal.pending_last_event(self.session.session_id, user_id).await?;
            let last = &mut self.session.last_event_at;
            *last = last.take().max(waiting.map(StoredTime::Known));
        }
        Ok(())
    }

    /// Returns all messages of the session in the journal, also those that the store has confirmed.
    async fn read_journal(&self) -> Result<RowsById, ReadError> {
        let Some(journal) = &self.journal else { return Ok(RowsById::new()) };
        let records = journal.session_records(self.session.session_id).await?;
        let user = self.session.user_id.as_ref();
        Ok(fold_messages(records.iter().filter(|record| shows(record, user, true)), user))
    }

    /// Returns the waiting messages.
    async fn read_waiting(&self) -> Result<RowsById, ReadError> {
        let Some(journal) = &self.journal else { return Ok(RowsById::new()) };
        let records = journal.pending_messages(self.session.session_id).await?;
        let user = self.session.user_id.as_ref();
        let mut waiting =
            fold_messages(records.iter().filter(|record| shows(record, user, self.is_stored)), user);
        let mut ids: Vec<MessageId> = waiting.keys().copied().collect();
        while !ids.is_empty() {
            let stored = self.reader.messages_by_id(&ids).await?;
            let last = stored.last_before_more().map(|row| row.id);
            let visible = self.filter_visible(&stored).await?;
            for row in stored {
                match waiting.get_mut(&row.id) {
                    Some(known)
                        if row.session_id == known.session_id
                            && known.revision > row.revision
                            && visible.contains(&row.id) =>
                    {
                        (known.created_at, known.seq) = (row.created_at, row.seq);
                    }
                    _ => _ = waiting.remove(&row.id),
                }
            }
            let looked_up = last.and_then(|last| ids.iter().position(|id| *id == last));
            ids.drain(..looked_up.map_or(ids.len(), |last| last + 1));
        }
        Ok(waiting)
    }

    /// Returns the ids of the given rows that the caller may see. Policies of the project may hide a row; a waiting
    /// revision of that row is then hidden too.
    async fn filter_visible(&self, stored: &[MessageRow]) -> Result<HashSet<MessageId>, ReadError> {
        let ids: Vec<MessageId> = stored.iter().map(|row| row.id).collect();
        if ids.is_empty() {
            return Ok(HashSet::new());
        }
        Ok(self.rows.visible_messages(&ids).await?.into_iter().collect())
    }
}

/// True if the caller may see this record of a session of this user. A record of a key that names no user belongs to the
/// user of the stored row.
fn shows(record: &Record, user_id: Option<&UserId>, is_stored: bool) -> bool {
    record.owner().map_or(is_stored, |owner| user_id == Some(owner))
}

/// Makes the row of a session from all of its records in the journal. `None` if the journal does not have the start with
/// which the session began.
async fn find_in_journal(
    journal: &OutboxReader,
    session_id: SessionId,
    owner: Option<&UserId>,
) -> Result<Option<SessionRow>, Denied> {
    let records = journal.session_records(session_id).await.map_err(Denied::Unavailable)?;
    let begins = |record: &Record| matches!(&record.body, Body::Start(start) if !start.resumed);
    let Some(first) = records.iter().position(begins) else { return Ok(None) };
    Ok(fold_records(None, &records[first..], owner).0)
}

/// Moves the start down as this node has moved it in memory: the message that moves the start may still wait.
fn with_moved_start(state: &AppState, session: SessionRow) -> SessionRow {
    let Some(user_id) = session.user_id.clone().filter(|_| state.is_remote()) else { return session };
    let known = state.tracker().session_in_memory(SessionRef::for_user(session.session_id, user_id));
    match known {
        Some(known) if known.started_at < session.started_at => {
            SessionRow { started_at: known.started_at, ..session }
        }
        _ => session,
    }
}

/// Merges the records into the stored row. Also returns true if a start is among the records.
fn fold_records(
    stored: Option<SessionRow>,
    records: &[Record],
    owner: Option<&UserId>,
) -> (Option<SessionRow>, bool) {
    let mut has_start = false;
    let mut row = stored;
    for record in records {
        let Some(user) = record.owner().or(owner) else { continue };
        if row.as_ref().and_then(|row| row.user_id.as_ref()).or(owner).is_some_and(|owner| owner != user) {
            continue;
        }
        has_start |= matches!(record.body, Body::Start(_));
        row = pending_session::apply_record(record, row.clone()).or(row);
    }
    (row, has_start)
}
