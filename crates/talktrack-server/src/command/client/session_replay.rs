//! Replays one session of a recording over one connection: sends frames as fast as the window allows, until every frame
//! has its answer.

use std::time::Duration;

use futures_util::FutureExt as _;
use hdrhistogram::Histogram;
use talktrack::ErrorCode;
use talktrack_client::retry;
use talktrack_client::socket::{ConnectError, Connection, SessionIdentity};
use talktrack_protocol::{Ack, FrameRef, ServerFrame};
use tokio::sync::SemaphorePermit;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::frames::Frames;
use super::plan::Plan;
use super::recording::RecordedSession;
use crate::command::client_errors::to_line;
use crate::terminal;

/// How long the client waits for an answer before it considers the connection lost.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

struct SessionReplay<'a> {
    plan: &'a Plan,
    session: &'a RecordedSession,
    connection: Connection,
    latencies: &'a mut Histogram<u64>,
    frames: Frames,
    /// When the next message may be sent, if the replay has a rate.
    ticket: Option<Instant>,
}

/// Replays a session.
///
/// # Errors
/// Returns how many messages have no answer, and why.
pub(super) async fn replay_session(
    plan: &Plan,
    session: &RecordedSession,
    latencies: &mut Histogram<u64>,
) -> Result<(), (u64, String)> {
    let frames = Frames::new(session.len(), plan.window);
    let connected = connect(plan, session).await;
    let connection = connected.map_err(|why| (count_unanswered(session, &frames), why))?;
    let mut conversation = SessionReplay { plan, session, connection, latencies, frames, ticket: None };
    let ended = conversation.run().await;
    // Frames on a lost connection are no longer in flight.
    plan.budget.add_permits(conversation.frames.under_way());
    ended.map_err(|why| (count_unanswered(session, &conversation.frames), why))
}

fn count_unanswered(session: &RecordedSession, frames: &Frames) -> u64 {
    let messages = frames.unanswered().filter(|frame| session.is_message(*frame));
    u64::try_from(messages.count()).unwrap_or(u64::MAX)
}

/// Connects, and retries as long as the server asks for it.
async fn connect(plan: &Plan, session: &RecordedSession) -> Result<Connection, String> {
    let mut identity = SessionIdentity::default();
    identity.session_id = Some(session.session_id);
    identity.user_id = session.user_id.clone().or(plan.user_id.clone());
    identity.external_id = session.external_id.as_deref();
    let mut refusals = 0;
    loop {
        match timeout(ANSWER_TIMEOUT, plan.server.connect(&identity)).await {
            Ok(Ok((connection, _))) => return Ok(connection),
            // Only an error frame proves that a talktrack server answers: any other error may mean a wrong URL.
            Ok(Err(error @ ConnectError::Refused { .. })) if error.is_temporary() => {
                refusals += 1;
                plan.report.retried();
                sleep(retry::pause(refusals)).await;
            }
            Ok(Err(error)) => return Err(to_line(&error)),
            Err(_) => return Err(no_answer()),
        }
    }
}

