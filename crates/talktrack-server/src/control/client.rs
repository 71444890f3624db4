//! Sends requests to the control socket.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::{ControlDir, ControlReply, ControlRequest};
use crate::error::Failure;

/// How long to wait for the server. It is longer than a server takes for any request.
const REPLY_TIMEOUT: Duration = Duration::from_secs(90);
/// The maximum length of an answer, which is more than the outcomes of one request need.
const MAX_ANSWER_BYTES: u64 = 16 << 20;

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
        Failure::new(format_args!(
            "the server gave no answer ({why}); it may have carried out the request, and running the command again does no harm"
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
