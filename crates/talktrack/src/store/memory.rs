//! Conversations in memory: a remote store without a network. Everything it holds dies with it; what is in the journal does not.

mod deletion;
mod stats;
mod rows;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use uuid::Uuid;

use crate::clock::{Seq, Timestamp};
use crate::error::{NotDurable, ReadError};
use crate::json::JsonObject;
use crate::record::{
    Body, DeadReason, Ended, Meeting, Record, SessionAlive, SessionEnd, SessionStart, Stamped, Status,
    Verdict,
};
use crate::search::{Hit, SearchCursor, SearchError, SearchFilter};
use crate::stats::{Counter, Range, Stats, StatsError};
use crate::store::memory::rows::{glimpse_of, row_of};
use crate::store::{
    Audit, Glimpse, MessageCursor, MessageRow, Read, Rows, SessionCursor, SessionFilter, SessionRow, Store,
    StoreError, Viewer,
};

/// A store in memory. Clones share their content.
#[derive(Clone, Default)]
pub struct MemoryStore {
    tables: Arc<Mutex<Tables>>,
    /// Who sees it, where that is not everybody.
    viewer: Option<Uuid>,
}

#[derive(Default)]
struct Tables {
    sessions: HashMap<Uuid, SessionRow>,
    messages: HashMap<Uuid, (MessageCursor, Stamped)>,
    transcripts: HashMap<Uuid, BTreeMap<MessageCursor, MessageRow>>,
    deleted: HashSet<Uuid>,
    /// Asked before each write; an answer is the write's error.
    fault: Option<Fault>,
    /// Asked after each write; an answer takes the place of the true one.
    lost: Option<Fault>,
}

