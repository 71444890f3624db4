//! The control socket: what has to be done in the data directory while the server has it. One request and one answer a
//! connection, a line of JSON each. A file in the data directory, and not HTTP, because who may enter the directory may
//! do this, and nobody else.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::error::Failure;
use crate::letters::{Answer, ControlDir, Letters, MOST_AT_ONCE, Outcome, Request};
use crate::state::AppState;

/// How long somebody may take to say what they want.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long an answer may take.
const DEADLINE: Duration = Duration::from_secs(60);
/// A longer request is none: the longest has [`MOST_AT_ONCE`] numbers.
const MAX_REQUEST_BYTES: u64 = 8 << 10;
/// People at terminals. One more waits.
const CONNECTIONS: usize = 8;
/// A pause after the system had no connection to give.
const NO_DESCRIPTOR: Duration = Duration::from_millis(100);

/// Listens until it is dropped; then the socket is gone.
pub(super) struct Control {
    dir: ControlDir,
    accepting: AbortHandle,
}

impl Control {
    /// Begins to listen. A server that cannot goes on without: conversations do not need it.
    pub(super) fn start(state: &AppState) -> Option<Self> {
        Self::try_start(state)
            .inspect_err(|error| {
                tracing::warn!("no control socket, so dead letters have to wait for a stop: {error}");
            })
            .ok()
    }

    fn try_start(state: &AppState) -> Result<Self, Failure> {
        let config = state.config();
        let letters = Letters::of(state.tracker().clone(), &config.local_file())?;
        let dir = ControlDir::open(&config.data_dir)?;
        let accepting = tokio::spawn(accept(dir.listen()?, Arc::new(letters))).abort_handle();
        Ok(Self { dir, accepting })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.accepting.abort();
        self.dir.remove();
    }
}

async fn accept(listener: UnixListener, letters: Arc<Letters>) {
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
        let letters = Arc::clone(&letters);
        tokio::spawn(async move {
            if let Err(error) = converse(stream, &letters).await {
                tracing::debug!(%error, "a connection to the control socket ended early");
            }
            drop(slot);
        });
    }
}

async fn converse(mut stream: UnixStream, letters: &Letters) -> io::Result<()> {
    let answer = match timeout(PATIENCE, hear(&mut stream)).await {
        Ok(Ok(request)) => carry_out(request, letters).await,
        Ok(Err(problem)) => Answer::Error(problem.to_string()),
        Err(_) => Answer::Error(format!("nothing was asked within {PATIENCE:?}")),
    };
    let mut line = serde_json::to_vec(&answer)?;
    line.push(b'\n');
    timeout(PATIENCE, stream.write_all(&line)).await?
}

async fn hear(stream: &mut UnixStream) -> Result<Request, Failure> {
    let mut line = Vec::new();
    let read = BufReader::new(stream).take(MAX_REQUEST_BYTES).read_until(b'\n', &mut line).await?;
    if u64::try_from(read).is_ok_and(|read| read >= MAX_REQUEST_BYTES) && !line.ends_with(b"\n") {
        return Err(Failure::new(format_args!("longer than {MAX_REQUEST_BYTES} bytes")));
    }
    let request = serde_json::from_slice(&line);
    let request = request.map_err(|error| Failure::new(format_args!("not a request: {error}")))?;
    let (Request::Replay(letters) | Request::Drop(letters)) = &request;
    if letters.len() > MOST_AT_ONCE {
        return Err(Failure::new(format_args!("more than {MOST_AT_ONCE} letters at once")));
    }
    Ok(request)
}

async fn carry_out(request: Request, letters: &Letters) -> Answer {
    let what = match &request {
        Request::Replay(_) => "replayed",
        Request::Drop(_) => "dropped",
    };
    match timeout(DEADLINE, letters.carry_out(request)).await {
        Ok(Ok(outcomes)) => {
            log(what, &outcomes);
            Answer::Outcomes(outcomes)
        }
        Ok(Err(failure)) => Answer::Error(failure.to_string()),
        Err(_) => Answer::Error(format!(
            "not done within {DEADLINE:?}; what has begun may still be done: ask again, it does no harm"
        )),
    }
}

fn log(what: &str, outcomes: &[Outcome]) {
    let (asked, done) = (outcomes.len(), outcomes.iter().filter(|outcome| outcome.fate.is_good()).count());
    tracing::info!(asked, done, "dead letters {what} from the command line");
}
