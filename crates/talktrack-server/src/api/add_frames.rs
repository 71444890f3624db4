//! `POST /v1/frames`: frames of many sessions in one request, one a line, as in files.
//!
//! Each line is answered with a line. A line that is refused touches no other line.

use std::collections::BTreeMap;
use std::net::IpAddr;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use serde::Serialize;
use talktrack::{Durability, ErrorCode};
use talktrack_protocol::jsonl::Line;
use talktrack_protocol::{ClientFrame, Frame, FrameRef, ServerFrame, SessionName, WireError};
use tokio::time::Instant;

use super::add_messages::{AddMessagesQuery, STORE_TIMEOUT, wait_until_stored};
use super::body::JsonLines;
use super::query::QueryParams;
use super::requests::FrameLines;
use crate::auth::Caller;
use crate::config::Scope;
use crate::error::Problem;
use crate::feed::{Feed, LookedUp, Pending, Route, look_up_starts};
use crate::limits::{Account, BodyPermit, ClientAddress};
use crate::state::AppState;
use crate::turns::{Pace, SenderId};

/// The maximum number of lines in one request.
const MAX_LINES: usize = 50_000;

/// The bytes of memory for the answer to a line, until it is sent.
const ANSWER_BYTES: usize = 512;

/// How many answers may wait that neither the queue nor the disk bounds.
const MAX_UNBOUNDED: usize = 256;

/// How many lines are carried out together, so that the sessions that they start are looked up at once.
const AT_ONCE: usize = 64;

/// The media type of the answer.
const NDJSON: &str = "application/x-ndjson";

/// The answer to a line.
#[derive(Serialize)]
struct AnswerLine {
    /// The number of the line in the body, from 1.
    line: u64,
    #[serde(flatten)]
    frame: ServerFrame,
}

/// What an error about a line repeats of it.
type Subject = (Option<FrameRef>, Option<SessionName>);

/// The lines of one request.
struct Batch<'s> {
    state: &'s AppState,
    account: Option<Account>,
    feed: Feed,
    pace: Pace,
    durability: Durability,
    /// The answers that are known, by line.
    answers: BTreeMap<u64, ServerFrame>,
    /// The lines whose answers wait for the disk, in the order of acceptance.
    pending: Vec<(u64, Pending)>,
    unbounded: usize,
    /// When to stop waiting for the store; `None` if the request does not wait for it.
    store_deadline: Option<Instant>,
}

/// Adds frames of many sessions
///
/// The body has one frame a line, as files have: `session.start`, `message`, `session.update` and `session.end`, of any number of
/// sessions. `session_id` is a UUID or `external:NAME`. The answer has one line for each line that is not blank, in the same
/// order: `session.started`, `ack`, `session.updated`, `session.ended` or `error`, with `line`, the number of the line. The server
/// answers when everything is durable. The sessions stay open until a client ends them.
#[utoipa::path(
    post, path = "/v1/frames", operation_id = "add_frames", tag = "writing",
    request_body(content = FrameLines, content_type = "application/x-ndjson"),
    params(AddMessagesQuery),
    responses(
        (status = 200, description = "One answer for each line.", body = String, content_type = "application/x-ndjson"),
        Problem,
    )
)]
pub(crate) async fn add_frames(
    State(state): State<AppState>,
    caller: Caller,
    QueryParams(query): QueryParams<AddMessagesQuery>,
    client: Option<Extension<ClientAddress>>,
    body: JsonLines,
) -> Result<(StatusCode, [(HeaderName, &'static str); 1], String), Problem> {
    caller.require(Scope::Write)?;
    let _room = reserve_answers(&state, body.count())?;
    let client = client.map(|Extension(ClientAddress(address))| address);
    let mut batch = Batch::new(&state, &caller, client, query.wait.is_some());
    let mut lines = body.lines();
    let mut frames = Vec::new();
    while let Some(line) = lines.next_line().map_err(Problem::invalid)? {
        frames.extend(batch.take_line(&line));
        if frames.len() >= AT_ONCE {
            batch.carry_out_all(std::mem::take(&mut frames)).await;
        }
    }
    batch.carry_out_all(frames).await;
    batch.settle().await;
    Ok((StatusCode::OK, [(header::CONTENT_TYPE, NDJSON)], batch.into_text()))
}

/// Reserves memory for the answers to this many lines.
///
/// # Errors
/// 413 if there are too many lines; 503 if too many requests wait for their answers.
fn reserve_answers(state: &AppState, lines: usize) -> Result<BodyPermit, Problem> {
    if lines > MAX_LINES {
        let detail = format!("a request may have at most {MAX_LINES} lines, not {lines}");
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, ErrorCode::TooLarge, detail));
    }
    state.limits().reserve_body(lines * ANSWER_BYTES)
}

