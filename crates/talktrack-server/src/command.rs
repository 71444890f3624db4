//! What `talktrack` can be told to do: one module a command. Each has its `Args` (what clap reads) and
//! `async fn run(args: Args) -> Outcome`.

pub(crate) mod serve;
pub(crate) mod demo;
pub(crate) mod client;
pub(crate) mod import;
pub(crate) mod export;
pub(crate) mod sessions;
pub(crate) mod tail;
pub(crate) mod show;
pub(crate) mod dead_letters;
pub(crate) mod outbox;
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
mod looking;

use std::process::ExitCode;

use crate::error::Failure;

/// How a command ends: with an exit code of its own, or with one line on stderr.
pub(crate) type Outcome = Result<ExitCode, Failure>;
