//! `talktrack import F…`: imports JSONL conversations into the store, without a server.

pub(crate) mod importer;
mod handover;
pub(crate) mod tally;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use importer::Importer;
use talktrack::{OpenError, Tracker};

use super::Outcome;
use crate::config::{Config, DataLocation, Database};
use crate::error::Failure;
use crate::jsonl_file;
use crate::output;
use crate::store::{self, NotOpened};

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Importing a file again changes nothing: a message with neither id nor external_id gets an id that is derived \
    from its session and from its position among the session's messages in the file."
)]
pub(crate) struct ImportArgs {
    /// The JSONL files; - is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print the summary as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    location: DataLocation,
}

/// Runs the command.
pub(crate) async fn run(args: ImportArgs) -> Outcome {
    let began = Instant::now();
    let config = args.location.load()?;
    let counts_rows = matches!(config.database, Database::File(_));
    let mut importer = Importer::new(open_tracker(&config).await?, counts_rows);
    for path in &args.files {
        import_file(&mut importer, path).await?;
    }
    let tally = importer.finish().await?;
    let took = began.elapsed();
    let code = if tally.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    output::print_summary(args.json, &tally.summary(took), |_| tally.describe(took), code)
}

async fn open_tracker(config: &Config) -> Result<Tracker, Failure> {
    let mut options = config.options();
    // A session that the file leaves open must not end as idle: its messages may be further down in the file.
    options.idle_timeout = std::time::Duration::from_secs(100 * 365 * 86_400);
    store::open_tracker_for_command(config, options).await.map_err(|error| match error {
        NotOpened::Tracker(error @ OpenError::Locked { .. }) => Failure::new(format_args!(
            "{error}; to send the file to the running server, use `talktrack client --file F`"
        )),
        other => other.into(),
    })
}

async fn import_file(importer: &mut Importer, path: &Path) -> Result<(), Failure> {
    let mut lines = jsonl_file::open(path)?;
    importer.begin_file();
    while let Some(line) = lines.next_line()? {
        importer.import_line(&line).await?;
    }
    Ok(())
}
