//! The talktrack server and command line. The modules are listed in the order in which a message meets them; each imports
//! only modules listed after it.

mod cli;
mod command;
mod serve;
mod router;
mod socket;
mod jsonl;
mod wire;
mod api;
mod letters;
mod output;
mod table;

// The words that all of them are written in.
mod state;
mod store;
mod telemetry;
mod config;
mod error;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
