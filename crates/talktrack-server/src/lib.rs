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
mod trail;
mod guard;
mod socket;
mod dashboard;
mod api;
mod metered;
mod transcript;
mod jsonl;
mod wire;
mod schema;
mod letters;
mod retention;
mod letter_quota;
mod deletion;
mod output;
mod table;
mod access;

// The words that all of them are written in.
mod state;
mod events;
mod pending_session;
mod auth;
mod audit;
mod turns;
mod deleted_users;
mod limits;
mod origin;
mod audio;
mod tls;
mod store;
mod telemetry;
mod config;
mod authority;
mod visible;
mod build_info;
mod error;

use std::process::ExitCode;

use rustix::fs::Mode;
use rustix::process::umask;

/// The program: does what the arguments say. Whatever it writes is for the user alone who runs it: transcripts are in nearly
/// every file, also in logs and exports that a shell's umask of 022 would show to everybody on the machine.
pub fn main() -> ExitCode {
    umask(Mode::RWXG | Mode::RWXO);
    cli::main()
}
