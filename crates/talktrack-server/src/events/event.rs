//! An event as it is sent to listeners: a server-sent event as the HTML standard defines it.

use std::fmt::Write as _;

use axum::body::Bytes;
use serde::Serialize;
use serde_json::json;
use talktrack::clock::Seq;
use talktrack::store::SessionRow;
use talktrack::{ChangeKind, ErrorCode, SessionId, UserId};

/// A durable change, encoded once for all listeners.
#[derive(Debug)]
pub(crate) struct Event {
    /// The position of the event, which is also its id on the wire.
    pub(crate) seq: Seq,
    pub(crate) session_id: SessionId,
    pub(crate) owner: EventOwner,
    pub(crate) bytes: Bytes,
}

/// The user that the session of an event belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EventOwner {
    User(UserId),
    /// The session has no user, because another program wrote it. No user receives its events.
    Nobody,
    /// Only the store knows the user, and it has not answered.
    Unknown,
}

impl EventOwner {
    /// Returns the owner of a stored session.
    pub(super) fn of_session(row: &SessionRow) -> Self {
        row.user_id.clone().map_or(Self::Nobody, Self::User)
    }

    /// Returns the user, if there is one and it is known.
    pub(super) fn user(&self) -> Option<&UserId> {
        match self {
            Self::User(user_id) => Some(user_id),
            Self::Nobody | Self::Unknown => None,
        }
    }
}

impl Event {
    pub(super) fn new(
        seq: Seq,
        kind: ChangeKind,
        session_id: SessionId,
        owner: EventOwner,
        data: &impl Serialize,
    ) -> Self {
        let bytes = format_event(Some(seq), event_name(kind), data).into();
        Self { seq, session_id, owner, bytes }
    }

    /// Makes the event of a session. Not all listeners may read its parent session, so the event does not name that.
    pub(super) fn about_session(seq: Seq, kind: ChangeKind, owner: EventOwner, row: &SessionRow) -> Self {
        let mut shown = row.clone();
        shown.dimensions.parent_session_id = None;
        Self::new(seq, kind, row.session_id, owner, &shown)
    }

    #[cfg(test)]
    pub(super) fn empty(seq: Seq) -> Self {
        Self { seq, session_id: SessionId::nil(), owner: EventOwner::Unknown, bytes: Bytes::new() }
    }
}

/// Returns the name of the event on the wire.
fn event_name(kind: ChangeKind) -> &'static str {
    match kind {
        ChangeKind::SessionStarted => "session.started",
        ChangeKind::SessionUpdated => "session.updated",
        ChangeKind::SessionEnded => "session.ended",
        ChangeKind::SessionDeleted => "session.deleted",
        ChangeKind::Message | ChangeKind::Revision => "message",
        ChangeKind::MessagesDeleted => "messages.deleted",
    }
}

/// Encodes the last event of a stream, with the reason. The codes are those of the protocol.
pub(crate) fn closing_event(code: ErrorCode, message: &str) -> Bytes {
    format_event(None, "closing", &json!({"code": code, "message": message})).into()
}

/// Encodes an event that reports missing events between `after` and `place`.
pub(crate) fn gap_event(after: Seq, place: Seq) -> Bytes {
    let message =
        "events that came after this id are no longer kept; read what you need of them from the lists";
    format_event(Some(place), "gap", &json!({"last_event_id": after, "message": message})).into()
}

/// Encodes a heartbeat. If `place` is given, the heartbeat advances the client's last event id past events that were
/// not for it. No client reports a heartbeat as an event.
pub(crate) fn position_event(place: Option<Seq>) -> Bytes {
    place.map_or(Bytes::from_static(b":\n\n"), |place| format!("id: {place}\n\n").into())
}

fn format_event(id: Option<Seq>, name: &str, data: &impl Serialize) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    if let Some(id) = id {
        let _ = writeln!(text, "id: {id}");
    }
    // A JSON string contains no literal line breaks. Outside of strings, a space has the same meaning as a line break.
    let data = serde_json::to_string(data).unwrap_or_default().replace(['\n', '\r'], " ");
    let _ = write!(text, "event: {name}\ndata: {data}\n\n");
    text
}

#[cfg(test)]
mod tests {
    use talktrack::JsonObject;

    use super::*;

    #[test]
    fn data_are_one_line_whatever_is_in_them() {
        let metadata = JsonObject::parse("{\"a\":\n[1,\r\n2],\"b\":\"\\n\"}").unwrap();
        let text = format_event(Some(Seq::new(7)), "message", &metadata);
        let lines: Vec<_> = text.split('\n').collect();
        assert_eq!((lines.len(), lines[0], lines[1]), (5, "id: 7", "event: message"));
        let data = lines[2].strip_prefix("data: ").unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(data).unwrap(), json!({"a": [1, 2], "b": "\n"}));
    }

    #[test]
    fn a_mark_is_no_event() {
        assert_eq!(
            (position_event(Some(Seq::new(7))), position_event(None)),
            ("id: 7\n\n".into(), ":\n\n".into())
        );
    }
}
