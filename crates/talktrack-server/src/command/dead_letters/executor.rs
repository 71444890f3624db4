//! Who replays or drops dead letters: this process if no server uses the data directory, otherwise that server, through
//! its control socket.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use talktrack::OpenError;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::config::Config;
use crate::dead_letters::{ControlDir, ControlReply, ControlRequest, DeadLetters, LetterResult};
use crate::error::Failure;
use crate::store::{self, NotOpened};

/// How long to wait for the server. It is longer than a server takes for any request.
const REPLY_TIMEOUT: Duration = Duration::from_secs(90);
/// The maximum length of an answer, which is more than the outcomes of one request need.
const MAX_ANSWER_BYTES: u64 = 16 << 20;

pub(super) enum Executor {
    Local(DeadLetters),
    ViaServer {
        data_dir: PathBuf,
        /// The error that names the process that holds the lock of the data directory.
        locked: String,
    },
}

impl Executor {
    pub(super) async fn open(config: &Config) -> Result<Self, Failure> {
        match store::open_tracker_for_command(config, config.options()).await {
            Ok(tracker) => Ok(Self::Local(DeadLetters::open(tracker, &config.local_file())?)),
            Err(NotOpened::Tracker(locked @ OpenError::Locked { .. })) => {
                Ok(Self::ViaServer { data_dir: config.data_dir.clone(), locked: locked.to_string() })
            }
            Err(other) => Err(other.into()),
        }
    }

    pub(super) async fn execute(&self, request: ControlRequest) -> Result<Vec<LetterResult>, Failure> {
        match self {
            Self::Local(letters) => letters.execute(request).await?.into_outcomes(),
            Self::ViaServer { data_dir, locked } => {
                ask_server(data_dir, locked, &request).await?.into_outcomes()
            }
        }
    }

    /// True if this process carries out the requests. A server writes its own audit entries.
    pub(super) fn is_local(&self) -> bool {
        matches!(self, Self::Local(_))
    }

    /// Releases the data directory. Everything accepted is already durable; this waits for the tracker's threads.
    pub(super) async fn close(self) -> Result<(), Failure> {
        tokio::task::spawn_blocking(move || drop(self)).await.map_err(Failure::new)
    }
}

/// Sends a request to the server that uses the data directory. `locked` is the error that names it.
///
/// # Errors
/// Fails if the server does not answer, or answers with an error.
pub(crate) async fn ask_server(
    data_dir: &Path,
    locked: &str,
    request: &ControlRequest,
) -> Result<ControlReply, Failure> {
    let connected = async { ControlDir::open(data_dir)?.connect().await };
    let stream = connected.await.map_err(|error| {
        Failure::new(format_args!("{locked} (it does not answer on its control socket: {error})"))
    })?;
    send_request(stream, request).await
}

async fn send_request(stream: UnixStream, request: &ControlRequest) -> Result<ControlReply, Failure> {
    let line = serde_json::to_string(request).map_err(Failure::new)? + "\n";
    let answer = match timeout(REPLY_TIMEOUT, exchange_lines(stream, &line)).await {
        Ok(answer) => answer,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    };
    let unclear = |why: &dyn std::fmt::Display| {
        let look = "`talktrack dead-letters list` shows what is left";
        Failure::new(format_args!(
            "the server gave no answer ({why}); {look}, and running the command again does no harm"
        ))
    };
    let answer = answer.map_err(|error| unclear(&error))?;
    match serde_json::from_str(&answer).map_err(|error| unclear(&error))? {
        ControlReply::Error(problem) => Err(Failure::new(format_args!("the server says: {problem}"))),
        answer => Ok(answer),
    }
}

async fn exchange_lines(mut stream: UnixStream, line: &str) -> io::Result<String> {
    stream.write_all(line.as_bytes()).await?;
    let mut answer = String::new();
    BufReader::new(stream).take(MAX_ANSWER_BYTES).read_line(&mut answer).await?;
    Ok(answer)
}
