//! Decides what a record changes in the row of its session: starts, updates, ends and reopens.

use rusqlite::Transaction;
use talktrack_core::clock::{Seq, Timestamp};
use talktrack_core::dimensions::Dimensions;
use talktrack_core::ids::SessionId;
use talktrack_core::json::{JsonObject, MAX_SESSION_METADATA};
use talktrack_core::record::{
    Attempt, Ended, Record, Reopened, SessionEnd, SessionStart, SessionUpdate, Status,
};
use talktrack_core::stored::{Stored, StoredTime};

use crate::local::tables::sessions::{self, read};
use crate::local::tables::{closed_messages, messages, moved_starts};
use crate::store::SessionRow;
use crate::store::conflict::{Ending, Rule, SessionEndState};

/// Applies a start to a stored session: the session continues, unless the start comes late.
///
/// Changes nothing if the metadata would become too long.
pub(super) fn start_again(
    tx: &Transaction<'_>,
    meta: RecordMeta,
    start: &SessionStart,
) -> rusqlite::Result<RowChange> {
    let Some(rule) = find_rule(tx, start.session_id, meta)? else { return Ok(RowChange::Applied) };
    let rule = rule.for_start(start);
    let Some(session) = read::read_session(tx, start.session_id)? else { return Ok(RowChange::Applied) };
    let added = start.metadata.as_ref();
    let merged = added.map_or(Ok(None), |added| merged_metadata(rule, session.metadata.as_ref(), added));
    let Ok(merged) = merged else { return Ok(RowChange::MetadataTooLong) };
    // If the time of the stored end is invalid, the time of this start stands in for it.
    let ended_at = session.ended_at.map(|at| at.known().unwrap_or(start.started_at));
    if ended_at.is_some_and(|ended_at| rule.reopens(meta.seq, ended_at)) {
        sessions::remove_end(tx, start.session_id)?;
    }
    if rule != Rule::Ignore {
        sessions::apply_start(tx, start)?;
    }
    merge_dimensions(tx, rule, session.session_id, session.dimensions, &start.dimensions)?;
    note_applied(tx, rule, start.session_id, meta.seq)?;
    if let Some(merged) = merged {
        sessions::write_metadata(tx, start.session_id, &merged)?;
    }
    Ok(RowChange::Applied)
}

/// Reopens the session for a new message if its end was inferred and lies before this moment. Returns what
/// is known of the reopened session.
pub(super) fn cancel_inferred_end(
    tx: &Transaction<'_>,
    session_id: SessionId,
    before: Timestamp,
) -> rusqlite::Result<Option<Reopened>> {
    let reopened = sessions::read_inferred_end_before(tx, session_id, before)?;
    if reopened.is_some() {
        sessions::remove_end(tx, session_id)?;
    }
    Ok(reopened)
}

/// When a record was accepted, and whether the store may have seen it before.
#[derive(Clone, Copy)]
pub(super) struct RecordMeta {
    pub(super) seq: Seq,
    pub(super) attempt: Attempt,
}

impl RecordMeta {
    pub(super) fn new(record: &Record) -> Self {
        Self { seq: record.seq, attempt: record.attempt }
    }
}

/// Returns how much of a record applies to the session's row, or `None` if there is no row.
fn find_rule(
    tx: &Transaction<'_>,
    session_id: SessionId,
    meta: RecordMeta,
) -> rusqlite::Result<Option<Rule>> {
    let last = sessions::read_last_applied(tx, session_id)?;
    Ok(last.map(|last| Rule::for_record(last.record, last.this_node, meta.seq, meta.attempt)))
}

/// Makes this record the last that was applied to the row, if its rule says so.
fn note_applied(tx: &Transaction<'_>, rule: Rule, session_id: SessionId, seq: Seq) -> rusqlite::Result<()> {
    if rule.is_applied() { sessions::set_last_applied(tx, session_id, seq) } else { Ok(()) }
}

/// Changes the metadata and the dimensions of a session, to the extent that the update applies.
///
/// Changes nothing if the metadata would become too long.
pub(super) fn update_session(
    tx: &Transaction<'_>,
    meta: RecordMeta,
    update: &SessionUpdate,
) -> rusqlite::Result<RowChange> {
    let session_id = update.session_id;
    let Some(rule) = find_rule(tx, session_id, meta)? else { return Ok(RowChange::Applied) };
    let Some(session) = read::read_session(tx, session_id)? else { return Ok(RowChange::Applied) };
    match merged_metadata(rule, session.metadata.as_ref(), &update.metadata) {
        Err(MetadataTooLong) => return Ok(RowChange::MetadataTooLong),
        Ok(Some(merged)) => sessions::write_metadata(tx, session_id, &merged)?,
        Ok(None) => {}
    }
    merge_dimensions(tx, rule, session_id, session.dimensions, &update.dimensions)?;
    note_applied(tx, rule, session_id, meta.seq)?;
    Ok(RowChange::Applied)
}

/// Changes the dimensions of a session, as far as the rule allows.
fn merge_dimensions(
    tx: &Transaction<'_>,
    rule: Rule,
    session_id: SessionId,
    stored: Dimensions,
    added: &Dimensions,
) -> rusqlite::Result<()> {
    if added.is_empty() {
        return Ok(());
    }
    sessions::write_dimensions(tx, session_id, &rule.merge_dimensions(stored, added))
}

