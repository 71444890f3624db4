//! Events of what is durable and not yet in a remote store, which may be away: from the records themselves.

use std::collections::HashMap;

use parking_lot::Mutex;
use talktrack::clock::Timestamp;
use talktrack::record::{Body, Record, SessionEnd, SessionStart, SessionUpdate};
use talktrack::store::sqlite::Waiting;
use talktrack::store::{MessageRow, SessionRow};
use talktrack::{ChangeKind, JsonObject, ReadError, Status};
use uuid::Uuid;

use super::event::Event;

/// What is remembered of sessions, in bytes; where it is more, they are read from the store again.
const REMEMBERED_BYTES: usize = 8 << 20;

/// What the records on their way make of sessions. Only a start tells all of a session; what comes after it adds to that.
#[derive(Default)]
pub(super) struct Pending(Mutex<Rows>);

#[derive(Default)]
struct Rows {
    rows: HashMap<Uuid, SessionRow>,
    bytes: usize,
}

impl Pending {
    /// Whether the store may know something of the record's session that the event needs.
    pub(super) fn needs_session(&self, record: &Record) -> bool {
        match &record.body {
            Body::Message(stamped) => stamped.owner.is_none(),
            Body::Start(start) if !start.resumed => false,
            Body::Start(_) | Body::Update(_) | Body::End(_) => {
                !self.0.lock().rows.contains_key(&record.session_id())
            }
            Body::Alive(_) | Body::Delete(_) => false,
        }
    }

    /// `stored` is the session's row in the store, `remembered` what the tracker knows of it.
    /// An error where nobody knows anything of the session but the store: it may know more in a moment.
    pub(super) fn session(
        &self,
        kind: ChangeKind,
        record: &Record,
        stored: Option<&SessionRow>,
        remembered: Option<SessionRow>,
    ) -> Result<Option<Event>, ReadError> {
        let (seq, session_id) = (record.seq, record.session_id());
        let claimed = match &record.body {
            Body::Start(start) => Some(start.user_id),
            Body::Update(update) => update.owner,
            Body::End(end) => end.owner,
            Body::Alive(_) | Body::Message(_) | Body::Delete(_) => return Ok(None),
        };
        let mut rows = self.0.lock();
        let is_anothers = |row: &SessionRow| claimed.is_some_and(|user| user != row.user_id);
        if rows.rows.get(&session_id).is_some_and(is_anothers) {
            rows.remove(session_id);
            return Err(ReadError("two claim the session: the store has to be asked whose it is".into()));
        }
        let known = rows.rows.get(&session_id).or(stored).cloned().or_else(|| remembered.clone());
        // Somebody else's session: the store will refuse the record.
        if known.as_ref().is_some_and(is_anothers) {
            return Ok(None);
        }
        let mut row = after(record, known)?;
        if let Some(remembered) = remembered {
            row.message_count = row.message_count.max(remembered.message_count);
            row.last_event_at = row.last_event_at.max(remembered.last_event_at);
        }
        rows.insert(row.clone());
        Ok(Some(Event::new(seq, kind, session_id, Some(row.user_id), &row)))
    }

    /// The store has what was on its way, and knows better.
    pub(super) fn forget(&self, session_id: Uuid) {
        self.0.lock().remove(session_id);
    }
}

impl Rows {
    fn insert(&mut self, row: SessionRow) {
        self.remove(row.session_id);
        if self.bytes > REMEMBERED_BYTES {
            *self = Self::default();
        }
        self.bytes += bytes(&row);
        self.rows.insert(row.session_id, row);
    }

    fn remove(&mut self, session_id: Uuid) {
        self.bytes -= self.rows.remove(&session_id).map_or(0, |row| bytes(&row));
    }
}

fn bytes(row: &SessionRow) -> usize {
    let words = [&row.external_id, &row.end_reason].into_iter().flatten().map(String::len);
    size_of::<SessionRow>()
        + words.sum::<usize>()
        + row.metadata.as_ref().map_or(0, |json| json.as_str().len())
}

