//! One session of a recording, over one connection: sent as fast as the window allows, until every frame has its answer.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use hdrhistogram::Histogram;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::connection::{self, Identity, NotConnected, Socket};
use super::recording::Session;
use super::replay::Replay;
use crate::table;
use crate::wire::{Ack, FrameRef, ServerFrame};

/// A server that answers nothing for so long is lost.
const PATIENCE: Duration = Duration::from_secs(60);
/// The first pause after a refusal for want of room; each further one in a row is twice as long, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Where a frame stands.
#[derive(Debug, Clone, Copy)]
enum Fate {
    /// It has not been sent, or was refused and will be sent again.
    Waiting,
    /// Since then. Other frames than messages stay here: they are answered only where they are refused.
    Sent(Instant),
    /// Acknowledged, or refused for good.
    Answered,
}

struct Conversation<'a> {
    replay: &'a Replay,
    session: &'a Session,
    socket: Socket,
    latencies: &'a mut Histogram<u64>,
    /// By frame.
    fates: Vec<Fate>,
    /// The next frame that has never been sent.
    next: usize,
    /// Frames to be sent again, before any later one.
    again: BTreeSet<usize>,
    /// Messages sent and not answered.
    under_way: usize,
    /// Refusals for want of room in a row. While it is not zero, nothing is sent until everything under way has its
    /// answer: a later message must not overtake an earlier one.
    refusals: u32,
    /// When the next message may be sent, where the replay is paced.
    ticket: Option<Instant>,
    /// The last answer, or the last moment at which none was owed.
    last_answer: Instant,
}

/// Replays a session.
///
/// # Errors
/// Says how many messages have no answer, and why.
pub(super) async fn replay(
    replay: &Replay,
    session: &Session,
    latencies: &mut Histogram<u64>,
) -> Result<(), (u64, String)> {
    let messages = || count((0..session.len()).filter(|frame| session.is_message(*frame)));
    let socket = connect(replay, session).await.map_err(|why| (messages(), why))?;
    let mut conversation = Conversation {
        replay,
        session,
        socket,
        latencies,
        fates: vec![Fate::Waiting; session.len()],
        next: 0,
        again: BTreeSet::new(),
        under_way: 0,
        refusals: 0,
        ticket: None,
        last_answer: Instant::now(),
    };
    let ended = conversation.run().await;
    // What is lost is no longer under way.
    replay.budget.add_permits(conversation.under_way);
    ended.map_err(|why| (conversation.unanswered(), why))
}

/// Connects, as often as the server asks to try again.
async fn connect(replay: &Replay, session: &Session) -> Result<Socket, String> {
    let identity = Identity {
        session_id: Some(session.session_id),
        user_id: session.user_id.or(replay.user_id),
        external_id: session.external_id.as_deref(),
    };
    let mut refusals = 0;
    loop {
        match timeout(PATIENCE, connection::connect(&replay.url, identity)).await {
            Ok(Ok((socket, _))) => return Ok(socket),
            Ok(Err(NotConnected::TryAgain(_))) => {
                refusals += 1;
                replay.report.retried();
                sleep(pause(refusals)).await;
            }
            Ok(Err(NotConnected::Refused(why))) => return Err(why),
            Err(_) => return Err(silence()),
        }
    }
}

