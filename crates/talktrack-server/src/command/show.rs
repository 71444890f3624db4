//! `talktrack show ID`: shows one conversation as readable text.

use std::process::ExitCode;

use talktrack::store::{MessageRow, SessionRow};
use talktrack::{Kind, Stored};

use super::Outcome;
use super::looking;
use crate::config::DataLocation;
use crate::output::{Output, Stop};
use crate::store::PAGE;
use crate::table::{self, View};

/// The column at which the text begins: after the time and the role, each followed by two spaces.
const INDENT: usize = 20 + 2 + 9 + 2;
/// The minimum width for the text next to the time and role. On a narrower terminal the text gets its own lines.
const ROOMY: usize = 72;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    /// The session's id, or its first characters (at least 8)
    id: String,
    /// For programs: the session's row, then its messages', one JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    location: DataLocation,
}

/// Runs the command.
pub(crate) async fn run(args: ShowArgs) -> Outcome {
    show(args).await.map_or_else(Stop::outcome, |()| Ok(ExitCode::SUCCESS))
}

async fn show(args: ShowArgs) -> Result<(), Stop> {
    let stored = looking::open(&args.location)?;
    let reader = stored.rows();
    let session = looking::find_session(reader, &args.id).await?;
    let (mut output, view) = (Output::stdout(), View::of_stdout());
    if args.json {
        output.json(&session)?;
    } else {
        head(&mut output, &session, view)?;
    }
    let mut cursor = None;
    loop {
        let page = reader.messages(session.session_id, cursor, PAGE).await?;
        for row in &page {
            if args.json { output.json(row) } else { message(&mut output, row, view) }?;
        }
        cursor = page.last().map(MessageRow::cursor);
        if !page.more {
            return output.flush();
        }
    }
}

fn head(output: &mut Output, session: &SessionRow, view: View) -> Result<(), Stop> {
    let ended = match (&session.ended_at, &session.end_reason) {
        (None, _) => "goes on".to_owned(),
        (Some(at), reason) => {
            let reason = table::safe_line(reason.as_deref().unwrap_or("for no known reason"));
            format!("{} {} ({reason})", table::safe_line(session.status.as_str()), table::moment(at))
        }
    };
    let length = session
        .duration_seconds
        .map_or_else(String::new, |seconds| format!(", {}", table::duration(seconds)));
    let messages = match session.message_count {
        1 => "1 message".to_owned(),
        count => format!("{count} messages"),
    };
    output.line(&format!("session {}", session.session_id))?;
    output.line(&format!("user    {}", table::user(session.user_id)))?;
    output.line(&format!("started {}, {ended}{length}, {messages}", table::moment(&session.started_at)))?;
    if let Some(name) = &session.external_id {
        output.line(&view.dim(&format!("external_id {}", table::safe_line(name))))?;
    }
    if let Some(metadata) = session.metadata.as_ref().filter(|metadata| metadata.as_str() != "{}") {
        output.line(&view.dim(&format!("metadata {}", table::safe_line(metadata.as_str()))))?;
    }
    output.line("")
}

/// Prints a message: time, role and text, then its other fields.
pub(super) fn message(output: &mut Output, row: &MessageRow, view: View) -> Result<(), Stop> {
    let front = format!("{}  {:<9}", table::moment(&row.created_at), table::safe_line(row.role.as_str()));
    let roomy = view.fits(ROOMY);
    let indent = if roomy { INDENT } else { 2 };
    let text = table::safe(row.content.trim_end_matches('\n'));
    let mut lines = view.wrap(&text, indent).into_iter();
    if roomy {
        let first = lines.next().unwrap_or_default();
        output.line(format!("{front}  {first}").trim_end())?;
    } else {
        output.line(front.trim_end())?;
    }
    for line in lines {
        output.line(&format!("{:indent$}{line}", ""))?;
    }
    for remark in remarks(row) {
        for line in view.wrap(&table::safe_line(&remark), indent) {
            output.line(&format!("{:indent$}{}", "", view.dim(&line)))?;
        }
    }
    Ok(())
}

/// Returns the other fields of a message that are set, one line each.
fn remarks(row: &MessageRow) -> Vec<String> {
    let mut marks = Vec::new();
    if row.kind != Kind::Message {
        marks.push(row.kind.as_str().to_owned());
    }
    if row.interrupted {
        marks.push("interrupted".to_owned());
    }
    if row.revision != 0 {
        marks.push(format!("revision {}", row.revision));
    }
    let mut remarks = Vec::new();
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
