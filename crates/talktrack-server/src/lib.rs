//! The server and the command line of talktrack. The modules are listed in the order in which a message passes through
//! them. Each module imports only modules that are listed after it.
//!
//! This crate contains the whole program `talktrack`, so that its tests and fuzz targets can reach all of it. It is not
//! a library for other programs: that is the crate `talktrack`.

#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;

mod cli;
mod command;
mod serve;
mod router;
mod trail;
mod middleware;
mod socket;
mod dashboard;
mod api;
mod metered;
mod transcript;
mod csv_table;
mod schema;
mod control;
mod dead_letters;
mod retention;
mod letter_quota;
mod deletion;
mod jsonl_file;
mod output;
mod terminal;
mod feed;
mod session_frames;
mod access;

// The modules below are shared by all modules above.
mod state;
mod events;
mod pending_session;
mod auth;
mod audit;
mod turns;
mod deleted_users;
mod http_refusals;
mod limits;
mod origin;
mod audio;
mod store;
mod telemetry;
mod config;
mod authority;
mod path_prefix;
mod visible;
mod build_info;
mod error;

use std::process::ExitCode;

use rustix::fs::Mode;
use rustix::process::umask;

/// Runs the program as its arguments say. Sets the umask so that only the user who runs the program can access the
/// files it creates: nearly every file contains transcripts, including logs and exports, and the usual umask of 022
/// would make them readable by every user of the machine.
pub fn main() -> ExitCode {
    umask(Mode::RWXG | Mode::RWXO);
    cli::main()
}