/// What became of a change to a session's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum RowChange {
    /// The row has the change, to the extent that it applies.
    Applied,
    /// The metadata of the session would exceed the limit. The row is unchanged.
    MetadataTooLong,
}

/// The metadata of a session would exceed the limit.
#[derive(Debug, Clone, Copy)]
struct MetadataTooLong;

fn merged_metadata(
    rule: Rule,
    stored: Option<&Stored<JsonObject>>,
    added: &JsonObject,
) -> Result<Option<JsonObject>, MetadataTooLong> {
    rule.merge_metadata(stored, added, MAX_SESSION_METADATA).map_err(|_| MetadataTooLong)
}

/// Closes the session and returns its figures, or `None` if it does not exist. An existing end is kept,
/// unless it was inferred and this one was sent by a client. No other node writes to this file and could
/// have continued the session, so only a replayed end may come late.
pub(super) fn end_session(
    tx: &Transaction<'_>,
    meta: RecordMeta,
    end: &SessionEnd,
) -> rusqlite::Result<Option<Ended>> {
    let Some(session) = read::read_session(tx, end.session_id)? else { return Ok(None) };
    let Some(rule) = find_rule(tx, end.session_id, meta)? else { return Ok(None) };
    let row = SessionEndState {
        is_ended: session.ended_at.is_some(),
        is_inferred: sessions::is_end_inferred(tx, end.session_id)?,
        last_event_at: known_time(session.last_event_at.as_ref()).filter(|_| !rule.is_applied()),
    };
    let message_count = session.message_count.max(0).unsigned_abs();
    if Ending::decide(rule, end, meta.seq, row) != Ending::Closes {
        return Ok(Some(Ended { duration_seconds: session.duration_seconds.unwrap_or(0.0), message_count }));
    }
    note_applied(tx, rule, end.session_id, meta.seq)?;
    let duration_seconds = write_end(tx, meta.seq, &session, end)?;
    let message_count = message_count + close_messages(tx, meta.seq, end.session_id)?;
    Ok(Some(Ended { duration_seconds, message_count }))
}

/// Makes the messages of an ended session final that are in progress, and counts them. Returns their number.
pub(super) fn close_messages(tx: &Transaction<'_>, seq: Seq, session_id: SessionId) -> rusqlite::Result<u64> {
    let closed = messages::close_in_progress(tx, session_id)?;
    if closed.is_empty() {
        return Ok(0);
    }
    closed_messages::note(tx, seq, &closed)?;
    let count = i64::try_from(closed.len()).unwrap_or(i64::MAX);
    sessions::add_messages(tx, session_id, count, None, None)?;
    Ok(count.unsigned_abs())
}

fn known_time(time: Option<&StoredTime>) -> Option<Timestamp> {
    time.and_then(StoredTime::known)
}

/// Moves the start of the session down to an event at this time, as far as it may.
pub(super) fn move_start_down(
    tx: &Transaction<'_>,
    seq: Seq,
    session_id: SessionId,
    event: Timestamp,
) -> rusqlite::Result<()> {
    let Some((start, extra)) = sessions::read_start(tx, session_id)? else { return Ok(()) };
    let Some(moved) = start.moved_down_to(event) else { return Ok(()) };
    let session = read::read_session(tx, session_id)?;
    let ended_at = session.and_then(|session| known_time(session.ended_at.as_ref()));
    let duration = ended_at.map(|ended_at| ended_at.max(moved.at()).seconds_since(moved.at()));
    sessions::write_start(tx, session_id, moved, extra, duration)?;
    moved_starts::note(tx, seq, start.at(), moved.at())
}

/// Writes the end to the row. Returns the duration of the session in seconds.
fn write_end(
    tx: &Transaction<'_>,
    seq: Seq,
    session: &SessionRow,
    end: &SessionEnd,
) -> rusqlite::Result<f64> {
    if end.status != Status::Abandoned {
        move_start_down(tx, seq, session.session_id, end.ended_at)?;
    }
    let started_at = sessions::read_start(tx, session.session_id)?.map(|(start, _)| start.at());
    // The true end of an abandoned session is unknown; its last event is the last known sign of it.
    let ended_at = match end.status {
        Status::Abandoned => {
            known_time(session.last_event_at.as_ref()).or(started_at).unwrap_or(end.ended_at)
        }
        _ => end.ended_at,
    };
    // A session with an invalid start has no duration.
    let duration_seconds = started_at.map_or(0.0, |start| ended_at.max(start).seconds_since(start));
    sessions::write_end(tx, end, ended_at, duration_seconds)?;
    Ok(duration_seconds)
}

/// Ends all open sessions after a crash: each becomes abandoned, as of its last event. Returns each with the place of its change
/// in the feed; the first place is `first`.
pub(crate) fn abandon_open_sessions(
    tx: &Transaction<'_>,
    first: Seq,
) -> rusqlite::Result<Vec<(Seq, SessionId)>> {
    let seqs = std::iter::successors(Some(first), |seq| Some(seq.next()));
    let open: Vec<_> = seqs.zip(read::read_active(tx)?).collect();
    for (seq, session_id) in &open {
        if let Some(session) = read::read_session(tx, *session_id)? {
            // Another program wrote a start that is not a valid time. Without one the session gets no end.
            let Some(started_at) = session.started_at.known() else { continue };
            write_end(tx, *seq, &session, &SessionEnd::abandoned(*session_id, "error", started_at))?;
            close_messages(tx, *seq, *session_id)?;
        }
    }
    Ok(open)
}
