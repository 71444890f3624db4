//! The commands of `talktrack`, one module each. Each module has its `Args`, which clap parses, and a function `run`.

pub(crate) mod serve;
pub(crate) mod demo;
pub(crate) mod client;
pub(crate) mod import;
pub(crate) mod export;
pub(crate) mod sessions;
pub(crate) mod search;
pub(crate) mod stats;
pub(crate) mod delete;
pub(crate) mod status;
pub(crate) mod tail;
pub(crate) mod show;
pub(crate) mod dead_letters;
pub(crate) mod outbox;
pub(crate) mod backup;
pub(crate) mod quarantine;
pub(crate) mod verify;
pub(crate) mod migrate;
pub(crate) mod doctor;
pub(crate) mod keys;
pub(crate) mod audit;
pub(crate) mod version;
pub(crate) mod completions;
pub(crate) mod man;
mod schema;
mod lookup;
mod source;
mod filter;
mod server_url;
mod client_errors;

use std::process::ExitCode;

use crate::error::Failure;

/// How a command ends: with an exit code, or with an error that is printed as one line on stderr.
pub(crate) type Outcome = Result<ExitCode, Failure>;