/// A message on its way; `stored` is what it revises, and `session` its session's row, as far as the store was asked.
pub(super) fn message(
    kind: ChangeKind,
    waiting: &Waiting,
    stored: Option<&MessageRow>,
    session: Option<&SessionRow>,
) -> Option<Event> {
    let Waiting { record, first } = waiting;
    let stamped = record.message()?;
    let owner = stamped.owner.or(session.map(|row| row.user_id));
    let mut row = MessageRow::accepted(stamped, record.seq, owner);
    // A revision says what was said better, not when.
    let first = first.as_ref().and_then(|first| Some((first.message()?.created_at, Some(first.seq))));
    let stored = stored.filter(|stored| stored.session_id == row.session_id);
    if let Some(place) = stored.map(|stored| (stored.created_at, stored.seq)).or(first) {
        (row.created_at, row.seq) = place;
    }
    Some(Event::new(record.seq, kind, row.session_id, owner, &row))
}

/// The row that the record leaves, as far as this node knows.
fn after(record: &Record, known: Option<SessionRow>) -> Result<SessionRow, ReadError> {
    let unknown = || ReadError("whose session it is, only the store knows".into());
    Ok(match (&record.body, known) {
        (Body::Start(start), None) => SessionRow::begun(start, record.seq),
        (Body::Start(start), Some(row)) => resumed(start, row),
        (Body::Update(update), Some(row)) => updated(update, row),
        (Body::End(end), Some(row)) => ended(end, row),
        (Body::End(end), None) => ended(end, from_its_end(end).ok_or_else(unknown)?),
        _ => return Err(unknown()),
    })
}

fn resumed(start: &SessionStart, row: SessionRow) -> SessionRow {
    let metadata = merged(row.metadata.as_ref(), start.metadata.as_ref());
    let external_id = row.external_id.or_else(|| start.external_id.clone());
    let (status, end_reason, ended_at, duration_seconds) = (Status::Active, None, None, None);
    SessionRow { status, end_reason, ended_at, duration_seconds, metadata, external_id, ..row }
}

fn updated(update: &SessionUpdate, row: SessionRow) -> SessionRow {
    SessionRow { metadata: merged(row.metadata.as_ref(), Some(&update.metadata)), ..row }
}

fn ended(end: &SessionEnd, row: SessionRow) -> SessionRow {
    let ended_at = match end.status {
        Status::Abandoned => row.last_event_at.unwrap_or(end.ended_at),
        Status::Active | Status::Ended => end.ended_at,
    };
    let lasted = ended_at.max(row.started_at).seconds_since(row.started_at);
    SessionRow {
        status: end.status,
        end_reason: Some(end.reason.clone()),
        ended_at: Some(ended_at),
        duration_seconds: Some(end.known.map_or(lasted, |known| known.duration_seconds)),
        message_count: end.known.map_or(0, |known| known.message_count).max(row.message_count),
        ..row
    }
}

/// What an end tells of its session, where nothing else does.
#[expect(clippy::cast_possible_truncation, reason = "a duration in microseconds fits")]
fn from_its_end(end: &SessionEnd) -> Option<SessionRow> {
    let lasted = end.known.map_or(0.0, |known| known.duration_seconds);
    let started_at = Timestamp::from_micros(end.ended_at.as_micros() - (lasted * 1e6) as i64)?;
    Some(SessionRow {
        session_id: end.session_id,
        user_id: end.owner?,
        external_id: None,
        status: end.status,
        end_reason: None,
        started_at,
        ended_at: None,
        duration_seconds: None,
        last_event_at: None,
        message_count: 0,
        metadata: None,
    })
}