impl<'s> Batch<'s> {
    fn new(state: &'s AppState, caller: &Caller, client: Option<IpAddr>, waits_for_store: bool) -> Self {
        Self {
            state,
            account: caller.account(),
            feed: Feed::open(state, caller, false),
            pace: state.turns().new_pace(caller.account(), client, SenderId::new_feed()),
            durability: state.tracker().durability(),
            answers: BTreeMap::new(),
            pending: Vec::new(),
            unbounded: 0,
            store_deadline: waits_for_store.then(|| Instant::now() + STORE_TIMEOUT),
        }
    }

    /// Parses a line and applies the limits. Returns `None` if the line is refused.
    fn take_line(&mut self, line: &Line<'_>) -> Option<(u64, Frame)> {
        let number = line.place.line;
        let (problem, subject) = match line.text.map_err(WireError::json).and_then(Frame::parse) {
            Ok(frame) => match self.check_limits(&frame.body) {
                Ok(()) => return Some((number, frame)),
                Err(problem) => (problem, (frame.reference, frame.session_id)),
            },
            Err(error) => {
                let subject = (error.reference.clone(), error.session_id.clone());
                (error.into(), subject)
            }
        };
        self.state.tracker().count_refusal(problem.code());
        self.answers.insert(number, refusal(problem, subject));
        None
    }

    /// Hands frames to the tracker. Their answers may still wait for the disk.
    async fn carry_out_all(&mut self, lines: Vec<(u64, Frame)>) {
        let subject =
            |(line, frame): &(u64, Frame)| (*line, (frame.reference.clone(), frame.session_id.clone()));
        let subjects: Vec<(u64, Subject)> = lines.iter().map(subject).collect();
        let frames = lines.into_iter().map(|(_, frame)| frame).collect();
        let looked_up = look_up_starts(self.state, self.feed.caller(), frames).await;
        for (frame, (line, subject)) in looked_up.into_iter().zip(subjects) {
            if let Err(problem) = self.carry_out(line, frame).await {
                self.answers.insert(line, refusal(problem, subject));
            }
            if self.unbounded >= MAX_UNBOUNDED {
                self.settle().await;
            }
        }
    }

    async fn carry_out(&mut self, line: u64, frame: LookedUp) -> Result<(), Problem> {
        let order = match frame {
            LookedUp::Start(order) => (*order)?,
            LookedUp::Other(frame) if frame.body == ClientFrame::Ping => {
                self.answers.insert(line, ServerFrame::Pong { reference: frame.reference });
                return Ok(());
            }
            LookedUp::Other(frame) => match self.feed.route(*frame)? {
                Route::Known(order) => order,
                Route::Unknown(inquiry) => inquiry.answer(self.state, self.feed.caller()).await?,
            },
        };
        let bytes = order.bytes();
        self.pace.wait_for_turn(bytes, &mut self.durability).await;
        let pending = self.feed.hand_over(order)?;
        pending.seq().into_iter().for_each(|seq| self.pace.record_sent(seq, bytes));
        self.unbounded += usize::from(pending.is_unbounded());
        self.pending.push((line, pending));
        Ok(())
    }

    /// Applies the limits of requests to a line. Messages count by their bytes alone, as those of an array do.
    fn check_limits(&self, body: &ClientFrame) -> Result<(), Problem> {
        let limits = self.state.limits();
        match body {
            ClientFrame::Message(_) => limits.check_dead_letters(self.account.as_ref()),
            ClientFrame::SessionUpdate(_) => limits
                .take_from(self.account.as_ref())
                .map_err(Problem::from)
                .and_then(|()| limits.check_dead_letters(self.account.as_ref())),
            _ => limits.take_from(self.account.as_ref()).map_err(Problem::from),
        }
    }

    /// Waits until everything handed over is durable, and stored if the request asked for that.
    async fn settle(&mut self) {
        self.unbounded = 0;
        for (line, pending) in std::mem::take(&mut self.pending) {
            let (session_id, reference) = pending.subject();
            let reference = reference.cloned();
            let receipt = pending.receipt().cloned();
            let mut frame = pending.answer(&mut self.feed, &mut self.durability).await;
            let is_durable = !matches!(frame, ServerFrame::Error { .. });
            if let Some((receipt, deadline)) = receipt.zip(self.store_deadline).filter(|_| is_durable)
                && let Err(problem) = wait_until_stored(self.state, &receipt, deadline).await
            {
                frame = refusal(problem, (reference, Some(session_id.into())));
            }
            self.answers.insert(line, frame);
        }
    }

    /// Returns the answers, one a line.
    fn into_text(self) -> String {
        let mut text = String::new();
        for (line, frame) in self.answers {
            // Every part of a frame is serializable, so this cannot fail.
            text.push_str(&serde_json::to_string(&AnswerLine { line, frame }).unwrap_or_default());
            text.push('\n');
        }
        text
    }
}

fn refusal(problem: Problem, (reference, session_id): Subject) -> ServerFrame {
    let code = problem.code().to_string();
    ServerFrame::Error { code, message: problem.into_detail(), reference, session_id }
}
