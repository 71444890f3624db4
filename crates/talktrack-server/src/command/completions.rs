//! `talktrack completions SHELL`: prints a script with which a shell completes commands and flags.

use std::process::ExitCode;

use clap_complete::Shell;

use super::Outcome;
use crate::output::{Output, Stop};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct CompletionsArgs {
    /// The shell; save the output where the shell looks for completions
    shell: Shell,
}

/// Prints the completion script for this command line.
pub(crate) fn run(args: &CompletionsArgs, mut command_line: clap::Command) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command_line, "talktrack", &mut script);
    let mut output = Output::stdout();
    let written = output.write_text(&String::from_utf8_lossy(&script)).and_then(|()| output.flush());
    written.map_or_else(Stop::into_outcome, |()| Ok(ExitCode::SUCCESS))
}
