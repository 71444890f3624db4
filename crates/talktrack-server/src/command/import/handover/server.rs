//! Hands records to a running server over its HTTP API. The messages of a session are sent together, and before its next
//! update or end. At most one request is under way, so that an import takes no more than its share of the server.

use std::collections::HashMap;

use axum::http::{Method, StatusCode};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use talktrack::store::SessionRow;
use talktrack::{Books, Closing, ErrorCode, Message, NewSession, SessionChanges, SessionId, Status};
use talktrack_client::api::{ApiClient, ApiResponse, RequestError};
use talktrack_client::retry;
use talktrack_protocol::MessageLine;
use talktrack_protocol::jsonl::LinePosition;
use tokio::time::sleep;

use super::ImportError;
use crate::command::import::tally::{ImportReport, ImportTally};
use crate::command::source::ServerReader;
use crate::error::Failure;

/// How many messages a request has at most. A server takes 1,000.
const MAX_MESSAGES: usize = 500;
/// From how many bytes on the messages of a session are sent.
const ENOUGH_BYTES: usize = 1 << 20;
/// How many bytes of messages of all sessions wait in memory at most.
const MAX_WAITING_BYTES: usize = 16 << 20;

pub(in crate::command::import) struct ServerHandover {
    reader: ServerReader,
    /// The messages that are not sent yet.
    batches: HashMap<SessionId, Batch>,
    waiting_bytes: usize,
    report: ImportReport,
}

/// Messages of one session that are sent together.
#[derive(Default)]
struct Batch {
    /// Each message as JSON, with the place of its line.
    messages: Vec<(Box<RawValue>, String)>,
    bytes: usize,
}

impl ServerHandover {
    pub(super) fn new(api: ApiClient) -> Self {
        let report = ImportReport::new(ImportTally::new(Books::default(), false));
        Self { reader: ServerReader::new(api), batches: HashMap::new(), waiting_bytes: 0, report }
    }

    pub(super) fn report(&mut self) -> &mut ImportReport {
        &mut self.report
    }

    pub(super) async fn session(&self, session_id: SessionId) -> Result<Option<SessionRow>, ImportError> {
        self.reader.session(session_id).await.map_err(ImportError::Fatal)
    }

    pub(super) async fn start_session(&self, session: &NewSession) -> Result<(), ImportError> {
        let mut body = json!(session.dimensions);
        body["session_id"] = json!(session.session_id);
        body["user_id"] = json!(session.user_id);
        body["external_id"] = json!(session.external_id);
        body["metadata"] = json!(session.metadata);
        body["started_at"] = json!(session.started_at);
        body["resume"] = json!(session.resume);
        self.send(Method::POST, "/v1/sessions", &body).await
    }

    pub(super) async fn track_message(
        &mut self,
        message: &Message,
        place: LinePosition<'_>,
    ) -> Result<(), ImportError> {
        let line = serde_json::value::to_raw_value(&MessageLine::from_message(message, None));
        let line = line.map_err(|error| ImportError::Line(error.to_string()))?;
        let bytes = line.get().len();
        let batch = self.batches.entry(message.session_id).or_default();
        batch.bytes += bytes;
        batch.messages.push((line, place.to_string()));
        self.waiting_bytes += bytes;
        if batch.bytes >= ENOUGH_BYTES || batch.messages.len() >= MAX_MESSAGES {
            self.send_messages(message.session_id).await?;
        } else if self.waiting_bytes >= MAX_WAITING_BYTES {
            self.send_all_messages().await?;
        }
        Ok(())
    }

    pub(super) async fn update_session(
        &mut self,
        session_id: SessionId,
        changes: &SessionChanges,
    ) -> Result<(), ImportError> {
        self.send_messages(session_id).await?;
        let mut body = json!(changes.dimensions);
        body["metadata"] = json!(changes.metadata);
        self.send(Method::PATCH, &format!("/v1/sessions/{session_id}"), &body).await
    }

    pub(super) async fn end_session(
        &mut self,
        session_id: SessionId,
        closing: &Closing<'_>,
    ) -> Result<(), ImportError> {
        self.send_messages(session_id).await?;
        let mut body = json!({"reason": closing.reason, "ended_at": closing.ended_at});
        if closing.status == Status::Abandoned {
            body["status"] = json!(closing.status);
        }
        self.send(Method::POST, &format!("/v1/sessions/{session_id}/end"), &body).await
    }

