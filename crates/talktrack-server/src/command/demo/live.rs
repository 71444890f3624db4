//! A live conversation for an audience: each message is sent over a WebSocket when it has been said.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Map, Value, json};
use talktrack::{SessionId, UserId};
use talktrack_client::socket::{Connection, SessionIdentity, SocketClient};
use talktrack_protocol::ServerFrame;
use tokio::time::{Instant, sleep_until, timeout};

use super::outline::Outline;
use super::timing;
use crate::error::Failure;
use crate::output::{Output, Stop};
use crate::terminal::{self, View};

/// How long the client waits for the last answers.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Talks until the conversation is over or interrupted by Ctrl-C. `page` returns the URL at which the session can be
/// watched.
pub(super) async fn run_live(
    server: &SocketClient,
    outline: &Outline<'_>,
    user_id: Option<UserId>,
    page: impl Fn(SessionId) -> String,
) -> Result<ExitCode, Failure> {
    let mut identity = SessionIdentity::default();
    identity.user_id = user_id;
    let (connection, started) = server.connect(&identity).await?;
    let mut talk = LiveDemo { connection, output: Output::stdout(), view: View::for_stdout() };
    let told = talk
        .print_line(&format!("a conversation is running at {} (Ctrl-C ends it)", page(started.session_id)));
    let ended = match told {
        Ok(()) => talk.run(outline).await,
        Err(stop) => Err(stop),
    };
    ended.map_or_else(Stop::into_outcome, |()| Ok(ExitCode::SUCCESS))
}

struct LiveDemo {
    connection: Connection,
    output: Output,
    view: View,
}

impl LiveDemo {
    async fn run(&mut self, outline: &Outline<'_>) -> Result<(), Stop> {
        self.send(&json!({"type": "session.update", "metadata": outline.metadata})).await?;
        let began = Instant::now();
        for said in timing::schedule_lines(outline, &[]) {
            let due = began + Duration::from_secs_f64(said.until_ms / 1_000.0);
            if self.is_stopped_before(due).await? {
                return self.close().await;
            }
            self.show_message(&said.fields)?;
            let mut frame = said.fields;
            frame.insert("type".to_owned(), json!("message"));
            self.send(&Value::Object(frame)).await?;
        }
        let (_, reason) = outline.script.end();
        self.send(&json!({"type": "session.end", "reason": reason})).await?;
        while !matches!(self.next_frame_in_time().await?, ServerFrame::SessionEnded { .. }) {}
        self.close().await
    }

    /// Receives answers until `due`. Returns true if Ctrl-C was pressed.
    async fn is_stopped_before(&mut self, due: Instant) -> Result<bool, Stop> {
        loop {
            tokio::select! {
                () = sleep_until(due) => return Ok(false),
                pressed = tokio::signal::ctrl_c() => return pressed.map(|()| true).map_err(Stop::from),
                answer = self.connection.next_frame() => check_refusal(&answer.map_err(Failure::from)?)?,
            }
        }
    }

    async fn next_frame_in_time(&mut self) -> Result<ServerFrame, Stop> {
        let answer = timeout(ANSWER_TIMEOUT, self.connection.next_frame()).await;
        let answer =
            answer.map_err(|_| Failure::new("the server does not answer"))?.map_err(Failure::from)?;
        check_refusal(&answer)?;
        Ok(answer)
    }

    /// Closes the connection. If the session was not ended before, the server ends it with the reason `disconnect`.
    async fn close(&mut self) -> Result<(), Stop> {
        drop(timeout(ANSWER_TIMEOUT, self.connection.close()).await);
        Ok(())
    }

    async fn send(&mut self, frame: &Value) -> Result<(), Stop> {
        let sent = self.connection.send(frame.to_string()).await;
        sent.map_err(|error| Stop::from(Failure::from(error)))
    }

    fn show_message(&mut self, message: &Map<String, Value>) -> Result<(), Stop> {
        let text = |name: &str| message.get(name).and_then(Value::as_str).unwrap_or_default();
        let line = match text("kind") {
            "" | "message" => format!("{:<9}  {}", text("role"), terminal::escape_line(text("content"))),
            kind => self.view.dim(&format!("{:<9}  [{kind}]", text("role"))).into_owned(),
        };
        self.print_line(&line)
    }

    fn print_line(&mut self, line: &str) -> Result<(), Stop> {
        self.output.write_line(line).and_then(|()| self.output.flush())
    }
}

fn check_refusal(answer: &ServerFrame) -> Result<(), Failure> {
    match answer {
        ServerFrame::Error { code, message, .. } => Err(Failure::new(format_args!(
            "the server refused a frame: {code}: {}",
            terminal::escape_line(message)
        ))),
        _ => Ok(()),
    }
}
