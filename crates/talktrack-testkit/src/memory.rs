//! A store in memory: a remote store without a network. Its content dies with the process; records in the
//! journal survive.

mod deletion;
mod edits;
mod sessions;
mod faults;
mod stats;
mod rows;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use talktrack::store::{
    Audit, DeletedSession, Delivery, EditedMessages, MessageCursor, MessageRow, Page, Read, Rows,
    SessionCursor, SessionFilter, SessionPreview, SessionRow, Store, StoreError, Viewer,
};
use talktrack_core::clock::{Seq, Timestamp};
use talktrack_core::error::{NotDurable, ReadError};
use talktrack_core::ids::{MessageId, SessionId, UserId};
use talktrack_core::message::MessageStatus;
use talktrack_core::record::{
    Attempt, Body, DeadReason, MessagesEdit, Record, RevisionOrder, SessionEnd, SessionHeartbeat,
    StampedMessage, Status, Verdict,
};
use talktrack_core::search::{Hit, SearchCursor, SearchError, SearchFilter};
use talktrack_core::stats::{Stats, StatsCounter, StatsError, TimeRange};
use talktrack_core::store::conflict::Rule;
use uuid::Uuid;

use crate::memory::faults::Fault;
use crate::memory::rows::{preview_of, row_of};
use crate::memory::sessions::{AppliedState, RecordSource};

/// A store in memory. Clones share their content.
#[derive(Clone, Default)]
pub struct MemoryStore {
    tables: Arc<Mutex<Tables>>,
    /// The only user who may read through this clone. `None`: no restriction.
    viewer: Option<UserId>,
}

#[derive(Default)]
struct Tables {
    sessions: HashMap<SessionId, SessionRow>,
    messages: HashMap<MessageId, (MessageCursor, StampedMessage)>,
    transcripts: HashMap<SessionId, BTreeMap<MessageCursor, MessageRow>>,
    /// Deleted sessions, each with the user it belonged to, if known.
    deleted: HashMap<SessionId, Option<UserId>>,
    /// Pairs of a session and a user who deleted that session without owning it.
    deleted_claims: HashSet<(SessionId, UserId)>,
    /// Messages that were removed while their session was kept.
    deleted_messages: HashSet<(SessionId, MessageId)>,
    /// The `seq` of the deletion of each user.
    deleted_users: HashMap<UserId, Seq>,
    /// Per session: the record that was last applied to its row, and whether its end was inferred.
    applied: HashMap<SessionId, AppliedState>,
    /// The number of the last delivery of each node's lane.
    numbers: HashMap<(Uuid, usize), i64>,
    /// Called before each write. If it returns an error, the write fails with this error.
    fault: Option<Fault>,
    /// Called after each write. If it returns an error, this error replaces the answer.
    lost: Option<Fault>,
}

impl MemoryStore {
    /// Creates an empty store.
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn write(&self, delivery: Delivery<'_>) -> Result<Vec<Verdict>, StoreError> {
        let records = delivery.records;
        let mut tables = self.tables.lock();
        tables.check_number(&delivery)?;
        if let Some(error) = tables.fault.as_mut().and_then(|fault| fault(records)) {
            return Err(error);
        }
        let verdicts = records.iter().map(|record| tables.write(delivery.node, record)).collect();
        tables.finish(&delivery).map(|()| verdicts)
    }

    async fn last_delivery(&self, node: Uuid, lane: usize) -> Result<Option<i64>, StoreError> {
        Ok(self.tables.lock().numbers.get(&(node, lane)).copied())
    }

