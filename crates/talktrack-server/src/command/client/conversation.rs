//! One session of a recording, over one connection: sent as fast as the window allows, until every frame has its answer.

use std::time::Duration;

use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use hdrhistogram::Histogram;
use tokio::sync::SemaphorePermit;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_tungstenite::tungstenite::{self, Message, Utf8Bytes};

use super::connection::{self, Identity, NotConnected, Socket};
use super::frames::{self, Frames};
use super::plan::Plan;
use super::recording::Session;
use crate::table;
use crate::wire::{Ack, FrameRef, ServerFrame};

/// A server that owes an answer for so long is lost.
const PATIENCE: Duration = Duration::from_secs(60);

struct Conversation<'a> {
    plan: &'a Plan,
    session: &'a Session,
    socket: Socket,
    latencies: &'a mut Histogram<u64>,
    frames: Frames,
    /// When the next message may be sent, where the replay is paced.
    ticket: Option<Instant>,
}

/// Replays a session.
///
/// # Errors
/// Says how many messages have no answer, and why.
pub(super) async fn replay(
    plan: &Plan,
    session: &Session,
    latencies: &mut Histogram<u64>,
) -> Result<(), (u64, String)> {
    let frames = Frames::new(session.len(), plan.window);
    let socket = connect(plan, session).await.map_err(|why| (unanswered(session, &frames), why))?;
    let mut conversation = Conversation { plan, session, socket, latencies, frames, ticket: None };
    let ended = conversation.run().await;
    // What is lost is no longer under way.
    plan.budget.add_permits(conversation.frames.under_way());
    ended.map_err(|why| (unanswered(session, &conversation.frames), why))
}

fn unanswered(session: &Session, frames: &Frames) -> u64 {
    let messages = frames.unanswered().filter(|frame| session.is_message(*frame));
    u64::try_from(messages.count()).unwrap_or(u64::MAX)
}

/// Connects, as often as the server asks to try again.
async fn connect(plan: &Plan, session: &Session) -> Result<Socket, String> {
    let identity = Identity {
        session_id: Some(session.session_id),
        user_id: session.user_id.or(plan.user_id),
        external_id: session.external_id.as_deref(),
    };
    let mut refusals = 0;
    loop {
        match timeout(PATIENCE, plan.server.connect(identity)).await {
            Ok(Ok((socket, _))) => return Ok(socket),
            Ok(Err(NotConnected::TryAgain(_))) => {
                refusals += 1;
                plan.report.retried();
                sleep(frames::pause(refusals)).await;
            }
            Ok(Err(NotConnected::Refused(why))) => return Err(why),
            Err(_) => return Err(silence()),
        }
    }
}

