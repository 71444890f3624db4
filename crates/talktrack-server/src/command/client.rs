//! `talktrack client`: the WebSocket test client. It talks from the terminal, or replays recorded conversations.

mod terminal;
mod replay;
mod session_replay;
mod frames;
mod plan;
mod report;
pub(crate) mod recording;

use std::num::NonZero;
use std::path::PathBuf;

use talktrack::{SessionId, UserId};
use talktrack_client::socket::SessionIdentity;
use uuid::Uuid;

use super::Outcome;
use super::server_url::ServerArgs;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct ClientArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// The session to start or resume; defaults to a new id
    #[arg(long, value_name = "UUID", conflicts_with = "file")]
    session_id: Option<SessionId>,
    /// The user of the session; defaults to the user of the token, or to a new id. With --file: the user of sessions for
    /// which the file names none
    #[arg(long, value_name = "UUID")]
    user_id: Option<UserId>,
    /// Your own id of the session, from which the server derives the session's id
    #[arg(long, value_name = "NAME", conflicts_with = "file")]
    external_id: Option<String>,
    /// Replay the conversations of this JSONL file
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    pace: ReplayPace,
    /// Append the id of each acknowledged message to this file, as soon as the acknowledgement arrives
    #[arg(long, value_name = "FILE", requires = "file")]
    acked: Option<PathBuf>,
    /// Print the summary as one JSON object
    #[arg(long, requires = "file")]
    json: bool,
}

/// How fast a recording is replayed.
#[derive(Debug, Clone, Copy, clap::Args)]
struct ReplayPace {
    /// Number of concurrent connections, each with one session at a time
    #[arg(long, value_name = "N", default_value = "16", requires = "file")]
    sockets: NonZero<usize>,
    /// Maximum number of messages per connection that are sent and not acknowledged yet
    #[arg(long, value_name = "N", default_value = "256", requires = "file")]
    window: NonZero<usize>,
    /// Messages per second over all connections; unlimited by default
    #[arg(long, value_name = "N", requires = "file")]
    rate: Option<NonZero<u32>>,
}

/// Runs the command.
pub(crate) async fn run(args: ClientArgs) -> Outcome {
    let server = args.server.socket_client()?;
    match args.file.clone() {
        Some(file) => replay::run(args, server, &file).await,
        None => {
            // A token names its user itself.
            let mint = || args.server.token.is_none().then(|| UserId::new(Uuid::new_v4()));
            let user_id = args.user_id.or_else(mint);
            let mut identity = SessionIdentity::default();
            identity.session_id = args.session_id;
            identity.user_id = user_id;
            identity.external_id = args.external_id.as_deref();
            terminal::run(&server, identity).await
        }
    }
}
