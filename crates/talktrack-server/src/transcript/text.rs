//! Text for people: who said what and when, what was generated but never heard, and the text of tool calls.

use std::fmt::Write as _;

use talktrack::Kind;
use talktrack::store::{MessageRow, SessionRow};

use super::TranscriptWriter;
use crate::terminal;

#[derive(Default)]
pub(super) struct TextTranscript {
    /// True if a session has been written, so that the next one is separated from it.
    is_further: bool,
}

impl TranscriptWriter for TextTranscript {
    fn write_start(&mut self, session: &SessionRow, out: &mut String) {
        if std::mem::replace(&mut self.is_further, true) {
            out.push_str("\n\n");
        }
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(out, "session {}", session.session_id);
        let _ = writeln!(out, "user    {}", terminal::format_user(session.user_id.as_ref()));
        let _ = writeln!(out, "started {}", terminal::format_time(&session.started_at));
        if let Some(ended_at) = &session.ended_at {
            let reason = session.end_reason.as_deref().unwrap_or("reason unknown");
            let at = terminal::format_time(ended_at);
            let status = terminal::escape_line(session.status.as_str());
            let _ = writeln!(out, "ended   {at} ({status}: {})", terminal::escape_line(reason));
        }
        out.push('\n');
    }

    fn write_message(&mut self, row: &MessageRow, out: &mut String) {
        let kind = if row.kind == Kind::Message {
            String::new()
        } else {
            format!(" ({})", terminal::escape_line(row.kind.as_str()).replace('_', " "))
        };
        let role = terminal::escape_line(row.role.as_str());
        let name =
            row.name.as_ref().map_or_else(String::new, |name| format!(" {}", terminal::escape_line(name)));
        let _ = write!(out, "{}  {role}{name}{kind}:", terminal::format_time(&row.created_at));
        write_indented(&row.content, out);
        if row.interrupted {
            out.push_str("    [interrupted]\n");
        }
        if let Some(generated) = row.content_generated.as_deref().filter(|text| *text != row.content) {
            out.push_str("    [generated, not all of it heard]");
            write_indented(generated, out);
        }
    }

    fn write_end(&mut self, _: &SessionRow, _: &mut String) {}
}

/// Appends a text: its first line to the current line, further lines indented below.
fn write_indented(text: &str, out: &mut String) {
    for (number, line) in terminal::escape_text(text).lines().enumerate() {
        out.push_str(if number == 0 { " " } else { "    " });
        out.push_str(line);
        out.push('\n');
    }
    if text.is_empty() {
        out.push('\n');
    }
}
