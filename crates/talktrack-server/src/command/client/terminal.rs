//! Talks from the terminal: each line is sent as a message, and each answer is shown.

use std::collections::HashMap;
use std::io::{BufRead as _, IsTerminal as _, stdin};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;
use talktrack::{Message, Role, SessionId, counted};
use talktrack_client::socket::{Connection, Disconnected, SessionIdentity, SessionStarted, SocketClient};
use talktrack_protocol::{FrameRef, MessageLine, ServerFrame};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::command::Outcome;
use crate::command::client_errors::to_line;
use crate::error::Failure;
use crate::output::{Output, Stop};
use crate::terminal::{self, View};

/// How long the client waits for the last answers.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// The commands, for a person at a terminal.
const HELP: &str = "each line is a message of the user; /assistant TEXT and /system TEXT send other roles; /end ends the session; \
    // begins a message with a slash";

/// A parsed line from the terminal.
#[derive(Debug, PartialEq, Eq)]
enum TypedLine<'a> {
    Said(Role, &'a str),
    Help,
    End,
    /// A line that begins with a slash and is no command, with what is wrong. It is not sent: a misspelt command is not
    /// what the user said.
    Wrong(String),
    Nothing,
}

struct TerminalChat {
    connection: Connection,
    output: Output,
    view: View,
    /// The messages without an answer, by their `ref`.
    under_way: HashMap<String, Role>,
    sent: u64,
    /// True if something was refused.
    refused: bool,
}

/// Why a conversation ended early.
enum Over {
    Stopped(Stop),
    Lost(String),
}

impl From<Stop> for Over {
    fn from(stop: Stop) -> Self {
        Self::Stopped(stop)
    }
}

impl From<Disconnected> for Over {
    fn from(error: Disconnected) -> Self {
        Self::Lost(to_line(&error))
    }
}

impl From<String> for Over {
    fn from(why: String) -> Self {
        Self::Lost(why)
    }
}

/// Runs the conversation.
pub(super) async fn run(server: &SocketClient, identity: SessionIdentity<'_>) -> Outcome {
    let (connection, started) = server.connect(&identity).await?;
    let output = Output::stdout();
    let view = View::for_stdout();
    let under_way = HashMap::new();
    let mut talk = TerminalChat { connection, output, view, under_way, sent: 0, refused: false };
    match talk.run(&started).await {
        Ok(()) if talk.refused => Ok(ExitCode::FAILURE),
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(Over::Stopped(stop)) => stop.into_outcome(),
        Err(Over::Lost(why)) if talk.under_way.is_empty() => Err(Failure::new(why)),
        Err(Over::Lost(why)) => {
            let open = counted(talk.under_way.len(), "message");
            Err(Failure::new(format_args!("{why}; not acknowledged: {open}")))
        }
    }
}

impl TerminalChat {
    async fn run(&mut self, started: &SessionStarted) -> Result<(), Over> {
        let SessionStarted { session_id, user_id, resumed, .. } = started;
        let how = if *resumed { "resumed" } else { "started" };
        self.print_line(&format!("session {session_id} {how}, user {user_id}"))?;
        let mut lines = typed_lines();
        if stdin().is_terminal() {
            self.print_line(&self.view.dim(HELP))?;
        }
        loop {
            tokio::select! {
                answer = self.connection.next_frame() => self.show_frame(&answer?)?,
                line = lines.recv() => match line.as_deref().map(parse_line) {
                    Some(TypedLine::Said(role, text)) => self.send(role, text).await?,
                    Some(TypedLine::Help) => self.print_line(HELP)?,
                    Some(TypedLine::Wrong(problem)) => self.refuse(&problem)?,
                    Some(TypedLine::Nothing) => {}
                    Some(TypedLine::End) => return self.end_session().await,
                    None => return self.close().await,
                },
            }
        }
    }

    /// Reports a line that is not sent.
    fn refuse(&mut self, problem: &str) -> Result<(), Stop> {
        self.refused = true;
        self.print_line(&format!("✗ not sent: {}; {HELP}", terminal::escape_line(problem)))
    }

    async fn send(&mut self, role: Role, text: &str) -> Result<(), Over> {
        self.sent += 1;
        let mark = FrameRef::number(self.sent);
        let message = Message::new(SessionId::nil(), role, text);
        let text = serde_json::to_string(&MessageLine::from_message(&message, Some(&mark)));
        self.under_way.insert(mark.as_json().to_owned(), role);
        self.send_text(text.map_err(|error| error.to_string())?).await
    }

    async fn send_text(&mut self, text: String) -> Result<(), Over> {
        self.connection.send(text).await.map_err(|error| match error {
            // The cause alone is told.
            Disconnected::Lost { cause } => Over::Lost(cause.to_string()),
            error => Over::Lost(error.to_string()),
        })
    }

    /// Handles `/end`: waits until every message is answered, and ends the session.
    async fn end_session(&mut self) -> Result<(), Over> {
        self.wait_for_answers().await?;
        self.send_text(json!({"type": "session.end", "reason": "completed"}).to_string()).await?;
        loop {
            let answer = self.next_frame_in_time().await?;
            self.show_frame(&answer)?;
            if matches!(answer, ServerFrame::SessionEnded { .. }) {
                return self.close().await;
            }
        }
    }