fn merged(row: Option<&JsonObject>, added: Option<&JsonObject>) -> Option<JsonObject> {
    match (row, added) {
        (Some(row), Some(added)) => Some(row.merged(added)),
        (row, added) => row.or(added).cloned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: Uuid = Uuid::from_u128(1);
    const USER: Uuid = Uuid::from_u128(2);

    fn object(text: &str) -> JsonObject {
        JsonObject::parse(text).unwrap()
    }

    fn start(user_id: Uuid) -> Record {
        let started_at = Timestamp::from_micros(1_000_000).unwrap();
        let (external_id, metadata) = (Some("call 7".into()), Some(object(r#"{"a":1}"#)));
        let (session_id, resumed) = (SESSION, false);
        let start = SessionStart { session_id, user_id, external_id, metadata, started_at, resumed };
        Record { seq: 1_000_000, body: Body::Start(start) }
    }

    fn update(owner: Uuid) -> Record {
        let (session_id, metadata, owner) = (SESSION, object(r#"{"b":2}"#), Some(owner));
        Record { seq: 2_000_000, body: Body::Update(SessionUpdate { session_id, metadata, owner }) }
    }

    fn told(pending: &Pending, record: &Record, stored: Option<&SessionRow>) -> Option<serde_json::Value> {
        let event = pending.session(ChangeKind::SessionUpdated, record, stored, None).ok()??;
        let text = String::from_utf8(event.bytes.to_vec()).unwrap();
        let data = text.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
        Some(serde_json::from_str(data).unwrap())
    }

    #[test]
    fn what_is_on_its_way_adds_up_to_the_row_that_it_will_leave() {
        let pending = Pending::default();
        assert_eq!(told(&pending, &update(USER), None), None, "nobody knows the session yet");
        told(&pending, &start(USER), None).unwrap();
        let row = told(&pending, &update(USER), None).unwrap();
        assert_eq!(row["metadata"], serde_json::json!({"a": 1, "b": 2}));
        let ended_at = Timestamp::from_micros(3_500_000).unwrap();
        let (status, reason, known) = (Status::Ended, "completed".to_owned(), None);
        let (session_id, seen_until, owner) = (SESSION, None, Some(USER));
        let end = SessionEnd { session_id, status, reason, ended_at, known, seen_until, owner };
        let row = told(&pending, &Record { seq: 4_000_000, body: Body::End(end) }, None).unwrap();
        assert_eq!(
            (&row["status"], &row["external_id"], &row["duration_seconds"]),
            (&"ended".into(), &"call 7".into(), &2.5.into())
        );
    }

    #[test]
    fn a_claim_to_anothers_session_hides_nothing_of_it() {
        let pending = Pending::default();
        told(&pending, &start(Uuid::from_u128(3)), None).unwrap();
        let Body::Start(begun) = start(USER).body else { unreachable!() };
        let stored = SessionRow::begun(&begun, 1);
        assert_eq!(told(&pending, &update(USER), Some(&stored)), None, "the claim is dropped first");
        assert!(pending.needs_session(&update(USER)));
        assert_eq!(told(&pending, &update(USER), Some(&stored)).unwrap()["user_id"], USER.to_string());
        assert_eq!(told(&pending, &update(Uuid::from_u128(4)), None), None);
    }

    #[test]
    fn what_is_remembered_has_a_bound() {
        let mut rows = Rows::default();
        let Body::Start(begun) = start(USER).body else { unreachable!() };
        let metadata = Some(object(&format!(r#"{{"a":"{}"}}"#, "x".repeat(1 << 20))));
        for number in 0..50 {
            let row = SessionRow { session_id: Uuid::from_u128(number), ..SessionRow::begun(&begun, 1) };
            rows.insert(SessionRow { metadata: metadata.clone(), ..row });
            assert!(rows.bytes <= REMEMBERED_BYTES + (2 << 20));
        }
        assert!(!rows.rows.is_empty());
        (0..50).for_each(|number| rows.remove(Uuid::from_u128(number)));
        assert_eq!(rows.bytes, 0);
    }
}