/// Decides whether a write, or its answer, fails.
type Fault = Box<dyn FnMut(&[Record]) -> Option<StoreError> + Send>;

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on each write is first shown to `fault`; where it answers with an error, nothing is written.
    pub fn fail_when(&self, fault: impl FnMut(&[Record]) -> Option<StoreError> + Send + 'static) {
        self.tables.lock().fault = Some(Box::new(fault));
    }

    /// From now on each write that is done is shown to `lost`; where it answers with an error, the true answer is lost on the
    /// way, and whoever wrote is told the error instead.
    pub fn lose_answers_when(&self, lost: impl FnMut(&[Record]) -> Option<StoreError> + Send + 'static) {
        self.tables.lock().lost = Some(Box::new(lost));
    }

    /// Writes succeed again.
    pub fn mend(&self) {
        let mut tables = self.tables.lock();
        (tables.fault, tables.lost) = (None, None);
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn write(&self, records: &[Record]) -> Result<Vec<Verdict>, StoreError> {
        let mut tables = self.tables.lock();
        if let Some(error) = tables.fault.as_mut().and_then(|fault| fault(records)) {
            return Err(error);
        }
        let verdicts = records.iter().map(|record| tables.write(record)).collect();
        tables.lost.as_mut().and_then(|lost| lost(records)).map_or(Ok(verdicts), Err)
    }

    async fn check(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn abandon_silent(&self, since: Timestamp) -> Result<u64, StoreError> {
        let mut tables = self.tables.lock();
        let silent = |session: &SessionRow| {
            let last = session.last_event_at?;
            (session.status == Status::Active && last < since).then_some((session.session_id, last))
        };
        let ends: Vec<_> = tables.sessions.values().filter_map(silent).collect();
        for (session_id, ended_at) in &ends {
            tables.end(&SessionEnd::abandoned(*session_id, "idle_timeout", *ended_at));
        }
        Ok(ends.len() as u64)
    }
}

impl Tables {
    fn write(&mut self, record: &Record) -> Verdict {
        match &record.body {
            Body::Delete(delete) => self.delete(delete),
            Body::Message(_) if self.deleted.contains(&record.session_id()) => {
                Verdict::Dead(DeadReason::Deleted)
            }
            _ if self.deleted.contains(&record.session_id()) => Verdict::Refused(NotDurable::Deleted),
            Body::Start(start) => self.start(record.seq, start),
            Body::Update(update) => match self.sessions.get_mut(&update.session_id) {
                Some(session) if update.owner.is_some_and(|owner| owner != session.user_id) => {
                    Verdict::Refused(NotDurable::OtherUser)
                }
                Some(session) => {
                    merge(&mut session.metadata, &update.metadata);
                    Verdict::Updated
                }
                None => Verdict::Refused(NotDurable::UnknownSession),
            },
            Body::End(end) => self.end(end),
            Body::Alive(alive) => self.alive(alive),
            Body::Message(stamped) => self.message(record.seq, stamped),
        }
    }

    fn start(&mut self, seq: Seq, start: &SessionStart) -> Verdict {
        let happened_at = start.happened_at(seq);
        let Some(session) = self.sessions.get_mut(&start.session_id) else {
            self.sessions.insert(start.session_id, SessionRow::begun(start, seq));
            return Verdict::Started { resumed: false };
        };
        if session.user_id != start.user_id {
            return Verdict::Refused(NotDurable::OtherUser);
        }
        // A start that comes late reopens nothing: another node has gone on with the session, and perhaps ended it. One that
        // comes again reopens what the end before it, which came again too, has closed. (When a session was abandoned its row
        // does not tell.)
        let ended_at = session.ended_at.filter(|_| session.status == Status::Ended);
        let latest = session.last_event_at.into_iter().chain(ended_at).min();
        if latest.is_none_or(|latest| latest.as_micros() <= seq) {
            (session.status, session.ended_at, session.end_reason, session.duration_seconds) =
                (Status::Active, None, None, None);
        }
        session.last_event_at = session.last_event_at.max(Some(happened_at));
        if let Some(added) = &start.metadata {
            merge(&mut session.metadata, added);
        }
        Verdict::Started { resumed: true }
    }

    fn end(&mut self, end: &SessionEnd) -> Verdict {
        let Some(session) = self.sessions.get_mut(&end.session_id) else {
            return Verdict::Refused(NotDurable::UnknownSession);
        };
        if end.owner.is_some_and(|owner| owner != session.user_id) {
            return Verdict::Refused(NotDurable::OtherUser);
        }
        if end.is_outdated(session.last_event_at) {
            return Verdict::GoesOn;
        }
        let inferred = session.status == Status::Abandoned && end.status == Status::Ended;
        if session.ended_at.is_none() || inferred {
            let last = session.last_event_at.unwrap_or(session.started_at);
            let ended_at = if end.status == Status::Abandoned { last } else { end.ended_at };
            session.ended_at = Some(ended_at);
            session.status = end.status;
            session.end_reason = Some(end.reason.clone());
            session.duration_seconds =
                Some(ended_at.max(session.started_at).seconds_since(session.started_at));
        }
        let duration_seconds = session.duration_seconds.unwrap_or(0.0);
        Verdict::Ended(Ended { duration_seconds, message_count: session.message_count })
    }

    fn alive(&mut self, alive: &SessionAlive) -> Verdict {
        if let Some(session) = self.sessions.get_mut(&alive.session_id) {
            session.last_event_at = session.last_event_at.max(Some(alive.at));
        }
        Verdict::GoesOn
    }

    fn message(&mut self, seq: i64, stamped: &Stamped) -> Verdict {
        let Some(session) = self.sessions.get_mut(&stamped.message.session_id) else {
            return Verdict::Dead(DeadReason::UnknownSession);
        };
        if stamped.owner.is_some_and(|owner| owner != session.user_id) {
            return Verdict::Dead(DeadReason::OtherUser);
        }
        let transcript = self.transcripts.entry(session.session_id).or_default();
        if let Some((place, existing)) = self.messages.get_mut(&stamped.id) {
            match stamped.meets(&existing.message) {
                Meeting::Overtaken => {
                    let first = MessageCursor { created_at: stamped.created_at, seq, id: stamped.id };
                    if first < *place
                        && let Some(row) = transcript.remove(place)
                    {
                        transcript.insert(
                            first,
                            MessageRow { created_at: first.created_at, seq: Some(seq), ..row },
                        );
                        *place = first;
                    }
                    return Verdict::AlreadyThere;
                }
                Meeting::Known => return Verdict::AlreadyThere,
                Meeting::Conflict => return Verdict::Dead(DeadReason::IdConflict),
                Meeting::Newer => {}
            }
            let mut revised = stamped.clone();
            revised.message.external_id = existing.message.external_id.take();
            transcript.insert(*place, row_of(session.user_id, place.seq, place.created_at, &revised));
            *existing = revised;
            return Verdict::Revised;
        }
        let place = MessageCursor { created_at: stamped.created_at, seq, id: stamped.id };
        transcript.insert(place, row_of(session.user_id, seq, stamped.created_at, stamped));
        self.messages.insert(stamped.id, (place, stamped.clone()));
        session.message_count += 1;
        session.last_event_at = session.last_event_at.max(Some(stamped.happened_at(seq)));
        Verdict::Inserted
    }
}

fn merge(metadata: &mut Option<JsonObject>, added: &JsonObject) {
    *metadata = Some(metadata.take().unwrap_or_default().merged(added));
}

impl MemoryStore {
    fn shows(&self, row: &SessionRow) -> bool {
        self.viewer.is_none_or(|viewer| viewer == row.user_id)
    }
}

#[async_trait]
impl Rows for MemoryStore {
    async fn session(&self, session_id: Uuid) -> Result<Option<SessionRow>, ReadError> {
        Ok(self.tables.lock().sessions.get(&session_id).filter(|row| self.shows(row)).cloned())
    }

    async fn sessions(
        &self,
        filter: SessionFilter,
        after: Option<SessionCursor>,
        limit: usize,
    ) -> Result<Vec<SessionRow>, ReadError> {
        let place = |row: &SessionRow| (row.started_at, row.session_id);
        let wanted = |row: &&SessionRow| {
            self.shows(row)
                && filter.user_id.is_none_or(|user| user == row.user_id)
                && filter.since.is_none_or(|since| row.started_at >= since)
                && filter.until.is_none_or(|until| row.started_at < until)
                && filter.status.is_none_or(|status| status == row.status)
                && after.is_none_or(|after| place(row) < (after.started_at, after.session_id))
        };
        let tables = self.tables.lock();
        let finds = |row: &&SessionRow| {
            let mut transcript = tables.transcripts.get(&row.session_id).into_iter().flatten();
            filter
                .matching
                .as_ref()
                .is_none_or(|query| transcript.any(|(_, said)| query.finds(&said.content)))
        };
        let mut rows: Vec<_> = tables.sessions.values().filter(wanted).filter(finds).cloned().collect();
        rows.sort_by_key(|row| std::cmp::Reverse(place(row)));
        rows.truncate(limit);
        Ok(rows)
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
        session_id: Uuid,
        after: Option<MessageCursor>,
        limit: usize,
    ) -> Result<Vec<MessageRow>, ReadError> {
        let tables = self.tables.lock();
        let is_shown = tables.sessions.get(&session_id).is_some_and(|row| self.shows(row));
        let Some(transcript) = tables.transcripts.get(&session_id).filter(|_| is_shown) else {
            return Ok(Vec::new());
        };
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        Ok(transcript.range((from, Bound::Unbounded)).take(limit).map(|(_, row)| row.clone()).collect())
    }

    async fn glimpses(&self, ids: &[Uuid]) -> Result<Vec<Glimpse>, ReadError> {
        let tables = self.tables.lock();
        let shown = ids.iter().filter(|id| tables.sessions.get(id).is_some_and(|row| self.shows(row)));
        let transcripts = shown.filter_map(|id| tables.transcripts.get(id));
        Ok(transcripts.filter_map(glimpse_of).collect())
    }

    async fn search(
        &self,
        wanted: SearchFilter,
        after: Option<SearchCursor>,
        limit: usize,
    ) -> Result<Vec<Hit>, SearchError> {
        let tables = self.tables.lock();
        let is_asked = |session: &&SessionRow| {
            self.shows(session)
                && wanted.user_id.is_none_or(|user| user == session.user_id)
                && wanted.session_id.is_none_or(|id| id == session.session_id)
        };
        let mut hits = Vec::new();
        for session in tables.sessions.values().filter(is_asked) {
            for (place, row) in tables.transcripts.get(&session.session_id).into_iter().flatten() {
                let is_after = after.is_none_or(|after| (place.seq, place.id) < (after.place, after.id));
                let snippet = if is_after { wanted.query.snippet(&row.content) } else { None };
                hits.extend(snippet.map(|snippet| Hit {
                    message_id: row.id,
                    session_id: row.session_id,
                    user_id: session.user_id,
                    role: row.role,
                    kind: row.kind,
                    created_at: row.created_at,
                    snippet,
                    place: place.seq,
                }));
            }
        }
        hits.sort_by_key(|hit| std::cmp::Reverse((hit.place, hit.message_id)));
        hits.truncate(limit);
        Ok(hits)
    }

    async fn stats_of(&self, user_id: Uuid, range: &Range) -> Result<Stats, StatsError> {
        let is_shown = self.viewer.is_none_or(|viewer| viewer == user_id);
        let stats = self.tables.lock().stats(Some(user_id), range);
        Ok(if is_shown { stats } else { Counter::of(*range).into_stats() })
    }
}

#[async_trait]
impl Read for MemoryStore {
    fn seen_by(&self, viewer: Viewer) -> Arc<dyn Rows> {
        Arc::new(Self { viewer: Some(viewer.user_id), ..self.clone() })
    }

    async fn silent(
        &self,
        since: Timestamp,
        after: Option<SessionCursor>,
        limit: usize,
    ) -> Result<Vec<SessionRow>, ReadError> {
        Ok(self.tables.lock().silent(since, after, limit))
    }

    async fn sessions_by_id(&self, ids: &[Uuid]) -> Result<Vec<SessionRow>, ReadError> {
        let tables = self.tables.lock();
        Ok(ids.iter().filter_map(|id| tables.sessions.get(id)).cloned().collect())
    }

    async fn messages_by_id(&self, ids: &[Uuid]) -> Result<Vec<MessageRow>, ReadError> {
        let tables = self.tables.lock();
        let row = |id: &Uuid| {
            let (place, stamped) = tables.messages.get(id)?;
            tables.transcripts.get(&stamped.message.session_id)?.get(place)
        };
        Ok(ids.iter().filter_map(row).cloned().collect())
    }

    async fn stats(&self, range: &Range) -> Result<Stats, StatsError> {
        Ok(self.tables.lock().stats(None, range))
    }

    async fn audit(&self) -> Result<Audit, ReadError> {
        let tables = self.tables.lock();
        let there = |session: &Uuid| tables.transcripts.get(session).map_or(0, BTreeMap::len) as u64;
        let odd =
            tables.sessions.values().filter(|session| session.message_count != there(&session.session_id));
        Ok(Audit {
            books: None,
            sessions: tables.sessions.len() as u64,
            messages: tables.messages.len() as u64,
            dead_letters: 0,
            journal: 0,
            problems: odd
                .map(|session| format!("session {} miscounts its messages", session.session_id))
                .collect(),
        })
    }
}