impl SessionReplay<'_> {
    async fn run(&mut self) -> Result<(), String> {
        while !self.frames.are_answered() {
            self.send().await?;
            self.receive().await?;
        }
        self.end_session().await?;
        // All frames are answered, so the result of the close handshake does not matter.
        drop(timeout(ANSWER_TIMEOUT, self.connection.close()).await);
        Ok(())
    }

    /// Sends all frames that may be sent now.
    async fn send(&mut self) -> Result<(), String> {
        if let Some(pause) = self.frames.pause() {
            sleep(pause).await;
        }
        let now = Instant::now();
        let mut sent = false;
        while let Some(frame) = self.frames.next()
            && self.is_time(frame, now)
            && self.is_room().await
        {
            self.ticket = None;
            self.feed(frame).await?;
            self.frames.mark_sent(frame, now);
            sent = true;
        }
        if sent {
            // The window is small enough that the answers to it fit into the socket's buffer. The server therefore
            // never waits for the client to read while the client waits for the server.
            self.connection.flush().await.map_err(|error| to_line(&error))?;
        }
        Ok(())
    }

    async fn feed(&mut self, frame: usize) -> Result<(), String> {
        self.connection.feed(self.session.text(frame)).await.map_err(|error| to_line(&error))?;
        if !self.session.is_message(frame) {
            // The server answers an update only if it refuses it. The pong to this ping shows that the update was
            // accepted.
            let ping = format!(r#"{{"type":"ping","ref":{frame}}}"#);
            self.connection.feed(ping).await.map_err(|error| to_line(&error))?;
        }
        Ok(())
    }

    /// True if the rate of the replay allows the frame to be sent now.
    fn is_time(&mut self, frame: usize, now: Instant) -> bool {
        let Some(pace) = self.plan.pace.as_ref().filter(|_| self.session.is_message(frame)) else {
            return true;
        };
        *self.ticket.get_or_insert_with(|| pace.ticket()) <= now
    }

    /// Reserves room for one more frame in flight on all connections together; false if there is none. Waits for room
    /// only if this connection has nothing in flight, because then no answer would wake it.
    async fn is_room(&self) -> bool {
        let permit = match self.plan.budget.try_acquire() {
            Ok(permit) => Some(permit),
            Err(_) if self.frames.under_way() == 0 => self.plan.budget.acquire().await.ok(),
            Err(_) => None,
        };
        permit.map(SemaphorePermit::forget).is_some()
    }

    /// Handles an answer and all others that have already arrived. Returns early when it is time to send.
    async fn receive(&mut self) -> Result<(), String> {
        if self.frames.under_way() == 0 && self.ticket.is_none() {
            return Ok(());
        }
        // Pings arrive even if answers do not, so only answers extend the deadline.
        let last = if self.frames.under_way() == 0 { Instant::now() } else { self.frames.last_answer() };
        let deadline = last + ANSWER_TIMEOUT;
        let until = self.ticket.unwrap_or(deadline).min(deadline);
        let Ok(mut answer) = timeout_at(until, self.connection.next_frame()).await else {
            return if until == deadline { Err(no_answer()) } else { Ok(()) };
        };
        loop {
            self.handle_frame(answer.map_err(|error| to_line(&error))?);
            match self.connection.next_frame().now_or_never() {
                Some(another) => answer = another,
                None => return Ok(()),
            }
        }
    }

    fn handle_frame(&mut self, answer: ServerFrame) {
        match answer {
            ServerFrame::Ack { acks } => self.record_acks(&acks),
            ServerFrame::Error { code, message, reference, .. } => {
                self.handle_refusal(&code, &message, reference.as_ref());
            }
            ServerFrame::Pong { reference } => {
                let taken =
                    reference.as_ref().and_then(frame_number).and_then(|frame| self.frames.mark_taken(frame));
                self.plan.budget.add_permits(usize::from(taken.is_some()));
            }
            ServerFrame::TokenExpiring { expires_at } => self.plan.report.complain(format_args!(
                "session {}: the token expires at {expires_at}; the server closes the connection then",
                self.session.session_id
            )),
            // Nothing else says anything about the frames that were sent.
            _ => {}
        }
    }

    fn record_acks(&mut self, acks: &[Ack]) {
        let now = Instant::now();
        let mut ids = Vec::with_capacity(acks.len());
        for ack in acks {
            let frame = ack.reference.as_ref().and_then(frame_number);
            let Some(since) = frame.and_then(|frame| self.frames.mark_taken(frame)) else { continue };
            let micros = now.duration_since(since).as_micros();
            self.latencies.saturating_record(u64::try_from(micros).unwrap_or(u64::MAX));
            for warning in &ack.warnings {
                self.plan.report.warn(warning);
            }
            ids.push(ack.id);
        }
        self.plan.budget.add_permits(ids.len());
        self.plan.report.acked(&ids);
    }

    fn handle_refusal(&mut self, code: &str, message: &str, reference: Option<&FrameRef>) {
        let for_now = code.parse().is_ok_and(ErrorCode::is_retryable);
        let report = &self.plan.report;
        let frame =
            reference.and_then(frame_number).filter(|frame| self.frames.mark_refused(*frame, for_now));
        self.plan.budget.add_permits(usize::from(frame.is_some()));
        let message = terminal::escape_line(message);
        match frame {
            None => report.complain(format_args!("session {}: {code}: {message}", self.session.session_id)),
            Some(_) if for_now => report.retried(),
            Some(frame) => {
                let told = format!("{}:{}: {code}: {message}", self.plan.file, self.session.line(frame));
                if self.session.is_message(frame) { report.refused(told) } else { report.complain(told) }
            }
        }
    }

    /// Ends the session if the recording ends it.
    async fn end_session(&mut self) -> Result<(), String> {
        let Some(end) = &self.session.end else { return Ok(()) };
        self.connection.send(end.as_str()).await.map_err(|error| to_line(&error))?;
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        loop {
            let answer = timeout_at(deadline, self.connection.next_frame()).await.map_err(|_| no_answer())?;
            match answer.map_err(|error| to_line(&error))? {
                ServerFrame::SessionEnded { .. } => return Ok(()),
                ServerFrame::Error { code, message, .. } => {
                    let session = self.session.session_id;
                    let message = terminal::escape_line(&message);
                    let told = format_args!("session {session}: session.end: {code}: {message}");
                    self.plan.report.complain(told);
                    return Ok(());
                }
                _ => {}
            }
        }
    }
}

/// Returns the number of the frame that an answer refers to.
fn frame_number(mark: &FrameRef) -> Option<usize> {
    mark.as_json().parse().ok()
}

fn no_answer() -> String {
    format!("no answer for {} s", ANSWER_TIMEOUT.as_secs())
}