    async fn check(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn edit_messages(
        &self,
        edit: &MessagesEdit,
        accepted: Seq,
    ) -> Result<Result<EditedMessages, NotDurable>, StoreError> {
        let mut tables = self.tables.lock();
        if let Some(error) = tables.fault.as_mut().and_then(|fault| fault(&[])) {
            return Err(error);
        }
        Ok(tables.edit(edit, None, accepted))
    }

    async fn end_idle_sessions(&self, since: Timestamp) -> Result<u64, StoreError> {
        let mut tables = self.tables.lock();
        let silent = |session: &SessionRow| {
            let last = session.last_event_at.as_ref()?.known()?;
            (session.status == Status::Active && last < since).then_some((session.session_id, last))
        };
        let ends: Vec<_> = tables.sessions.values().filter_map(silent).collect();
        for (session_id, ended_at) in &ends {
            tables.close(&SessionEnd::abandoned(*session_id, "idle_timeout", *ended_at));
        }
        Ok(ends.len() as u64)
    }
}

impl Tables {
    fn write(&mut self, node: Uuid, record: &Record) -> Verdict {
        let last = self.applied.get(&record.session_id()).and_then(|applied| applied.last);
        let rule = Rule::for_record(last, node, record.seq, record.attempt);
        let by =
            RecordSource { rule, origin: (node, record.seq), is_replayed: record.attempt == Attempt::Replay };
        match &record.body {
            Body::Delete(delete) => self.delete(record.seq, delete),
            Body::DeleteUser(delete) => self.delete_user(record.seq, delete),
            Body::EditMessages(edit) => self.write_edit(record, edit),
            Body::Message(_) if self.deleted.contains_key(&record.session_id()) => {
                Verdict::Dead(DeadReason::Deleted)
            }
            _ if self.deleted.contains_key(&record.session_id()) => Verdict::Refused(NotDurable::Deleted),
            _ if self.is_of_a_deleted_user(record) => Verdict::Dead(DeadReason::DeletedForUser),
            Body::Start(start) => self.start(by, start),
            Body::Update(update) => self.update(by, update),
            Body::End(end) => self.end(by, end),
            Body::Heartbeat(alive) => self.apply_heartbeat(alive),
            Body::Message(stamped) if self.deleted_messages.contains(&(record.session_id(), stamped.id)) => {
                Verdict::Dead(DeadReason::DeletedMessage)
            }
            Body::Message(stamped) => {
                let verdict = self.message(record.seq, stamped);
                let takes_back = stamped.takes_back(record.attempt).filter(|_| verdict == Verdict::Inserted);
                let verdict = takes_back
                    .and_then(|before| self.take_back_end(record.session_id(), before))
                    .unwrap_or(verdict);
                self.close_messages_if_ended(record.session_id());
                verdict
            }
        }
    }

    fn apply_heartbeat(&mut self, alive: &SessionHeartbeat) -> Verdict {
        if let Some(session) = self.sessions.get_mut(&alive.session_id)
            && (alive.owner.is_none() || session.user_id == alive.owner)
        {
            session.last_event_at = session.last_event_at.take().max(Some(alive.at.into()));
        }
        Verdict::StaysActive
    }

    fn message(&mut self, seq: Seq, stamped: &StampedMessage) -> Verdict {
        let Some(session) = self.sessions.get_mut(&stamped.message.session_id) else {
            return Verdict::Dead(DeadReason::UnknownSession);
        };
        let Some(owner) =
            session.user_id.clone().filter(|user| stamped.owner.as_ref().is_none_or(|owner| owner == user))
        else {
            return Verdict::Dead(DeadReason::OtherUser);
        };
        let transcript = self.transcripts.entry(session.session_id).or_default();
        if let Some((place, existing)) = self.messages.get_mut(&stamped.id) {
            existing.message.created_at = place.created_at.known();
            match stamped.compare_revision(&existing.message) {
                RevisionOrder::Older => {
                    let first = MessageCursor { created_at: stamped.created_at.into(), seq, id: stamped.id };
                    if first < *place
                        && let Some(row) = transcript.remove(place)
                    {
                        let created_at = stamped.created_at.into();
                        transcript.insert(first, MessageRow { created_at, seq: Some(seq), ..row });
                        *place = first;
                    }
                    self.move_start_down(stamped.message.session_id, stamped.created_at);
                    return Verdict::AlreadyThere;
                }
                RevisionOrder::Same => return Verdict::AlreadyThere,
                RevisionOrder::Conflict => return Verdict::Dead(DeadReason::IdConflict),
                RevisionOrder::NotTheirs => return Verdict::Dead(DeadReason::NotTheirs),
                RevisionOrder::Newer => {}
            }
            let mut revised = stamped.clone();
            revised.message.external_id = existing.message.external_id.take();
            let was_final = existing.message.status == MessageStatus::Final;
            let is_final = revised.message.status == MessageStatus::Final;
            session.message_count += i64::from(is_final) - i64::from(was_final);
            if let Some(row) = transcript.get_mut(place) {
                *row = row_of(&owner, place.seq, row.created_at.clone(), &revised);
            }
            *existing = revised;
            self.close_messages_if_ended(stamped.message.session_id);
            return Verdict::Revised { becomes_final: is_final && !was_final };
        }
        session.last_event_at = session.last_event_at.take().max(Some(stamped.happened_at(seq).into()));
        self.insert_row(row_of(&owner, seq, stamped.created_at.into(), stamped), stamped);
        self.move_start_down(stamped.message.session_id, stamped.created_at);
        Verdict::Inserted
    }
}

impl MemoryStore {
    fn shows(&self, row: &SessionRow) -> bool {
        self.viewer.is_none() || row.user_id == self.viewer
    }
}

#[async_trait]
impl Rows for MemoryStore {
    async fn session(&self, session_id: SessionId) -> Result<Option<SessionRow>, ReadError> {
        Ok(self.tables.lock().sessions.get(&session_id).filter(|row| self.shows(row)).cloned())
    }

