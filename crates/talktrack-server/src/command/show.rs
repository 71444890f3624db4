//! `talktrack show ID`: shows one conversation as readable text.

use std::process::ExitCode;

use talktrack::store::{MessageRow, SessionRow};
use talktrack::{Kind, MessageStatus, Stored, counted};

use super::Outcome;
use super::lookup;
use super::source::SourceArgs;
use crate::output::{Output, Stop};
use crate::store::PAGE;
use crate::terminal::{self, View};

/// The column at which the text begins: after the time and the role, each followed by two spaces.
const INDENT: usize = 20 + 2 + 9 + 2;
/// The minimum width for the text next to the time and role. On a narrower terminal the text gets its own lines.
const ROOMY: usize = 72;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    /// The session's id, or at least the first 8 characters of it
    id: String,
    /// Print the rows of the session and of its messages, one JSON object per line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    source: SourceArgs,
}

/// Runs the command.
pub(crate) async fn run(args: ShowArgs) -> Outcome {
    show_session(args).await.map_or_else(Stop::into_outcome, |()| Ok(ExitCode::SUCCESS))
}

async fn show_session(args: ShowArgs) -> Result<(), Stop> {
    let source = args.source.open()?;
    let session = lookup::find_session(&source, &args.id).await?;
    let mut output = Output::stdout();
    let view = View::for_stdout();
    if args.json {
        output.write_json(&session)?;
    } else {
        print_head(&mut output, &session, view)?;
    }
    let mut cursor = None;
    loop {
        let page = source.messages(session.session_id, cursor, PAGE).await?;
        for row in page.iter().filter(|row| row.status != MessageStatus::Discarded) {
            if args.json { output.write_json(row) } else { print_message(&mut output, row, view) }?;
        }
        cursor = page.last().map(MessageRow::cursor);
        if !page.more {
            return output.flush();
        }
    }
}

fn print_head(output: &mut Output, session: &SessionRow, view: View) -> Result<(), Stop> {
    let ended = match (&session.ended_at, &session.end_reason) {
        (None, _) => "still active".to_owned(),
        (Some(at), reason) => {
            let reason = terminal::escape_line(reason.as_deref().unwrap_or("reason unknown"));
            format!(
                "{} {} ({reason})",
                terminal::escape_line(session.status.as_str()),
                terminal::format_time(at)
            )
        }
    };
    let length = session
        .duration_seconds
        .map_or_else(String::new, |seconds| format!(", {}", terminal::format_duration(seconds)));
    let messages = counted(session.message_count, "message");
    output.write_line(&format!("session {}", session.session_id))?;
    output.write_line(&format!("user    {}", terminal::format_user(session.user_id.as_ref())))?;
    output.write_line(&format!(
        "started {}, {ended}{length}, {messages}",
        terminal::format_time(&session.started_at)
    ))?;
    if let Some(name) = &session.external_id {
        output.write_line(&view.dim(&format!("external_id {}", terminal::escape_line(name))))?;
    }
    for (name, value) in session.dimensions.to_texts() {
        output.write_line(&view.dim(&format!("{name} {}", terminal::escape_line(&value))))?;
    }
    if let Some(metadata) = session.metadata.as_ref().filter(|metadata| metadata.as_str() != "{}") {
        output.write_line(&view.dim(&format!("metadata {}", terminal::escape_line(metadata.as_str()))))?;
    }
    output.write_line("")
}

/// Prints a message: time, role and text, then its other fields.
pub(super) fn print_message(output: &mut Output, row: &MessageRow, view: View) -> Result<(), Stop> {
    let front = format!(
        "{}  {:<9}",
        terminal::format_time(&row.created_at),
        terminal::escape_line(row.role.as_str())
    );
    let roomy = view.fits(ROOMY);
    let indent = if roomy { INDENT } else { 2 };
    let text = terminal::escape_text(row.content.trim_end_matches('\n'));
    let mut lines = view.wrap(&text, indent).into_iter();
    if roomy {
        let first = lines.next().unwrap_or_default();
        output.write_line(format!("{front}  {first}").trim_end())?;
    } else {
        output.write_line(front.trim_end())?;
    }
    for line in lines {
        output.write_line(&format!("{:indent$}{line}", ""))?;
    }
    for remark in list_remarks(row) {
        for line in view.wrap(&terminal::escape_line(&remark), indent) {
            output.write_line(&format!("{:indent$}{}", "", view.dim(&line)))?;
        }
    }
    Ok(())
}

/// Returns the other fields of a message that are set, one line each.
fn list_remarks(row: &MessageRow) -> Vec<String> {
    let mut marks = Vec::new();
    if row.kind != Kind::Message {
        marks.push(row.kind.as_str().to_owned());
    }
    if row.status != MessageStatus::Final {
        marks.push(row.status.as_str().replace('_', " "));
    }
    if row.interrupted {
        marks.push("interrupted".to_owned());
    }
    if row.revision != 0 {
        marks.push(format!("revision {}", row.revision));
    }
    let mut remarks = Vec::new();
    remarks.extend(row.name.as_ref().map(|name| format!("name: {name}")));
    if !marks.is_empty() {
        remarks.push(format!("[{}]", marks.join(", ")));
    }
    let mut add =
        |name: &str, value: Option<&str>| remarks.extend(value.map(|value| format!("{name}: {value}")));
    add("generated", row.content_generated.as_deref());
    add("audio", row.audio_url.as_deref());
    add("parts", row.parts.as_ref().map(Stored::as_str));
    add("metrics", row.metrics.as_ref().map(Stored::as_str));
    add("metadata", row.metadata.as_ref().map(Stored::as_str));
    remarks
}
