//! `talktrack export`: exports conversations as files. `talktrack import` and `talktrack client --file` read the JSONL
//! format.

use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;

use talktrack::UserId;
use talktrack::store::{MessageRow, SessionRow};

use super::Outcome;
use super::filter::FilterArgs;
use super::lookup::{self, HOW_TO_BEGIN};
use super::source::{SessionPages, Source, SourceArgs};
use crate::audit::{self, Actor, Entry};
use crate::config::Config;
use crate::error::Failure;
use crate::output::{Output, Stop};
use crate::store::PAGE;
use crate::transcript::{TranscriptFormat, TranscriptWriter};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct ExportArgs {
    /// Only this session: its id, or at least the first 8 characters of it; may be given several times
    #[arg(long = "session", value_name = "ID", conflicts_with_all = ["user", "since", "until", "words"])]
    sessions: Vec<String>,
    #[command(flatten)]
    filter: FilterArgs,
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
    source: SourceArgs,
}

/// Runs the command.
pub(crate) async fn run(args: ExportArgs) -> Outcome {
    export_sessions(args).await.map_or_else(Stop::into_outcome, |()| Ok(ExitCode::SUCCESS))
}

async fn export_sessions(args: ExportArgs) -> Result<(), Stop> {
    // An export of the wrong store would be mistaken for a backup.
    let source = args.source.open_right_store().await?;
    let chosen = find_chosen(&source, &args).await?;
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
        count = export_every_session(&source, &args, &mut *document, &mut output).await?;
    }
    for row in &chosen {
        export_session(&source, row, &mut *document, &mut output).await?;
        count += 1;
    }
    output.flush()?;
    if let Source::Store(config, _) = &source {
        record_export(config, &chosen, args.filter.user.as_ref(), count);
    }
    if count == 0 {
        eprintln!("{}", if args.filter.is_empty() { HOW_TO_BEGIN } else { "no such conversations" });
    }
    Ok(())
}

/// Adds the export to the audit log of the data directory. A server has its own.
fn record_export(config: &Config, chosen: &[SessionRow], user: Option<&UserId>, count: usize) {
    let one = chosen.first().filter(|_| chosen.len() == 1).map(|row| row.session_id);
    let exported = Entry::new(Actor::of_this_process(), "export", None).session(one).user(user.cloned());
    audit::record_command(&config.data_dir, &exported.count(u64::try_from(count).unwrap_or(u64::MAX)));
}

fn cannot_write(path: &std::path::Path, error: &std::io::Error) -> Failure {
    Failure::new(format_args!("cannot write {}: {error}", path.display()))
}

/// Returns the sessions that were named by their ids.
async fn find_chosen(source: &Source, args: &ExportArgs) -> Result<Vec<SessionRow>, Failure> {
    let mut chosen: Vec<SessionRow> = Vec::new();
    for id in &args.sessions {
        let row = lookup::find_session(source, id).await?;
        if chosen.iter().all(|other| other.session_id != row.session_id) {
            chosen.push(row);
        }
    }
    Ok(chosen)
}

/// Exports all sessions that the filter selects, newest first, one page at a time. Returns how many there were.
async fn export_every_session(
    source: &Source,
    args: &ExportArgs,
    document: &mut dyn TranscriptWriter,
    output: &mut Output,
) -> Result<usize, Stop> {
    let filter = args.filter.with_status(None);
    let mut pages = SessionPages::new(source, &filter, usize::MAX);
    let mut count = 0;
    while let Some(page) = pages.next().await? {
        for row in &page {
            export_session(source, row, document, output).await?;
        }
        count += page.len();
    }
    Ok(count)
}

async fn export_session(
    source: &Source,
    row: &SessionRow,
    document: &mut dyn TranscriptWriter,
    output: &mut Output,
) -> Result<(), Stop> {
    let mut cursor = None;
    let mut text = String::new();
    document.write_start(row, &mut text);
    loop {
        let page = source.messages(row.session_id, cursor, PAGE).await?;
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
