//! The talktrack server and command line. The modules are listed in the order in which a message meets them; each imports
//! only modules listed after it.
//!
//! All of the program `talktrack` is in here, so that its tests and fuzz targets reach it. It is no library for others: that
//! is the crate `talktrack`.

#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;

mod cli;
mod command;
mod serve;
mod router;
mod guard;
mod socket;
mod dashboard;
mod api;
mod transcript;
mod jsonl;
mod wire;
mod schema;
mod letters;
mod retention;
mod deletion;
mod output;
mod table;

// The words that all of them are written in.
mod state;
mod events;
mod auth;
mod limits;
mod origin;
mod audio;
mod tls;
mod store;
mod telemetry;
mod config;
mod error;

use std::process::ExitCode;

/// The program: does what the arguments say.
pub fn main() -> ExitCode {
    cli::main()
}