    pub(super) async fn finish(mut self) -> Result<ImportTally, Failure> {
        match self.send_all_messages().await {
            Ok(()) => Ok(self.report.tally),
            Err(ImportError::Fatal(failure)) => Err(failure),
            Err(ImportError::Line(problem)) => Err(Failure::new(problem)),
        }
    }

    /// Sends a request. A refusal of what the line says is an error of the line.
    async fn send(&self, method: Method, path: &str, body: &Value) -> Result<(), ImportError> {
        let answer = self.reader.api().send_json(method, path, body).await.map_err(to_fatal)?;
        match answer.status {
            status if status.is_success() => Ok(()),
            _ => Err(to_error(answer)),
        }
    }

    async fn send_all_messages(&mut self) -> Result<(), ImportError> {
        let sessions: Vec<SessionId> = self.batches.keys().copied().collect();
        for session_id in sessions {
            self.send_messages(session_id).await?;
        }
        Ok(())
    }

    /// Sends the messages of a session. Repeats those that the server has no room for now.
    async fn send_messages(&mut self, session_id: SessionId) -> Result<(), ImportError> {
        let Some(batch) = self.batches.remove(&session_id) else { return Ok(()) };
        self.waiting_bytes -= batch.bytes;
        let mut messages = batch.messages;
        let mut attempts = 0;
        loop {
            messages = self.send_once(session_id, messages).await?;
            if messages.is_empty() {
                return Ok(());
            }
            attempts += 1;
            self.report.tally.report_waiting_once();
            sleep(retry::pause(attempts)).await;
        }
    }

    /// Sends messages, and returns those that are to be sent again.
    async fn send_once(
        &mut self,
        session_id: SessionId,
        messages: Vec<(Box<RawValue>, String)>,
    ) -> Result<Vec<(Box<RawValue>, String)>, ImportError> {
        let texts: Vec<&str> = messages.iter().map(|(text, _)| text.get()).collect();
        let body = format!("[{}]", texts.join(","));
        let path = format!("/v1/sessions/{session_id}/messages");
        let answer = self.reader.api().send_text(Method::POST, &path, body).await.map_err(to_fatal)?;
        if answer.status.is_success() && answer.status != StatusCode::MULTI_STATUS {
            self.report.tally.messages += u64::try_from(messages.len()).unwrap_or(u64::MAX);
            return Ok(Vec::new());
        }
        let Some(acks) = answer.body["acks"].as_array().filter(|acks| acks.len() == messages.len()) else {
            let problem = match to_error(answer) {
                ImportError::Line(problem) => problem,
                fatal @ ImportError::Fatal(_) => return Err(fatal),
            };
            messages.iter().for_each(|(_, place)| self.report.refuse_line(place, &problem));
            return Ok(Vec::new());
        };
        let mut again = Vec::new();
        for (ack, message) in acks.iter().zip(messages) {
            let text = |key: &str| ack["error"][key].as_str().unwrap_or_default();
            match ack["error"]["code"].as_str() {
                None => self.report.tally.messages += 1,
                Some(code) if code.parse().is_ok_and(ErrorCode::is_retryable) => again.push(message),
                Some(_) => self.report.refuse_line(&message.1, text("message")),
            }
        }
        Ok(again)
    }
}

fn to_fatal(error: RequestError) -> ImportError {
    ImportError::Fatal(error.into())
}

/// Converts a refusal. If the caller may not write, or the server cannot, no other line can be imported either.
fn to_error(answer: ApiResponse) -> ImportError {
    let status = answer.status;
    let detail = answer.body["detail"].as_str().map(str::to_owned);
    match (answer.into_body(), detail) {
        (Err(_), Some(detail)) if status.is_client_error() && !is_of_caller(status) => {
            ImportError::Line(detail)
        }
        (Err(refusal), _) => ImportError::Fatal(refusal.into()),
        (Ok(_), _) => ImportError::Fatal(Failure::new("the server sent an answer without the outcomes")),
    }
}

fn is_of_caller(status: StatusCode) -> bool {
    status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN
}