    async fn sessions(
        &self,
        filter: SessionFilter,
        after: Option<SessionCursor>,
        limit: usize,
    ) -> Result<Page<SessionRow>, ReadError> {
        let place = |row: &SessionRow| (row.started_at.key(), row.session_id);
        let wanted = |row: &&SessionRow| {
            self.shows(row)
                && (filter.user_id.is_none() || row.user_id == filter.user_id)
                && (filter.external_id.is_none() || row.external_id == filter.external_id)
                && filter.since.is_none_or(|since| row.started_at >= since.into())
                && filter.until.is_none_or(|until| row.started_at < until.into())
                && filter.status.is_none_or(|status| row.status == status)
                && after.is_none_or(|after| place(row) < (after.started_at, after.session_id))
        };
        let tables = self.tables.lock();
        let finds = |row: &&SessionRow| {
            let mut transcript = tables.transcripts.get(&row.session_id).into_iter().flatten();
            filter.matching.as_ref().is_none_or(|query| {
                transcript
                    .any(|(_, said)| said.status == MessageStatus::Final && query.matches(&said.content))
            })
        };
        let mut rows: Vec<_> = tables.sessions.values().filter(wanted).filter(finds).cloned().collect();
        rows.sort_by_key(|row| std::cmp::Reverse(place(row)));
        Page::fill(rows.into_iter().map(Ok), Some(limit))
    }

    async fn session_by_external_id(
        &self,
        user_id: &UserId,
        external_id: &str,
    ) -> Result<Option<SessionRow>, ReadError> {
        let is_meant = |row: &&SessionRow| {
            self.shows(row)
                && row.user_id.as_ref() == Some(user_id)
                && row.external_id.as_deref() == Some(external_id)
        };
        let tables = self.tables.lock();
        Ok(tables
            .sessions
            .values()
            .filter(is_meant)
            .max_by_key(|row| (row.started_at.key(), row.session_id))
            .cloned())
    }

    async fn sessions_by_prefix(&self, prefix: &str, limit: usize) -> Result<Vec<SessionRow>, ReadError> {
        let prefix = prefix.to_ascii_lowercase();
        let wanted = |row: &&SessionRow| self.shows(row) && row.session_id.to_string().starts_with(&prefix);
        let mut rows: Vec<_> = self.tables.lock().sessions.values().filter(wanted).cloned().collect();
        rows.sort_by_key(|row| row.session_id);
        rows.truncate(limit);
        Ok(rows)
    }

    async fn messages(
        &self,
        session_id: SessionId,
        after: Option<MessageCursor>,
        limit: usize,
    ) -> Result<Page<MessageRow>, ReadError> {
        let tables = self.tables.lock();
        let is_shown = tables.sessions.get(&session_id).is_some_and(|row| self.shows(row));
        let Some(transcript) = tables.transcripts.get(&session_id).filter(|_| is_shown) else {
            return Ok(Page::default());
        };
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        Page::fill(transcript.range((from, Bound::Unbounded)).map(|(_, row)| Ok(row.clone())), Some(limit))
    }

