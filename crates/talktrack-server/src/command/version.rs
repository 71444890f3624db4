//! `talktrack version`: shows which build this is.

use std::process::ExitCode;

use serde::Serialize;

use super::Outcome;
use crate::build_info;
use crate::output::print_summary;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct VersionArgs {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Build {
    version: &'static str,
    commit: Option<&'static str>,
    target: &'static str,
}

/// Prints the version, the commit and the platform of this program.
pub(crate) fn run(args: &VersionArgs) -> Outcome {
    let build =
        Build { version: build_info::VERSION, commit: build_info::commit(), target: build_info::TARGET };
    let describe = |_| {
        let commit = build.commit.unwrap_or("unknown");
        format!("talktrack {}\ncommit    {commit}\nplatform  {}", build.version, build.target)
    };
    print_summary(args.json, &build, describe, ExitCode::SUCCESS)
}