    /// Closes the connection at the end of the input, after every message is answered.
    async fn close(&mut self) -> Result<(), Over> {
        self.wait_for_answers().await?;
        // All messages are answered, so the result of the close handshake does not matter.
        drop(timeout(ANSWER_TIMEOUT, self.connection.close()).await);
        Ok(())
    }

    async fn wait_for_answers(&mut self) -> Result<(), Over> {
        while !self.under_way.is_empty() {
            let answer = self.next_frame_in_time().await?;
            self.show_frame(&answer)?;
        }
        Ok(())
    }

    async fn next_frame_in_time(&mut self) -> Result<ServerFrame, Over> {
        let answer = timeout(ANSWER_TIMEOUT, self.connection.next_frame()).await;
        Ok(answer.map_err(|_| format!("no answer for {} s", ANSWER_TIMEOUT.as_secs()))??)
    }

    fn show_frame(&mut self, answer: &ServerFrame) -> Result<(), Stop> {
        match answer {
            ServerFrame::Ack { acks } => acks.iter().try_for_each(|ack| {
                let role = ack.reference.as_ref().and_then(|mark| self.under_way.remove(mark.as_json()));
                let role = role.map_or("message", Role::as_str);
                let told = format!("✓ {role}: durable as {}", ack.id);
                self.print_line(&self.view.dim(&told))?;
                ack.warnings.iter().try_for_each(|warning| {
                    let told = format!("⚠️ {role}: {}", terminal::escape_line(warning));
                    self.print_line(&told)
                })
            }),
            ServerFrame::Error { code, message, reference, .. } => {
                let known = reference.as_ref().and_then(|mark| self.under_way.remove(mark.as_json()));
                self.refused = true;
                let role = known.map_or(String::new(), |role| format!("{role}: "));
                self.print_line(&format!("✗ {role}{code}: {}", terminal::escape_line(message)))
            }
            ServerFrame::SessionEnded { session_id, duration_seconds, message_count, .. } => {
                let length = terminal::format_duration(*duration_seconds);
                self.print_line(&format!(
                    "session {session_id} ended after {length} with {}",
                    counted(message_count, "message")
                ))
            }
            ServerFrame::TokenExpiring { expires_at } => {
                let told =
                    format!("the token expires at {expires_at}; the server closes the connection then");
                self.print_line(&self.view.dim(&told))
            }
            // A pong, or a frame of a newer server, shows nothing.
            _ => Ok(()),
        }
    }

    fn print_line(&mut self, text: &str) -> Result<(), Stop> {
        self.output.write_line(text).and_then(|()| self.output.flush())
    }
}

/// Returns the lines from standard input. A separate thread reads them, because a read from the terminal cannot be
/// cancelled.
fn typed_lines() -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(16);
    std::thread::spawn(move || {
        for line in stdin().lock().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}

fn parse_line(line: &str) -> TypedLine<'_> {
    if line.trim().is_empty() {
        return TypedLine::Nothing;
    }
    if !line.starts_with('/') {
        return TypedLine::Said(Role::User, line);
    }
    if line.starts_with("//") {
        return TypedLine::Said(Role::User, &line[1..]);
    }
    let (word, text) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    match (word, text.trim()) {
        ("/end", "") => TypedLine::End,
        ("/help" | "/?", _) => TypedLine::Help,
        ("/assistant", text) if !text.is_empty() => TypedLine::Said(Role::Assistant, text),
        ("/system", text) if !text.is_empty() => TypedLine::Said(Role::System, text),
        ("/assistant" | "/system", _) => TypedLine::Wrong(format!("{word} needs a text after it")),
        ("/end", _) => TypedLine::Wrong("/end has no text after it".to_owned()),
        _ => TypedLine::Wrong(format!("{word} is no command")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_message_of_the_user_unless_it_says_otherwise() {
        for (line, entry) in [
            ("Hello there", TypedLine::Said(Role::User, "Hello there")),
            ("/assistant Good morning ", TypedLine::Said(Role::Assistant, "Good morning")),
            ("/system Be kind", TypedLine::Said(Role::System, "Be kind")),
            ("//etc/hosts is a file", TypedLine::Said(Role::User, "/etc/hosts is a file")),
            ("///", TypedLine::Said(Role::User, "//")),
            (" /end", TypedLine::Said(Role::User, " /end")),
            ("/end", TypedLine::End),
            ("/end ", TypedLine::End),
            ("/help", TypedLine::Help),
            ("/help me", TypedLine::Help),
            ("/endless", TypedLine::Wrong("/endless is no command".into())),
            ("/ende", TypedLine::Wrong("/ende is no command".into())),
            ("/asistant Hello", TypedLine::Wrong("/asistant is no command".into())),
            ("/End", TypedLine::Wrong("/End is no command".into())),
            ("/", TypedLine::Wrong("/ is no command".into())),
            ("/end now", TypedLine::Wrong("/end has no text after it".into())),
            ("/assistant", TypedLine::Wrong("/assistant needs a text after it".into())),
            ("/system  ", TypedLine::Wrong("/system needs a text after it".into())),
            ("  ", TypedLine::Nothing),
        ] {
            assert_eq!(parse_line(line), entry, "{line:?}");
        }
    }
}