    async fn session_previews(&self, ids: &[SessionId]) -> Result<Vec<SessionPreview>, ReadError> {
        let tables = self.tables.lock();
        let shown = ids.iter().filter(|id| tables.sessions.get(id).is_some_and(|row| self.shows(row)));
        let transcripts = shown.filter_map(|id| tables.transcripts.get(id));
        Ok(transcripts.filter_map(preview_of).collect())
    }

    async fn search(
        &self,
        wanted: SearchFilter,
        after: Option<SearchCursor>,
        limit: usize,
    ) -> Result<Page<Hit>, SearchError> {
        let tables = self.tables.lock();
        let is_asked = |session: &&SessionRow| {
            self.shows(session)
                && (wanted.user_id.is_none() || session.user_id == wanted.user_id)
                && wanted.session_id.is_none_or(|id| id == session.session_id)
        };
        let mut hits = Vec::new();
        for session in tables.sessions.values().filter(is_asked) {
            for (place, row) in tables.transcripts.get(&session.session_id).into_iter().flatten() {
                let is_after =
                    after.is_none_or(|after| (place.seq.get(), place.id) < (after.place, after.id));
                let is_shown = is_after && row.status == MessageStatus::Final;
                let snippet = if is_shown { wanted.query.snippet(&row.content) } else { None };
                hits.extend(snippet.map(|snippet| Hit {
                    message_id: row.id,
                    session_id: row.session_id,
                    user_id: session.user_id.clone().unwrap_or(UserId::nil()),
                    role: row.role.clone(),
                    kind: row.kind.clone(),
                    created_at: row.created_at.clone(),
                    snippet,
                    place: place.seq.get(),
                }));
            }
        }
        hits.sort_by_key(|hit| std::cmp::Reverse((hit.place, hit.message_id)));
        let more = hits.len() >= limit;
        hits.truncate(limit);
        Ok(Page { rows: hits, more })
    }

    async fn user_stats(&self, user_id: &UserId, range: &TimeRange) -> Result<Stats, StatsError> {
        let is_shown = self.viewer.as_ref().is_none_or(|viewer| viewer == user_id);
        let stats = self.tables.lock().stats(Some(user_id), range);
        Ok(if is_shown { stats } else { StatsCounter::new(*range).into_stats() })
    }
}

#[async_trait]
impl Read for MemoryStore {
    fn as_user(&self, viewer: Viewer) -> Arc<dyn Rows> {
        Arc::new(Self { viewer: Some(viewer.user_id), ..self.clone() })
    }

    async fn inactive_since(
        &self,
        since: Timestamp,
        after: Option<SessionCursor>,
        limit: usize,
    ) -> Result<Vec<SessionRow>, ReadError> {
        Ok(self.tables.lock().inactive_since(since, after, limit))
    }

    async fn sessions_by_id(&self, ids: &[SessionId]) -> Result<Vec<SessionRow>, ReadError> {
        let tables = self.tables.lock();
        Ok(ids.iter().filter_map(|id| tables.sessions.get(id)).cloned().collect())
    }

    async fn messages_by_id(&self, ids: &[MessageId]) -> Result<Page<MessageRow>, ReadError> {
        let tables = self.tables.lock();
        let row = |id: &MessageId| {
            let (place, stamped) = tables.messages.get(id)?;
            tables.transcripts.get(&stamped.message.session_id)?.get(place)
        };
        Page::fill(ids.iter().filter_map(row).cloned().map(Ok), None)
    }

    async fn last_said_at(&self, session_id: SessionId) -> Result<Option<Timestamp>, ReadError> {
        let tables = self.tables.lock();
        let last = tables.transcripts.get(&session_id).and_then(|transcript| transcript.values().next_back());
        Ok(last.and_then(|row| row.created_at.known()))
    }

    async fn deleted_sessions(&self, ids: &[SessionId]) -> Result<Vec<DeletedSession>, ReadError> {
        let tables = self.tables.lock();
        let find = |id: &SessionId| {
            tables.deleted.get(id).map(|user_id| DeletedSession { session_id: *id, user_id: user_id.clone() })
        };
        Ok(ids.iter().filter_map(find).collect())
    }

    async fn stats(&self, range: &TimeRange) -> Result<Stats, StatsError> {
        Ok(self.tables.lock().stats(None, range))
    }

    async fn audit(&self) -> Result<Audit, ReadError> {
        Ok(self.tables.lock().audit())
    }
}
