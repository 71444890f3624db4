//! `talktrack client`: the WebSocket test client. Talks from the terminal, or replays recorded conversations.

mod terminal;
mod replay;
mod conversation;
mod frames;
mod plan;
mod report;
pub(crate) mod recording;
mod connection;

use std::num::NonZero;
use std::path::PathBuf;

use uuid::Uuid;

use super::Outcome;
use crate::error::Failure;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The server; where the URL has no path, /v1/ws is meant
    #[arg(long, value_name = "URL", default_value = "ws://127.0.0.1:8080/v1/ws")]
    url: String,
    /// Resume or begin this session; minted where it is left out
    #[arg(long, value_name = "UUID", conflicts_with = "file")]
    session_id: Option<Uuid>,
    /// Whose session it is; minted where it is left out. With --file: of sessions whose file does not say
    #[arg(long, value_name = "UUID")]
    user_id: Option<Uuid>,
    /// Your own name for the session; its id is derived from it
    #[arg(long, value_name = "NAME", conflicts_with = "file")]
    external_id: Option<String>,
    /// Replay the conversations of this JSONL file
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    pace: Pace,
    /// Append the id of each acknowledged message to this file, as soon as the acknowledgement comes
    #[arg(long, value_name = "FILE", requires = "file")]
    acked: Option<PathBuf>,
    /// The summary as one JSON object
    #[arg(long, requires = "file")]
    json: bool,
}

/// How fast a recording is replayed.
#[derive(Debug, Clone, Copy, clap::Args)]
struct Pace {
    /// Connections at once, each with one session
    #[arg(long, value_name = "N", default_value = "16", requires = "file")]
    sockets: NonZero<usize>,
    /// Messages on the way on each connection: sent, and not yet acknowledged
    #[arg(long, value_name = "N", default_value = "256", requires = "file")]
    window: NonZero<usize>,
    /// Messages a second, over all connections; as fast as it goes where it is left out
    #[arg(long, value_name = "N", requires = "file")]
    rate: Option<NonZero<u32>>,
}

/// Runs it.
pub(crate) async fn run(mut args: Args) -> Outcome {
    if !args.url.starts_with("ws://") {
        let advice = "must begin with ws:// (this client speaks no TLS)";
        return Err(Failure::usage(format_args!("--url: {advice}, not {:?}", args.url)));
    }
    args.url = connection::with_path(&args.url);
    match args.file.clone() {
        Some(file) => replay::run(args, &file).await,
        None => terminal::run(&args.url, args.session_id, args.user_id, args.external_id.as_deref()).await,
    }
}
