//! `talktrack verify`: audits the books. Every message that was ever acknowledged must be stored, dead-lettered or
//! pending.

use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;
use talktrack::store::{Audit, Read as _};

use super::Outcome;
use crate::config::DataLocation;
use crate::error::Failure;
use crate::output::{Output, Stop};
use crate::store::{self, StoreReader};
use crate::terminal::{self, View};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct VerifyArgs {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    location: DataLocation,
}

/// Runs the command.
pub(crate) async fn run(args: VerifyArgs) -> Outcome {
    verify_store(args).await.map_or_else(Stop::into_outcome, Ok)
}

async fn verify_store(args: VerifyArgs) -> Result<ExitCode, Stop> {
    let audit = read_audit(&args.location).await?;
    let other_store = find_other_store(&args.location).await?;
    let file = args.location.load()?.local_file();
    let quarantines = talktrack::quarantines(&file);
    let losses = talktrack::known_losses(&file);
    let mut output = Output::stdout();
    let balanced = audit.problems.is_empty();
    let pending = count_pending(&audit);
    let report = VerifyReport { balanced, pending, losses, quarantines, other_store, audit: &audit };
    if args.json {
        output.write_json(&report)?;
    } else {
        output.write_line(&render_table(&report, View::for_stdout()))?;
        for problem in &audit.problems {
            output.write_line(&format!("✗ {}", terminal::escape_line(problem)))?;
        }
        for dir in &report.quarantines {
            let line = format!("! a damaged database is kept in {}; see its report.txt", dir.display());
            output.write_line(&terminal::escape_line(&line))?;
        }
        for loss in &report.losses {
            output.write_line(&format!("! {}", terminal::escape_line(loss)))?;
        }
        if let Some(problem) = &report.other_store {
            output.write_line(&format!("✗ {}", terminal::escape_line(problem)))?;
        }
        output.write_line(report.verdict())?;
    }
    output.flush()?;
    let is_right = report.balanced && report.other_store.is_none();
    Ok(if is_right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Returns the counts of the store. For a remote store, adds the books, the journal and the dead letters of the local
/// file.
async fn read_audit(location: &DataLocation) -> Result<Audit, Failure> {
    let config = location.load()?;
    let stored = StoreReader::open(&config)?;
    let audit = stored.rows().audit().await?;
    let file = config.local_file();
    if matches!(stored, StoreReader::File(_)) || !file.is_file() {
        return Ok(audit);
    }
    let local = store::open_file(&file)?.audit().await?;
    let problems = audit.problems.into_iter().chain(local.problems).collect();
    Ok(Audit { sessions: audit.sessions, messages: audit.messages, problems, ..local })
}

async fn find_other_store(location: &DataLocation) -> Result<Option<String>, Failure> {
    let config = location.load()?;
    match talktrack::read_noted_store(&config.local_file())? {
        Some(noted) => Ok(store::other_store(&config, &noted).await),
        None => Ok(None),
    }
}

#[derive(Serialize)]
struct VerifyReport<'a> {
    balanced: bool,
    pending: u64,
    /// What was lost with damaged databases. The books count only what is left.
    losses: Vec<String>,
    /// The directories of damaged databases. The books of the recovered data balance without them.
    quarantines: Vec<PathBuf>,
    /// How the settings name a store other than the one whose outbox the data directory is.
    #[serde(skip_serializing_if = "Option::is_none")]
    other_store: Option<String>,
    #[serde(flatten)]
    audit: &'a Audit,
}

impl VerifyReport<'_> {
    fn verdict(&self) -> &'static str {
        match (self.balanced, &self.other_store) {
            (false, _) => "✗ the books do not balance",
            (true, Some(_)) => {
                "✗ the rows of the store were not counted; the books of this directory balance"
            }
            (true, None) if !self.losses.is_empty() => {
                "✓ the books balance: nothing is missing beyond the losses above"
            }
            (true, None) => "✓ the books balance",
        }
    }
}

fn count_pending(audit: &Audit) -> u64 {
    audit.books.as_ref().map_or(audit.journal, talktrack::Books::pending)
}

fn render_table(report: &VerifyReport<'_>, view: View) -> String {
    let audit = report.audit;
    let mut table = terminal::new_table(view, &["what", ">count", "meaning"]);
    let mut row = |what: &str, count: u64, meaning: &str| {
        table.add_row([what.to_owned(), count.to_string(), meaning.to_owned()]);
    };
    if let Some(books) = &audit.books {
        row("durable", books.durable, "messages acknowledged");
        row("stored", books.stored, "of these: in the store, repetitions included");
        row("dead-lettered", books.dead_lettered, "of these: kept as dead letters, with the reason");
        if books.letters_taken_out > 0 {
            row("taken out", books.letters_taken_out, "of the dead letters: replayed or dropped since");
        }
    }
    row("pending", report.pending, "of these: waiting for the store");
    row("sessions", audit.sessions, "rows");
    row("messages", audit.messages, "rows");
    table.trim_fmt()
}
