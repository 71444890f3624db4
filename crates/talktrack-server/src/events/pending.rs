//! Events for records that are durable but not yet in a remote store. They are made from the records themselves,
//! because the store may be unavailable.

use std::collections::HashMap;

use parking_lot::Mutex;
use talktrack::record::{Body, Record};
use talktrack::store::sqlite::JournalRecord;
use talktrack::store::{MessageRow, SessionRow};
use talktrack::{ChangeKind, ReadError, SessionId, UserId};

use super::event::{Event, EventOwner};
use crate::pending_session;

/// The maximum size of the cached sessions in bytes. When it is exceeded, the cache is cleared and sessions are read
/// from the store again.
const REMEMBERED_BYTES: usize = 8 << 20;

/// Sessions as the waiting records make them. A start describes the whole session; later records add to it.
#[derive(Default)]
pub(super) struct Pending(Mutex<PendingRows>);

/// A session as claimed by one user. If two users claim a session, there are two rows until the store decides whose it
/// is.
type Claim = (SessionId, UserId);

#[derive(Default)]
struct PendingRows {
    rows: HashMap<Claim, SessionRow>,
    bytes: usize,
}

impl Pending {
    /// True if the event for this record may need the session's row from the store.
    pub(super) fn needs_session(&self, record: &Record) -> bool {
        match &record.body {
            Body::Message(stamped) => stamped.owner.is_none(),
            Body::Start(start) if !start.resumed => false,
            Body::Start(_) | Body::Update(_) | Body::End(_) => claimed_by(record)
                .is_none_or(|user| !self.0.lock().rows.contains_key(&(record.session_id(), user))),
            Body::Heartbeat(_) | Body::EditMessages(_) | Body::Delete(_) | Body::DeleteUser(_) => false,
        }
    }

    /// Makes the event for a record of a session. `stored` is the session's row in the store, and `remembered` what the
    /// tracker knows of it. Returns `None` if the record makes no event.
    ///
    /// # Errors
    /// Fails if only the store knows the session. The store may answer a moment later.
    pub(super) fn session_event(
        &self,
        kind: ChangeKind,
        record: &Record,
        stored: Option<&SessionRow>,
        remembered: Option<SessionRow>,
    ) -> Result<Option<Event>, ReadError> {
        let seq = record.seq;
        let session_id = record.session_id();
        if matches!(
            record.body,
            Body::Heartbeat(_)
                | Body::Message(_)
                | Body::EditMessages(_)
                | Body::Delete(_)
                | Body::DeleteUser(_)
        ) {
            return Ok(None);
        }
        let user = claimed_by(record).or(stored.and_then(|row| row.user_id.clone()));
        let user =
            user.or(remembered.as_ref().and_then(|row| row.user_id.clone())).ok_or_else(unknown_owner)?;
        // The session is another user's: the store will refuse the record.
        if stored.is_some_and(|row| row.user_id.as_ref() != Some(&user)) {
            return Ok(None);
        }
        let mut rows = self.0.lock();
        let known = rows.rows.get(&(session_id, user.clone())).or(stored).cloned();
        let remembered = remembered.filter(|row| row.user_id.as_ref() == Some(&user));
        let known = known.or_else(|| remembered.clone());
        let mut row = pending_session::apply_record(record, known).ok_or_else(unknown_owner)?;
        if let Some(remembered) = remembered {
            row.message_count = row.message_count.max(remembered.message_count);
            row.last_event_at = row.last_event_at.take().max(remembered.last_event_at);
        }
        rows.insert((session_id, user.clone()), row.clone());
        Ok(Some(Event::about_session(seq, kind, EventOwner::User(user), &row)))
    }

    /// Removes a session from the cache, because the store now has its records and knows more.
    pub(super) fn forget_session(&self, session_id: SessionId) {
        let mut rows = self.0.lock();
        let claims: Vec<Claim> = rows.rows.keys().filter(|claim| claim.0 == session_id).cloned().collect();
        claims.iter().for_each(|claim| rows.remove(claim));
    }
}

/// Returns the user whose claim a session record belongs to, if the record names one.
fn claimed_by(record: &Record) -> Option<UserId> {
    match &record.body {
        Body::Start(start) => Some(start.user_id.clone()),
        Body::Update(update) => update.owner.clone(),
        Body::End(end) => end.owner.clone(),
        Body::Heartbeat(_)
        | Body::Message(_)
        | Body::EditMessages(_)
        | Body::Delete(_)
        | Body::DeleteUser(_) => None,
    }
}

/// The error for a session whose user only the store knows. The store may answer a moment later.
fn unknown_owner() -> ReadError {
    ReadError::unavailable("only the store knows the user of the session")
}

impl PendingRows {
    fn insert(&mut self, claim: Claim, row: SessionRow) {
        self.remove(&claim);
        if self.bytes > REMEMBERED_BYTES {
            *self = Self::default();
        }
        self.bytes += row_bytes(&row);
        self.rows.insert(claim, row);
    }

    fn remove(&mut self, claim: &Claim) {
        self.bytes -= self.rows.remove(claim).map_or(0, |row| row_bytes(&row));
    }
}