impl Conversation<'_> {
    async fn run(&mut self) -> Result<(), String> {
        while self.under_way > 0 || !self.again.is_empty() || self.next < self.session.len() {
            self.send().await?;
            self.receive().await?;
        }
        self.end().await?;
        // The handshake of closing is a courtesy; all is said.
        drop(timeout(PATIENCE, self.socket.close(None)).await);
        Ok(())
    }

    fn unanswered(&self) -> u64 {
        let open = |frame: &usize| self.session.is_message(*frame) && !matches!(self.fates[*frame], Fate::Answered);
        count((0..self.session.len()).filter(open))
    }

    /// Sends what may be sent now, in one burst.
    async fn send(&mut self) -> Result<(), String> {
        if self.refusals > 0 {
            if self.under_way > 0 {
                return Ok(());
            }
            sleep(pause(self.refusals)).await;
        }
        let now = Instant::now();
        let mut sent = false;
        while self.under_way < self.replay.window
            && let Some(frame) = self.next_frame()
            && self.is_time(frame, now)
            && self.is_room(frame).await
        {
            self.ticket = None;
            if !self.again.remove(&frame) {
                self.next += 1;
            }
            let text = Utf8Bytes::try_from(self.session.text(frame)).map_err(|error| error.to_string())?;
            self.socket.feed(Message::Text(text)).await.map_err(|error| error.to_string())?;
            self.fates[frame] = Fate::Sent(now);
            if self.under_way == 0 {
                self.last_answer = now;
            }
            self.under_way += usize::from(self.session.is_message(frame));
            sent = true;
        }
        if sent {
            // The window is small enough for what is not read yet to fit into the sockets' buffers: neither side can
            // wait for the other to read.
            self.socket.flush().await.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn next_frame(&self) -> Option<usize> {
        self.again.first().copied().or((self.next < self.session.len()).then_some(self.next))
    }

    /// Whether a paced replay lets the frame go already.
    fn is_time(&mut self, frame: usize, now: Instant) -> bool {
        let Some(pace) = self.replay.pace.as_ref().filter(|_| self.session.is_message(frame)) else { return true };
        *self.ticket.get_or_insert_with(|| pace.ticket()) <= now
    }

    /// Whether all connections together have room for one more under way. Waits for it only where no answer would wake
    /// this connection.
    async fn is_room(&self, frame: usize) -> bool {
        if !self.session.is_message(frame) {
            return true;
        }
        let permit = match self.replay.budget.try_acquire() {
            Ok(permit) => Some(permit),
            Err(_) if self.under_way == 0 => self.replay.budget.acquire().await.ok(),
            Err(_) => None,
        };
        permit.map(tokio::sync::SemaphorePermit::forget).is_some()
    }

    /// Takes an answer, and all others that are there already; comes back where it is time to send.
    async fn receive(&mut self) -> Result<(), String> {
        if self.under_way == 0 && self.ticket.is_none() {
            return Ok(());
        }
        // Pings come in however long the answers take: only answers count.
        let lost = if self.under_way == 0 { Instant::now() } else { self.last_answer } + PATIENCE;
        let until = self.ticket.unwrap_or(lost).min(lost);
        let Ok(mut message) = timeout_at(until, self.socket.next()).await else {
            return if until == lost { Err(silence()) } else { Ok(()) };
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
            ServerFrame::Error { code, message, reference } => self.refused(&code, &message, reference.as_ref()),
            _ => {}
        }
    }

    fn acked(&mut self, acks: &[Ack]) {
        let (now, mut ids) = (Instant::now(), Vec::with_capacity(acks.len()));
        for ack in acks {
            let Some((frame, since)) = ack.reference.as_ref().and_then(|mark| self.sent(mark)) else { continue };
            self.answer(frame, Fate::Answered);
            self.refusals = 0;
            let micros = now.duration_since(since).as_micros();
            self.latencies.saturating_record(u64::try_from(micros).unwrap_or(u64::MAX));
            ids.push(ack.id);
        }
        self.replay.report.acked(&ids);
    }

    fn refused(&mut self, code: &str, message: &str, reference: Option<&FrameRef>) {
        let Some((frame, _)) = reference.and_then(|mark| self.sent(mark)) else {
            let (session, message) = (self.session.session_id, table::safe_line(message));
            return self.replay.report.complain(format_args!("session {session}: {code}: {message}"));
        };
        if connection::is_want_of_room(code) {
            self.answer(frame, Fate::Waiting);
            self.again.insert(frame);
            self.refusals += u32::from(self.again.len() == 1);
            self.replay.report.retried();
        } else {
            self.answer(frame, Fate::Answered);
            let (line, message) = (self.session.line(frame), table::safe_line(message));
            let place = format!("{}:{line}: {code}: {message}", self.replay.file);
            if self.session.is_message(frame) { self.replay.report.refused(place) } else { self.replay.report.complain(place) }
        }
    }

    /// The frame with this mark, where it is under way, and since when.
    fn sent(&self, mark: &FrameRef) -> Option<(usize, Instant)> {
        let frame = mark.as_json().parse().ok()?;
        match self.fates.get(frame)? {
            Fate::Sent(since) => Some((frame, *since)),
            _ => None,
        }
    }

    fn answer(&mut self, frame: usize, fate: Fate) {
        self.fates[frame] = fate;
        self.last_answer = Instant::now();
        if self.session.is_message(frame) {
            self.under_way -= 1;
            self.replay.budget.add_permits(1);
        }
    }

    /// Ends the session where the recording does.
    async fn end(&mut self) -> Result<(), String> {
        let Some(end) = &self.session.end else { return Ok(()) };
        self.socket.send(Message::text(end.as_str())).await.map_err(|error| error.to_string())?;
        loop {
            match timeout(PATIENCE, connection::answer(&mut self.socket)).await.unwrap_or_else(|_| Err(silence()))? {
                ServerFrame::SessionEnded { .. } => return Ok(()),
                ServerFrame::Error { code, message, .. } => {
                    let (session, message) = (self.session.session_id, table::safe_line(&message));
                    self.replay.report.complain(format_args!("session {session}: session.end: {code}: {message}"));
                    return Ok(());
                }
                _ => {}
            }
        }
    }
}

fn silence() -> String {
    format!("no answer for {} s", PATIENCE.as_secs())
}

/// With chance, so that connections refused together do not come back together.
fn pause(refusals: u32) -> Duration {
    let longest = FIRST_PAUSE.saturating_mul(1 << (refusals - 1).min(16)).min(LONGEST_PAUSE);
    longest.mul_f64(0.5 + fastrand::f64() / 2.0)
}

fn count(frames: impl Iterator) -> u64 {
    u64::try_from(frames.count()).unwrap_or(u64::MAX)
}