impl Conversation<'_> {
    async fn run(&mut self) -> Result<(), String> {
        while !self.frames.are_answered() {
            self.send().await?;
            self.receive().await?;
        }
        self.end().await?;
        // The handshake of closing is a courtesy; all is said.
        drop(timeout(PATIENCE, self.socket.close(None)).await);
        Ok(())
    }

    /// Sends what may be sent now, in one burst.
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
            self.frames.sent(frame, now);
            sent = true;
        }
        if sent {
            // The window is small enough for the answers to it to fit into the socket's buffer: the server never waits
            // for us to read while we wait for it.
            self.socket.flush().await.map_err(|error| lost(&error))?;
        }
        Ok(())
    }

    async fn feed(&mut self, frame: usize) -> Result<(), String> {
        let text = Utf8Bytes::try_from(self.session.text(frame)).map_err(|error| error.to_string())?;
        self.socket.feed(Message::Text(text)).await.map_err(|error| lost(&error))?;
        if !self.session.is_message(frame) {
            // An update is only answered where it is refused: the pong behind it says that it was not.
            let ping = format!(r#"{{"type":"ping","ref":{frame}}}"#);
            self.socket.feed(Message::text(ping)).await.map_err(|error| lost(&error))?;
        }
        Ok(())
    }

    /// Whether a paced replay lets the frame go already.
    fn is_time(&mut self, frame: usize, now: Instant) -> bool {
        let Some(pace) = self.plan.pace.as_ref().filter(|_| self.session.is_message(frame)) else {
            return true;
        };
        *self.ticket.get_or_insert_with(|| pace.ticket()) <= now
    }

    /// Whether all connections together have room for one more under way. Waits for it only where no answer would wake
    /// this connection.
    async fn is_room(&self) -> bool {
        let permit = match self.plan.budget.try_acquire() {
            Ok(permit) => Some(permit),
            Err(_) if self.frames.under_way() == 0 => self.plan.budget.acquire().await.ok(),
            Err(_) => None,
        };
        permit.map(SemaphorePermit::forget).is_some()
    }

    /// Takes an answer, and all others that are there already; comes back where it is time to send.
    async fn receive(&mut self) -> Result<(), String> {
        if self.frames.under_way() == 0 && self.ticket.is_none() {
            return Ok(());
        }
        // Pings come in however long the answers take: only answers count.
        let last = if self.frames.under_way() == 0 { Instant::now() } else { self.frames.last_answer() };
        let deadline = last + PATIENCE;
        let until = self.ticket.unwrap_or(deadline).min(deadline);
        let Ok(mut message) = timeout_at(until, self.socket.next()).await else {
            return if until == deadline { Err(silence()) } else { Ok(()) };
        };
        loop {
            if let Some(answer) = connection::read(message.ok_or("the server closed the connection")?)? {
                self.take(answer);
            }
            match self.socket.next().now_or_never() {
                Some(another) => message = another,
                None => return Ok(()),
            }
        }
    }

    fn take(&mut self, answer: ServerFrame) {
        match answer {
            ServerFrame::Ack { acks } => self.acked(&acks),
            ServerFrame::Error { code, message, reference } => {
                self.refused(&code, &message, reference.as_ref());
            }
            ServerFrame::Pong { reference } => {
                let taken = reference.as_ref().and_then(number).and_then(|frame| self.frames.taken(frame));
                self.plan.budget.add_permits(usize::from(taken.is_some()));
            }
            ServerFrame::TokenExpiring { expires_at } => self.plan.report.complain(format_args!(
                "session {}: the token expires at {expires_at}; the server closes the connection then",
                self.session.session_id
            )),
            ServerFrame::SessionStarted { .. } | ServerFrame::SessionEnded { .. } => {}
        }
    }

    fn acked(&mut self, acks: &[Ack]) {
        let (now, mut ids) = (Instant::now(), Vec::with_capacity(acks.len()));
        for ack in acks {
            let frame = ack.reference.as_ref().and_then(number);
            let Some(since) = frame.and_then(|frame| self.frames.taken(frame)) else { continue };
            let micros = now.duration_since(since).as_micros();
            self.latencies.saturating_record(u64::try_from(micros).unwrap_or(u64::MAX));
            ids.push(ack.id);
        }
        self.plan.budget.add_permits(ids.len());
        self.plan.report.acked(&ids);
    }

    fn refused(&mut self, code: &str, message: &str, reference: Option<&FrameRef>) {
        let (for_now, report) = (connection::is_want_of_room(code), &self.plan.report);
        let frame = reference.and_then(number).filter(|frame| self.frames.refused(*frame, for_now));
        self.plan.budget.add_permits(usize::from(frame.is_some()));
        let message = table::safe_line(message);
        match frame {
            None => report.complain(format_args!("session {}: {code}: {message}", self.session.session_id)),
            Some(_) if for_now => report.retried(),
            Some(frame) => {
                let told = format!("{}:{}: {code}: {message}", self.plan.file, self.session.line(frame));
                if self.session.is_message(frame) { report.refused(told) } else { report.complain(told) }
            }
        }
    }

    /// Ends the session where the recording does.
    async fn end(&mut self) -> Result<(), String> {
        let Some(end) = &self.session.end else { return Ok(()) };
        self.socket.send(Message::text(end.as_str())).await.map_err(|error| lost(&error))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = timeout_at(deadline, connection::answer(&mut self.socket)).await;
            match answer.unwrap_or_else(|_| Err(silence()))? {
                ServerFrame::SessionEnded { .. } => return Ok(()),
                ServerFrame::Error { code, message, .. } => {
                    let (session, message) = (self.session.session_id, table::safe_line(&message));
                    let told = format_args!("session {session}: session.end: {code}: {message}");
                    self.plan.report.complain(told);
                    return Ok(());
                }
                _ => {}
            }
        }
    }
}

/// Our frame that an answer is for.
fn number(mark: &FrameRef) -> Option<usize> {
    mark.as_json().parse().ok()
}

fn lost(error: &tungstenite::Error) -> String {
    format!("the connection is lost: {error}")
}

fn silence() -> String {
    format!("no answer for {} s", PATIENCE.as_secs())
}
