//! The control socket, for operations on the data directory while the server uses it. Each connection carries one
//! request and one answer, each a line of JSON. It is a file in the data directory rather than an HTTP endpoint, so
//! that exactly those who may enter the directory may use it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::audit::{Actor, Audit, Entry};
use crate::control::{ControlDir, ControlReply, ControlRequest};
use crate::dead_letters::{DeadLetters, LetterRequest, MOST_AT_ONCE};
use crate::deletion::operator::{self, DeletionTarget};
use crate::error::Failure;
use crate::state::AppState;

/// How long a client may take to send its request.
const IO_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a request may take to be carried out.
const DEADLINE: Duration = Duration::from_secs(60);
/// The maximum size of a request. The longest valid one contains [`MOST_AT_ONCE`] numbers.
const MAX_REQUEST_BYTES: u64 = 8 << 10;
/// The maximum number of concurrent connections. The clients are people at terminals, and further ones wait.
const CONNECTIONS: usize = 8;
/// The pause after the system could not provide a connection.
const NO_DESCRIPTOR: Duration = Duration::from_millis(100);

/// The listening control socket. Dropping it closes and removes the socket.
pub(super) struct ControlSocket {
    dir: ControlDir,
    accepting: AbortHandle,
}

impl ControlSocket {
    /// Starts listening. If that fails, the server runs without a control socket, because conversations do not need it.
    pub(super) fn start(state: &AppState) -> Option<Self> {
        Self::try_start(state)
            .inspect_err(|error| {
                tracing::warn!("no control socket, so dead letters can be replayed or dropped only while the server is stopped: {error}");
            })
            .ok()
    }

    fn try_start(state: &AppState) -> Result<Self, Failure> {
        let config = state.config();
        let letters = DeadLetters::open(state.tracker().clone(), &config.local_file())?;
        let dir = ControlDir::open(&config.data_dir)?;
        let handlers = (letters, state.clone());
        let accepting = tokio::spawn(accept_connections(dir.listen()?, Arc::new(handlers))).abort_handle();
        Ok(Self { dir, accepting })
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        self.accepting.abort();
        self.dir.remove();
    }
}

async fn accept_connections(listener: UnixListener, handlers: Arc<(DeadLetters, AppState)>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::error!(%error, "cannot accept a connection on the control socket");
                tokio::time::sleep(NO_DESCRIPTOR).await;
                continue;
            }
        };
        let handlers = Arc::clone(&handlers);
        tokio::spawn(async move {
            if let Err(error) = handle_connection(stream, &handlers).await {
                tracing::debug!(%error, "a connection to the control socket ended early");
            }
            drop(slot);
        });
    }
}

async fn handle_connection(
    mut stream: UnixStream,
    (letters, state): &(DeadLetters, AppState),
) -> io::Result<()> {
    let answer = match timeout(IO_TIMEOUT, read_request(&mut stream)).await {
        Ok(Ok(request)) => {
            let what = request.name();
            let answer = execute_in_time(request, letters, state).await;
            record_request(state.audit(), &stream, what, &answer);
            answer
        }
        Ok(Err(problem)) => ControlReply::Error(problem.to_string()),
        Err(_) => ControlReply::Error(format!("no request arrived within {IO_TIMEOUT:?}")),
    };
    let mut line = serde_json::to_vec(&answer)?;
    line.push(b'\n');
    timeout(IO_TIMEOUT, stream.write_all(&line)).await?
}

async fn read_request(stream: &mut UnixStream) -> Result<ControlRequest, Failure> {
    let mut line = Vec::new();
    let read = BufReader::new(stream).take(MAX_REQUEST_BYTES).read_until(b'\n', &mut line).await?;
    if u64::try_from(read).is_ok_and(|read| read >= MAX_REQUEST_BYTES) && !line.ends_with(b"\n") {
        return Err(Failure::new(format_args!("longer than {MAX_REQUEST_BYTES} bytes")));
    }
    let request = serde_json::from_slice(&line);
    let request = request.map_err(|error| Failure::new(format_args!("not a request: {error}")))?;
    let (ControlRequest::Replay(letters) | ControlRequest::Drop(letters)) = &request else {
        return Ok(request);
    };
    if letters.len() > MOST_AT_ONCE {
        return Err(Failure::new(format_args!("more than {MOST_AT_ONCE} letters at once")));
    }
    Ok(request)
}

async fn execute_in_time(request: ControlRequest, letters: &DeadLetters, state: &AppState) -> ControlReply {
    match timeout(DEADLINE, execute(request, letters, state)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(failure)) => ControlReply::Error(failure.to_string()),
        Err(_) => ControlReply::Error(format!(
            "not finished within {DEADLINE:?}; the server may still finish it: running the command again does no harm"
        )),
    }
}

async fn execute(
    request: ControlRequest,
    letters: &DeadLetters,
    state: &AppState,
) -> Result<ControlReply, Failure> {
    match request {
        ControlRequest::Replay(seqs) => {
            settle_letters(letters, LetterRequest::Replay(seqs), "replayed").await
        }
        ControlRequest::Drop(seqs) => settle_letters(letters, LetterRequest::Drop(seqs), "dropped").await,
        ControlRequest::RedirectOutbox => redirect_outbox(state),
        ControlRequest::DeleteSession(session_id) => delete(state, DeletionTarget::Session(session_id)).await,
        ControlRequest::DeleteUser(user_id) => delete(state, DeletionTarget::User(user_id)).await,
    }
}

async fn settle_letters(
    letters: &DeadLetters,
    request: LetterRequest,
    what: &str,
) -> Result<ControlReply, Failure> {
    let outcomes = letters.execute(request).await?;
    let asked = outcomes.len();
    let done = outcomes.iter().filter(|result| result.outcome.is_success()).count();
    tracing::info!(asked, done, "dead letters {what} from the command line");
    Ok(ControlReply::Outcomes(outcomes))
}

fn redirect_outbox(state: &AppState) -> Result<ControlReply, Failure> {
    let Some(address) = state.tracker().redirect_outbox() else {
        let advice = "the server was started without database_url; stop it, and run the command again";
        return Err(Failure::new(advice));
    };
    tracing::warn!("the outbox was redirected to {address} from the command line");
    Ok(ControlReply::Redirected(address))
}

async fn delete(state: &AppState, target: DeletionTarget) -> Result<ControlReply, Failure> {
    let deleted = operator::delete(state, target).await;
    deleted.map(ControlReply::Deleted).map_err(|problem| Failure::new(problem.into_detail()))
}

/// Logs who made the request: the system knows the user of the process at the other end.
fn record_request(audit: &Audit, stream: &UnixStream, what: &'static str, answer: &ControlReply) {
    let who = stream.peer_cred().map_or(Actor::Unknown, |peer| Actor::of_system_user(peer.uid()));
    let entry = Entry::new(who, what, None);
    audit.record(match answer {
        ControlReply::Outcomes(outcomes) => {
            let done = outcomes.iter().filter(|result| result.outcome.is_success()).count();
            let detail = json!({"asked": outcomes.len()});
            entry.count(u64::try_from(done).unwrap_or(u64::MAX)).detail(detail)
        }
        ControlReply::Redirected(address) => entry.detail(json!({"store": address})),
        ControlReply::Deleted(Some(report)) => entry.detail(report.clone()),
        ControlReply::Deleted(None) => entry.outcome("not_found"),
        ControlReply::Error(_) => entry.outcome("failed"),
    });
}
