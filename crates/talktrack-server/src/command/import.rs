//! `talktrack import F…`: imports JSONL conversations, through the running server or without one.

pub(crate) mod importer;
mod handover;
pub(crate) mod tally;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use importer::Importer;
use talktrack::{MessageId, OpenError, SessionId};
use talktrack_client::api::ApiClient;
use uuid::Uuid;

use super::Outcome;
use super::source::SourceArgs;
use crate::config::Database;
use crate::error::Failure;
use crate::jsonl_file;
use crate::output;
use crate::serve;
use crate::store::{self, NotOpened};

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "While a server uses the data directory, it takes what the files contain. \
    Importing a file again changes nothing: a message with neither id nor external_id gets an id that is derived \
    from its session and from its position among the session's messages in the file.")]
pub(crate) struct ImportArgs {
    /// The JSONL files; - is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print the summary as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    source: SourceArgs,
}

/// Returns the id of a message to which a file gives none. It follows from the session and from the position of the line
/// among the message lines of the session, from 1 on, so the same file gives the same ids again.
pub(super) fn imported_message_id(session_id: SessionId, place: u64) -> MessageId {
    Uuid::new_v5(&session_id.as_uuid(), format!("import:{place}").as_bytes()).into()
}

/// Runs the command.
pub(crate) async fn run(args: ImportArgs) -> Outcome {
    let began = Instant::now();
    let mut importer = open_importer(&args.source).await?;
    for path in &args.files {
        import_file(&mut importer, path).await?;
    }
    let tally = importer.finish().await?;
    let took = began.elapsed();
    let code = if tally.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    output::print_summary(args.json, &tally.summary(took), |_| tally.describe(took), code)
}

/// Opens the target: the server at a URL, the server that uses the data directory, or else the data directory.
async fn open_importer(source: &SourceArgs) -> Result<Importer, Failure> {
    if let Some(api) = source.server()? {
        return Ok(Importer::into_server(api));
    }
    let config = source.location().load()?;
    let mut options = config.options();
    // A session that the file leaves open must not end as idle: its messages may be further down in the file.
    options.idle_timeout = std::time::Duration::from_secs(100 * 365 * 86_400);
    match store::open_tracker_for_command(&config, options).await {
        Ok(tracker) => Ok(Importer::new(tracker, matches!(config.database, Database::File(_)))),
        Err(NotOpened::Tracker(locked @ OpenError::Locked { .. })) => {
            let Some(address) = serve::read_listen_address(&config.data_dir) else {
                return Err(locked.into());
            };
            let url = format!("http://{address}");
            eprintln!("a server uses this data directory; importing through it ({url})");
            Ok(Importer::into_server(ApiClient::new(&url, source.token().cloned())?))
        }
        Err(other) => Err(other.into()),
    }
}

async fn import_file(importer: &mut Importer, path: &Path) -> Result<(), Failure> {
    let mut lines = jsonl_file::open(path)?;
    importer.begin_file();
    while let Some(line) = lines.next_line()? {
        importer.import_line(&line).await?;
    }
    Ok(())
}
