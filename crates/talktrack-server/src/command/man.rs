//! `talktrack man DIR`: writes a manual page for each command, for packagers.

use std::path::PathBuf;
use std::process::ExitCode;

use super::Outcome;
use crate::error::Failure;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct ManArgs {
    /// The directory for the pages: talktrack.1, talktrack-serve.1 and so on
    dir: PathBuf,
}

/// Writes the pages.
pub(crate) fn run(args: &ManArgs, command_line: clap::Command) -> Outcome {
    let describe =
        |error: std::io::Error| Failure::new(format_args!("cannot write to {}: {error}", args.dir.display()));
    std::fs::create_dir_all(&args.dir).map_err(describe)?;
    clap_mangen::generate_to(command_line, &args.dir).map_err(describe)?;
    Ok(ExitCode::SUCCESS)
}
