//! Rows as CSV (RFC 4180) for spreadsheets: a header, commas, CRLF, quotes where they are needed, UTF-8.
//!
//! A spreadsheet runs a cell that begins with `=`, `+`, `-`, `@`, a tab or a carriage return as a formula. What someone said
//! must not do that, so such a cell gets an apostrophe before it. The cells of all columns are treated alike.

use std::borrow::Cow;

use talktrack::store::{MessageRow, SessionRow};
use talktrack::stored::AsWord;
use talktrack::{Stored, StoredTime};

/// The media type of CSV with a header.
pub(crate) const CONTENT_TYPE: &str = "text/csv; charset=utf-8; header=present";

const MESSAGE_COLUMNS: [&str; 19] = [
    "session_id",
    "id",
    "created_at",
    "role",
    "name",
    "kind",
    "status",
    "content",
    "interrupted",
    "content_generated",
    "user_id",
    "external_id",
    "audio_url",
    "seq",
    "revision",
    "parts",
    "metrics",
    "metadata",
    "extra",
];

const SESSION_COLUMNS: [&str; 17] = [
    "session_id",
    "user_id",
    "external_id",
    "status",
    "end_reason",
    "started_at",
    "ended_at",
    "duration_seconds",
    "last_event_at",
    "message_count",
    "agent",
    "agent_version",
    "channel",
    "environment",
    "parent_session_id",
    "tags",
    "metadata",
];

/// Appends the names of the columns of messages.
pub(crate) fn write_message_header(out: &mut String) {
    write_record(MESSAGE_COLUMNS.map(Cow::from), out);
}

/// Appends a message as one row.
pub(crate) fn write_message(row: &MessageRow, out: &mut String) {
    let record = [
        row.session_id.to_string().into(),
        row.id.to_string().into(),
        row.created_at.to_string().into(),
        row.role.as_str().into(),
        text(row.name.as_deref()),
        row.kind.as_str().into(),
        row.status.as_str().into(),
        row.content.as_str().into(),
        row.interrupted.to_string().into(),
        text(row.content_generated.as_deref()),
        shown(row.user_id.as_ref()),
        text(row.external_id.as_deref()),
        text(row.audio_url.as_deref()),
        shown(row.seq.as_ref()),
        row.revision.to_string().into(),
        json(row.parts.as_ref()),
        json(row.metrics.as_ref()),
        json(row.metadata.as_ref()),
        json(row.extra.as_ref()),
    ];
    write_record(record, out);
}

/// Appends the names of the columns of sessions.
pub(crate) fn write_session_header(out: &mut String) {
    write_record(SESSION_COLUMNS.map(Cow::from), out);
}

/// Appends a session as one row.
pub(crate) fn write_session(row: &SessionRow, out: &mut String) {
    let time = |time: Option<&StoredTime>| shown(time);
    let dimensions = &row.dimensions;
    let tags = dimensions.tags.as_ref().and_then(|tags| serde_json::to_string(tags).ok()).unwrap_or_default();
    let record = [
        row.session_id.to_string().into(),
        shown(row.user_id.as_ref()),
        text(row.external_id.as_deref()),
        row.status.as_str().into(),
        text(row.end_reason.as_deref()),
        row.started_at.to_string().into(),
        time(row.ended_at.as_ref()),
        shown(row.duration_seconds.as_ref()),
        time(row.last_event_at.as_ref()),
        row.message_count.to_string().into(),
        text(dimensions.agent.as_deref()),
        text(dimensions.agent_version.as_deref()),
        text(dimensions.channel.as_deref()),
        text(dimensions.environment.as_deref()),
        shown(dimensions.parent_session_id.as_ref()),
        tags.into(),
        json(row.metadata.as_ref()),
    ];
    write_record(record, out);
}

fn text(value: Option<&str>) -> Cow<'_, str> {
    value.unwrap_or_default().into()
}

fn shown<T: ToString>(value: Option<&T>) -> Cow<'static, str> {
    value.map(ToString::to_string).unwrap_or_default().into()
}

fn json<T: AsWord>(value: Option<&Stored<T>>) -> Cow<'_, str> {
    text(value.map(Stored::as_str))
}

fn write_record<const COLUMNS: usize>(cells: [Cow<'_, str>; COLUMNS], out: &mut String) {
    let cells = cells.map(guard);
    let bytes = cells.iter().map(|cell| cell.len() + 3).sum();
    let mut writer = csv::WriterBuilder::new()
        .terminator(csv::Terminator::CRLF)
        .buffer_capacity(bytes)
        .from_writer(Vec::with_capacity(bytes));
    // Writing to memory cannot fail, and quoting text leaves it valid UTF-8.
    let written = writer.write_record(cells.iter().map(|cell| cell.as_bytes()));
    debug_assert!(written.is_ok(), "{written:?}");
    let record = writer.into_inner().unwrap_or_default();
    out.push_str(&String::from_utf8_lossy(&record));
}

/// Puts an apostrophe before a cell that a spreadsheet would run as a formula.
fn guard(cell: Cow<'_, str>) -> Cow<'_, str> {
    if cell.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{cell}").into() } else { cell }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(cells: [&str; 3]) -> String {
        let mut out = String::new();
        write_record(cells.map(Cow::from), &mut out);
        out
    }

    #[test]
    fn a_cell_is_quoted_where_its_text_would_end_it() {
        assert_eq!(record(["a", "", "é b"]), "a,,é b\r\n");
        assert_eq!(record(["a,b", "say \"hi\"", "1\n2"]), "\"a,b\",\"say \"\"hi\"\"\",\"1\n2\"\r\n");
        assert_eq!(record(["a\rb", "", ""]), "\"a\rb\",,\r\n");
    }

    #[test]
    fn no_cell_begins_as_a_formula() {
        for formula in ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"] {
            let guarded = record([formula, "x", ""]);
            assert!(guarded.starts_with('\'') || guarded.starts_with("\"'"), "{guarded:?}");
        }
        assert_eq!(record(["1-1", " =1", "'x"]), "1-1, =1,'x\r\n");
    }
}