fn row_bytes(row: &SessionRow) -> usize {
    let words = [&row.external_id, &row.end_reason].into_iter().flatten().map(String::len);
    size_of::<SessionRow>()
        + words.sum::<usize>()
        + row.metadata.as_ref().map_or(0, |json| json.as_str().len())
}

/// Makes the event for a waiting message. `stored` is the message that it revises, and `session` the row of its
/// session, if the store was asked for them.
pub(super) fn message_event(
    kind: ChangeKind,
    waiting: &JournalRecord,
    stored: Option<&MessageRow>,
    session: Option<&SessionRow>,
) -> Option<Event> {
    let record = &waiting.record;
    let owner = match record.message()?.owner.clone() {
        Some(user_id) => EventOwner::User(user_id),
        None => session.map_or(EventOwner::Unknown, EventOwner::of_session),
    };
    let mut row = waiting.message_row(owner.user())?;
    if let Some(stored) = stored.filter(|stored| stored.session_id == row.session_id) {
        (row.created_at, row.seq) = (stored.created_at.clone(), stored.seq);
    }
    Some(Event::new(record.seq, kind, row.session_id, owner, &row))
}

#[cfg(test)]
mod tests {
    use talktrack::clock::Timestamp;
    use talktrack::record::{SessionEnd, SessionStart, SessionUpdate};
    use talktrack::{Dimensions, JsonObject, Status, Stored};

    use super::*;
    use talktrack::clock::Seq;

    const SESSION: SessionId = SessionId::from_u128(1);
    const USER: UserId = UserId::from_u128(2);

    fn object(text: &str) -> JsonObject {
        JsonObject::parse(text).unwrap()
    }

    fn start(user_id: UserId) -> Record {
        let started_at = Timestamp::from_micros(1_000_000).unwrap();
        let external_id = Some("call 7".into());
        let metadata = Some(object(r#"{"a":1}"#));
        let session_id = SESSION;
        let start = SessionStart {
            session_id,
            user_id,
            external_id,
            metadata,
            dimensions: Dimensions::default(),
            started_at,
            has_given_start: true,
            resumed: false,
            reopens: false,
        };
        Record::new(Seq::new(1_000_000), Body::Start(start))
    }

    fn update(owner: UserId) -> Record {
        let session_id = SESSION;
        let metadata = object(r#"{"b":2}"#);
        let dimensions = Dimensions::default();
        let owner = Some(owner);
        Record::new(
            Seq::new(2_000_000),
            Body::Update(SessionUpdate { session_id, metadata, dimensions, owner, session_started_at: None }),
        )
    }

    fn told(pending: &Pending, record: &Record, stored: Option<&SessionRow>) -> Option<serde_json::Value> {
        let event = pending.session_event(ChangeKind::SessionUpdated, record, stored, None).ok()??;
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
        let status = Status::Ended;
        let reason = "completed".to_owned();
        let known = None;
        let session_id = SESSION;
        let seen_until = None;
        let owner = Some(USER);
        let end = SessionEnd { session_id, status, reason, ended_at, known, seen_until, owner };
        let row = told(&pending, &Record::new(Seq::new(4_000_000), Body::End(end)), None).unwrap();
        assert_eq!(
            (&row["status"], &row["external_id"], &row["duration_seconds"]),
            (&"ended".into(), &"call 7".into(), &2.5.into())
        );
    }

    #[test]
    fn two_claims_to_a_session_are_told_apart_and_the_stored_user_wins() {
        let pending = Pending::default();
        let other = UserId::from_u128(3);
        told(&pending, &start(other.clone()), None).unwrap();
        told(&pending, &start(USER), None).unwrap();
        let row = told(&pending, &update(USER), None).unwrap();
        assert_eq!((&row["user_id"], &row["metadata"]["b"]), (&USER.to_string().into(), &2.into()));
        let Body::Start(begun) = start(USER).body else { unreachable!() };
        let stored = SessionRow::from_start(&begun, Seq::new(1));
        assert_eq!(told(&pending, &update(other.clone()), Some(&stored)), None, "the store will refuse it");
        assert_eq!(told(&pending, &update(USER), Some(&stored)).unwrap()["user_id"], USER.to_string());
        pending.forget_session(SESSION);
        assert!(pending.needs_session(&update(USER)) && pending.needs_session(&update(other)));
    }

    #[test]
    fn what_is_remembered_has_a_bound() {
        let mut rows = PendingRows::default();
        let Body::Start(begun) = start(USER).body else { unreachable!() };
        let metadata = Some(Stored::Known(object(&format!(r#"{{"a":"{}"}}"#, "x".repeat(1 << 20)))));
        for number in 0..50 {
            let row = SessionRow {
                session_id: SessionId::from_u128(number),
                ..SessionRow::from_start(&begun, Seq::new(1))
            };
            let claim = (row.session_id, USER);
            rows.insert(claim, SessionRow { metadata: metadata.clone(), ..row });
            assert!(rows.bytes <= REMEMBERED_BYTES + (2 << 20));
        }
        assert!(!rows.rows.is_empty());
        (0..50).for_each(|number| rows.remove(&(SessionId::from_u128(number), USER)));
        assert_eq!(rows.bytes, 0);
    }
}
