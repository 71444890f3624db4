//! One session as a caller reads it: the stored rows merged with the durable records of this node that still wait for
//! the store.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use talktrack::record::{Body, Record};
use talktrack::store::sqlite::OutboxReader;
use talktrack::store::{MessageCursor, MessageRow, Page, Read, Rows, SessionRow};
use talktrack::{MessageId, ReadError, UserId};

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
    /// True if a start of the session waits on this node. If the store cannot answer, the waiting records alone are
    /// then a complete answer.
    begins_here: bool,
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

    pub(super) async fn find(state: &AppState, caller: &Caller, name: &SessionName) -> Result<Self, Denied> {
        let (Granted { session_id, owner, .. }, row) = proof::find_row(state, caller, name).await?;
        let journal = state.is_remote().then(|| state.local().outbox());
        let waiting = match &journal {
            Some(journal) => {
                journal.pending_session_records(session_id).await.map_err(Denied::Unavailable)?
            }
            None => Vec::new(),
        };
        let rows = rows_for(state, caller);
        let stored = match row {
            Some(row) => Ok(Some(row)),
            None => proof::with_timeout(rows.session(session_id)).await,
        };
        let owner =
            stored.as_ref().ok().and_then(Option::as_ref).and_then(|row| row.user_id.clone()).or(owner);
        let is_stored = matches!(stored, Ok(Some(_)));
        let (row, begins_here) =
            fold_records(stored.as_ref().ok().cloned().flatten(), &waiting, owner.as_ref());
        let Some(mut session) = row else { return Err(stored.err().unwrap_or(Denied::NotFound)) };
        let journal_alone = journal.as_ref().filter(|_| !is_stored);
        if let Some((journal, user_id)) = journal_alone.zip(session.user_id.as_ref()) {
            let waiting = journal.count_pending_messages(session_id, user_id).await;
            let waiting = i64::try_from(waiting.map_err(Denied::Unavailable)?).unwrap_or(i64::MAX);
            session.message_count = session.message_count.max(waiting);
        }
        hide_foreign_parents(state, caller, std::slice::from_mut(&mut session)).await;
        let reader = state.tracker().reader();
        Ok(Self { session, rows, reader, journal, begins_here, is_stored })
    }

    /// Returns up to `limit` messages after the cursor, in the order in which they were said.
    ///
    /// # Errors
    /// Fails if the store cannot answer, unless the session's start waits on this node.
    pub(crate) async fn messages(
        &self,
        after: Option<MessageCursor>,
        limit: usize,
    ) -> Result<Page<MessageRow>, ReadError> {
        // The journal is read before the store: a message that moves to the store in between is then found in the
        // store.
        let waiting = self.read_waiting().await?;
        let page = match self.rows.messages(self.session.session_id, after, limit).await {
            Err(_) if self.begins_here => Page::default(),
            page => page?,
        };
        if waiting.is_empty() {
            return Ok(page);
        }
        let end = page.last_before_more().map(MessageRow::cursor);
        let is_wanted = |place| after.is_none_or(|after| place > after) && end.is_none_or(|end| place <= end);
        merge_waiting(page, waiting, limit, is_wanted, MessageRow::cursor)
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
        let waiting = self.read_waiting().await?;
        let page = match self.rows.latest_messages(self.session.session_id, before, limit).await {
            Err(_) if self.begins_here => Page::default(),
            page => page?,
        };
        if waiting.is_empty() {
            return Ok(page);
        }
        let end = page.last_before_more().map(MessageRow::cursor);
        let is_wanted =
            |place| before.is_none_or(|before| place < before) && end.is_none_or(|end| place >= end);
        merge_waiting(page, waiting, limit, is_wanted, |row| Reverse(row.cursor()))
    }

    /// Returns one message of the session.
    ///
    /// # Errors
    /// As for [`messages`](Self::messages).
    pub(crate) async fn message(&self, id: MessageId) -> Result<Option<MessageRow>, ReadError> {
        if let Some(row) = self.read_waiting().await?.remove(&id) {
            return Ok(Some(row));
        }
        let stored = match self.reader.messages_by_id(&[id]).await {
            Err(_) if self.begins_here => Page::default(),
            stored => stored?,
        };
        let visible = self.filter_visible(&stored).await?;
        let is_shown =
            |row: &MessageRow| row.session_id == self.session.session_id && visible.contains(&row.id);
        Ok(stored.into_iter().find(is_shown))
    }

    /// Returns the waiting messages by id, each in its latest revision and at the place of its first revision.
    async fn read_waiting(&self) -> Result<HashMap<MessageId, MessageRow>, ReadError> {
        let mut waiting: HashMap<MessageId, MessageRow> = HashMap::new();
        let Some(journal) = &self.journal else { return Ok(waiting) };
        for record in journal.pending_messages(self.session.session_id).await? {
            let Some(stamped) = record.message().filter(|_| self.shows(&record)) else { continue };
            let row = MessageRow::from_stamped(stamped, record.seq, self.session.user_id.as_ref());
            match waiting.get_mut(&row.id) {
                None => _ = waiting.insert(row.id, row),
                Some(known) if row.revision > known.revision => {
                    *known = MessageRow { created_at: known.created_at.clone(), seq: known.seq, ..row };
                }
                Some(known) => (known.created_at, known.seq) = (row.created_at, row.seq),
            }
        }
        if waiting.is_empty() {
            return Ok(waiting);
        }
        let mut ids: Vec<MessageId> = waiting.keys().copied().collect();
        while !ids.is_empty() {
            let stored = match self.reader.messages_by_id(&ids).await {
                Err(_) if self.begins_here => Page::default(),
                stored => stored?,
            };
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

    /// True if the caller may see this record. A record of a key that names no user belongs to the user of the stored
    /// row.
    fn shows(&self, record: &Record) -> bool {
        record.owner().map_or(self.is_stored, |owner| self.session.user_id.as_ref() == Some(owner))
    }
}

/// Merges the waiting messages into a page of stored ones. `is_wanted` tells which places the page covers: a waiting
/// message that sorts after the last stored row of a page belongs on a later page. This also holds if that row is shown
/// at another place.
fn merge_waiting<K: Ord>(
    mut page: Page<MessageRow>,
    waiting: HashMap<MessageId, MessageRow>,
    limit: usize,
    is_wanted: impl Fn(MessageCursor) -> bool,
    order: impl FnMut(&MessageRow) -> K,
) -> Result<Page<MessageRow>, ReadError> {
    let has_more = page.last_before_more().is_some();
    page.rows.retain(|row| !waiting.contains_key(&row.id));
    page.rows.extend(waiting.into_values().filter(|row| is_wanted(row.cursor())));
    page.rows.sort_by_key(order);
    let merged = Page::fill::<ReadError>(page.rows.into_iter().map(Ok), Some(limit))?;
    Ok(Page { more: merged.more || has_more, ..merged })
}

/// Merges the waiting records into the stored row. Also returns true if a start is among the records.
fn fold_records(
    stored: Option<SessionRow>,
    waiting: &[Record],
    owner: Option<&UserId>,
) -> (Option<SessionRow>, bool) {
    let mut begins_here = false;
    let mut row = stored;
    for record in waiting {
        let Some(user) = record.owner().or(owner) else { continue };
        if row.as_ref().and_then(|row| row.user_id.as_ref()).or(owner).is_some_and(|owner| owner != user) {
            continue;
        }
        begins_here |= matches!(record.body, Body::Start(_));
        row = pending_session::apply_record(record, row.clone()).or(row);
    }
    (row, begins_here)
}
