//! Applies the records of a session that wait for a remote store to the session's row.

use talktrack::clock::Timestamp;
use talktrack::record::{Body, Record, SessionEnd, SessionStart, SessionUpdate};
use talktrack::store::SessionRow;
use talktrack::{Dimensions, JsonObject, Status, Stored, StoredTime};

/// Returns the row after the record, from what this node knows; `None` if the record cannot be applied to what is
/// known.
pub(crate) fn apply_record(record: &Record, known: Option<SessionRow>) -> Option<SessionRow> {
    Some(match (&record.body, known) {
        (Body::Start(start), None) => SessionRow::from_start(start, record.seq),
        (Body::Start(start), Some(row)) => apply_start(start, row),
        (Body::Update(update), Some(row)) => apply_update(update, row),
        (Body::End(end), Some(row)) => apply_end(end, row),
        (Body::End(end), None) => apply_end(end, from_its_end(end)?),
        _ => return None,
    })
}

fn apply_start(start: &SessionStart, row: SessionRow) -> SessionRow {
    let external_id = row.external_id.clone().or_else(|| start.external_id.clone());
    let added = start.metadata.as_ref();
    if !start.reopens {
        let metadata = merge_metadata(row.metadata.as_ref(), added, JsonObject::filled_in);
        let dimensions = start.dimensions.clone().replaced_by(row.dimensions);
        return SessionRow { dimensions, metadata, external_id, ..row };
    }
    SessionRow {
        status: Status::Active.into(),
        end_reason: None,
        ended_at: None,
        duration_seconds: None,
        metadata: merge_metadata(row.metadata.as_ref(), added, JsonObject::patched),
        dimensions: row.dimensions.replaced_by(start.dimensions.clone()),
        external_id,
        ..row
    }
}

fn apply_update(update: &SessionUpdate, row: SessionRow) -> SessionRow {
    let metadata = merge_metadata(row.metadata.as_ref(), Some(&update.metadata), JsonObject::patched);
    SessionRow { metadata, dimensions: row.dimensions.replaced_by(update.dimensions.clone()), ..row }
}

fn apply_end(end: &SessionEnd, row: SessionRow) -> SessionRow {
    let last = row.last_event_at.as_ref().and_then(StoredTime::known);
    let ended_at = match end.status {
        Status::Abandoned => last.unwrap_or(end.ended_at),
        _ => end.ended_at,
    };
    // The start may have moved down to a message that waits, too. The node that ended the session knows.
    let moved = end.session_started_at().map(StoredTime::Known).filter(|start| *start < row.started_at);
    let started_at = moved.unwrap_or(row.started_at);
    let lasted = started_at.known().map_or(0.0, |start| ended_at.max(start).seconds_since(start));
    let known = end.known.map_or(0, |known| i64::try_from(known.message_count).unwrap_or(i64::MAX));
    SessionRow {
        status: end.status.into(),
        started_at,
        end_reason: Some(end.reason.clone()),
        ended_at: Some(ended_at.into()),
        duration_seconds: Some(end.known.map_or(lasted, |known| known.duration_seconds)),
        message_count: known.max(row.message_count),
        ..row
    }
}

/// Makes the row of a session from its end, if nothing else is known. `None` if the end names no user.
#[expect(clippy::cast_possible_truncation, reason = "a duration in microseconds fits")]
fn from_its_end(end: &SessionEnd) -> Option<SessionRow> {
    let lasted = end.known.map_or(0.0, |known| known.duration_seconds);
    let started_at = Timestamp::from_micros(end.ended_at.as_micros() - (lasted * 1e6) as i64)?;
    Some(SessionRow {
        session_id: end.session_id,
        user_id: Some(end.owner.clone()?),
        external_id: None,
        status: end.status.into(),
        end_reason: None,
        started_at: started_at.into(),
        ended_at: None,
        duration_seconds: None,
        last_event_at: None,
        message_count: 0,
        dimensions: Dimensions::default(),
        metadata: None,
    })
}

fn merge_metadata(
    row: Option<&Stored<JsonObject>>,
    added: Option<&JsonObject>,
    merge: impl Fn(&JsonObject, &JsonObject) -> JsonObject,
) -> Option<Stored<JsonObject>> {
    let Some(added) = added else { return row.cloned() };
    Some(merge(&row.and_then(Stored::as_object).unwrap_or_default(), added).into())
}
