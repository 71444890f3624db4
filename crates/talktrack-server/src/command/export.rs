//! `talktrack export`: exports conversations as files. `talktrack import` and `talktrack client --file` read the JSONL
//! format.

use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;

use talktrack::UserId;
use talktrack::store::{MessageRow, Read, SessionFilter, SessionRow};

use super::Outcome;
use super::lookup::{self, HOW_TO_BEGIN};
use crate::audit::{self, Actor, Entry};
use crate::config::DataLocation;
use crate::error::Failure;
use crate::output::{Output, Stop};
use crate::store;
use crate::store::PAGE;
use crate::transcript::{TranscriptFormat, TranscriptWriter};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct ExportArgs {
    /// Only this session: its id, or at least the first 8 characters of it; may be given several times
    #[arg(long = "session", value_name = "ID")]
    sessions: Vec<String>,
    /// Only sessions of this user
    #[arg(long, value_name = "UUID")]
    user: Option<UserId>,
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The format; `talktrack import` reads jsonl
    #[arg(short, long, value_enum, default_value_t)]
    format: TranscriptFormat,
    /// The default: one JSON object per line
    #[arg(long, hide = true, conflicts_with = "format")]
    json: bool,
    #[command(flatten)]
    location: DataLocation,
}

/// Runs the command.
pub(crate) async fn run(args: ExportArgs) -> Outcome {
    export_sessions(args).await.map_or_else(Stop::into_outcome, |()| Ok(ExitCode::SUCCESS))
}

async fn export_sessions(args: ExportArgs) -> Result<(), Stop> {
    let config = args.location.load()?;
    // An export of the wrong store would be mistaken for a backup.
    store::refuse_other_store(&config).await?;
    let stored = lookup::open_store(&args.location)?;
    let data_dir = config.data_dir;
    let reader = stored.rows();
    let chosen = find_chosen(reader, &args).await?;
    if !args.format.holds_several() && chosen.len() != 1 {
        return Err(Failure::usage("this format holds one conversation: name it with --session ID").into());
    }
    let mut output = match &args.output {
        Some(path) => Output::to_writer(File::create(path).map_err(|error| cannot_write(path, &error))?),
        None => Output::stdout(),
    };
    let mut count = 0;
    let mut document = args.format.new_writer();
    if chosen.is_empty() && args.sessions.is_empty() {
        count = export_every_session(reader, &args, &mut *document, &mut output).await?;
    }
    for row in &chosen {
        export_session(reader, row, &mut *document, &mut output).await?;
        count += 1;
    }
    output.flush()?;
    let one = chosen.first().filter(|_| chosen.len() == 1).map(|row| row.session_id);
    let exported = Entry::new(Actor::of_this_process(), "export", None).session(one).user(args.user.clone());
    audit::record_command(&data_dir, &exported.count(u64::try_from(count).unwrap_or(u64::MAX)));
    if count == 0 {
        eprintln!("{}", if args.user.is_some() { "no such conversations" } else { HOW_TO_BEGIN });
    }
    Ok(())
}

fn cannot_write(path: &std::path::Path, error: &std::io::Error) -> Failure {
    Failure::new(format_args!("cannot write {}: {error}", path.display()))
}

/// Returns the sessions that were named by their ids.
async fn find_chosen(reader: &dyn Read, args: &ExportArgs) -> Result<Vec<SessionRow>, Failure> {
    let mut chosen: Vec<SessionRow> = Vec::new();
    for id in &args.sessions {
        let row = lookup::find_session(reader, id).await?;
        let wanted = args.user.is_none() || row.user_id == args.user;
        if wanted && chosen.iter().all(|other| other.session_id != row.session_id) {
            chosen.push(row);
        }
    }
    Ok(chosen)
}

/// Exports all sessions, newest first, one page at a time. Returns how many there were.
async fn export_every_session(
    reader: &dyn Read,
    args: &ExportArgs,
    document: &mut dyn TranscriptWriter,
    output: &mut Output,
) -> Result<usize, Stop> {
    let filter = SessionFilter::default().with_user_id(args.user.clone());
    let mut cursor = None;
    let mut count = 0;
    loop {
        let page = reader.sessions(filter.clone(), cursor, PAGE).await?;
        for row in &page {
            export_session(reader, row, document, output).await?;
        }
        cursor = page.last().map(SessionRow::cursor);
        count += page.len();
        if !page.more {
            return Ok(count);
        }
    }
}

async fn export_session(
    reader: &dyn Read,
    row: &SessionRow,
    document: &mut dyn TranscriptWriter,
    output: &mut Output,
) -> Result<(), Stop> {
    let mut cursor = None;
    let mut text = String::new();
    document.write_start(row, &mut text);
    loop {
        let page = reader.messages(row.session_id, cursor, PAGE).await?;
        page.iter().for_each(|message| document.write_if_final(message, &mut text));
        cursor = page.last().map(MessageRow::cursor);
        if !page.more {
            document.write_end(row, &mut text);
            return output.write_text(&text);
        }
        output.write_text(&text)?;
        text.clear();
    }
}
