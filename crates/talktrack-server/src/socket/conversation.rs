//! One connection's task: hears frames, hands messages to the tracker, and answers as they become durable. Everything is
//! bounded: while an answer cannot be sent, nothing is read.

use std::convert::Infallible;
use std::pin::Pin;

use axum::extract::ws::close_code;
use talktrack::error::Reason;
use talktrack::{Durability, Message, NewSession, Started};
use tokio::time::{Instant, Sleep, sleep_until};

use super::owed::Owed;
use super::peer::{Gone, Heard, Peer};
use super::presence::Presence;
use crate::limits::Meter;
use crate::state::{AppState, Stopping};
use crate::wire::{self, ClientFrame, Frame, FrameRef, INVALID_MESSAGE, ServerFrame};

/// Frames taken in one go before other things get their turn.
const BURST: usize = 64;

pub(super) struct Conversation {
    peer: Peer,
    state: AppState,
    stopping: Stopping,
    presence: Presence,
    meter: Meter,
    /// The peer has ended the session, and was told.
    has_ended: bool,
    owed: Owed,
    durability: Durability,
    last_heard: Instant,
    next_ping: Instant,
    /// Goes off when a ping is due or the peer has been silent for too long.
    alarm: Pin<Box<Sleep>>,
}

/// How a connection ends.
enum Ending {
    /// The peer is gone.
    Gone,
    /// We close it, for this reason.
    Close(u16, &'static str),
    /// The server stops.
    Stopping,
}

impl From<Gone> for Ending {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

impl Conversation {
    /// Starts the session and greets; turns the peer away, and is `None`, where it cannot be started.
    pub(super) async fn start(
        mut peer: Peer,
        state: &AppState,
        session: NewSession,
        meter: Meter,
    ) -> Option<Self> {
        let (session_id, user_id) = (session.session_id, session.user_id);
        let (presence, resumed) = match Presence::begin(state.tracker(), session).await {
            Ok((presence, Started { resumed })) => (presence, resumed),
            Err((code, why)) => {
                turn_away(peer, code, why).await;
                return None;
            }
        };
        let greeting = ServerFrame::SessionStarted { session_id, user_id, resumed }.to_text();
        peer.say(greeting).await.ok()?;
        peer.flush().await.ok()?;
        let (now, interval) = (Instant::now(), state.config().ping_interval);
        Some(Self {
            peer,
            stopping: state.watch_stop(),
            presence,
            meter,
            has_ended: false,
            owed: Owed::default(),
            durability: state.tracker().durability(),
            state: state.clone(),
            last_heard: now,
            next_ping: now + interval,
            alarm: Box::pin(sleep_until(now + interval)),
        })
    }

    /// Goes on until one of the two ends leaves.
    pub(super) async fn run(mut self) {
        let Err(ending) = self.talk().await;
        match ending {
            Ending::Gone => {}
            Ending::Close(code, reason) => self.peer.close(code, reason).await,
            Ending::Stopping => {
                if self.say_goodbye().await.is_ok() {
                    self.peer.close(close_code::AWAY, "shutting down").await;
                }
            }
        }
    }

    async fn talk(&mut self) -> Result<Infallible, Ending> {
        loop {
            tokio::select! {
                biased;
                () = self.stopping.wait() => return Err(Ending::Stopping),
                () = self.durability.changed(), if !self.owed.is_empty() => self.answer().await?,
                () = self.alarm.as_mut() => self.ping_or_give_up().await?,
                heard = self.peer.hear() => self.listen(heard).await?,
            }
        }
    }

    /// Takes a frame, and those that have come with it.
    async fn listen(&mut self, heard: Heard) -> Result<(), Ending> {
        self.last_heard = Instant::now();
        self.take(heard).await?;
        for _ in 1..BURST {
            let Some(heard) = self.peer.hear_now() else { break };
            self.take(heard).await?;
        }
        Ok(self.peer.flush().await?)
    }

    async fn take(&mut self, heard: Heard) -> Result<(), Ending> {
        match heard {
            Heard::Text(text) => Ok(self.frame(&text).await?),
            Heard::Binary => {
                Ok(self.reject(INVALID_MESSAGE, "a frame must be text, not binary", None).await?)
            }
            Heard::SignOfLife => {
                self.keep_alive();
                Ok(())
            }
            Heard::TooLarge => {
                self.reject("too_large", "a frame must be at most 1 MiB", None).await?;
                Err(Ending::Close(close_code::SIZE, "a frame must be at most 1 MiB"))
            }
            Heard::NotUtf8 => Err(Ending::Close(close_code::INVALID, "text must be UTF-8")),
            Heard::Garbage => Err(Ending::Close(close_code::PROTOCOL, "not a WebSocket frame")),
            Heard::Gone => Err(Ending::Gone),
        }
    }

    async fn frame(&mut self, text: &str) -> Result<(), Gone> {
        let session_id = self.presence.session_id;
        let Frame { body, session_id: named, reference, .. } = match Frame::parse(text) {
            Ok(frame) => frame,
            Err(error) => return self.reject(error.code, error.message, error.reference).await,
        };
        if named.is_some_and(|named| named != session_id) {
            return self.reject(INVALID_MESSAGE, "session_id: is not this connection's", reference).await;
        }
        if let Err(wait) = self.meter.take() {
            return self.reject("rate_limited", wait.in_words(), reference).await;
        }
        match body {
            ClientFrame::Message(message) => self.message(message.in_session(session_id), reference).await,
            ClientFrame::SessionUpdate { metadata } => {
                match self.presence.tracker.update_session(session_id, metadata) {
                    Ok(receipt) => self.owed.update(&receipt, reference),
                    Err(refused) => self.refuse(&refused.reason, reference).await?,
                }
                Ok(())
            }
            ClientFrame::SessionEnd { reason, .. } => self.end(reason, reference).await,
            ClientFrame::SessionStart(_) => {
                let problem = "type: session.start is for files; a connection starts its session by itself";
                self.reject(INVALID_MESSAGE, problem, reference).await
            }
            ClientFrame::Ping => {
                self.keep_alive();
                self.peer.say(ServerFrame::Pong { reference }.to_text()).await
            }
        }
    }

    async fn message(&mut self, message: Message, reference: Option<FrameRef>) -> Result<(), Gone> {
        match self.presence.tracker.track_message(message) {
            Ok(receipt) => {
                self.owed.message(&receipt, reference);
                Ok(())
            }
            Err(refused) => self.refuse(&refused.reason, reference).await,
        }
    }

    /// Ends the session. Its end comes after its messages in the queue, so when it is durable, so are they.
    async fn end(&mut self, reason: Option<String>, reference: Option<FrameRef>) -> Result<(), Gone> {
        let reason = match wire::reason_of_end(reason) {
            Ok(reason) => reason,
            Err(invalid) => return self.reject(INVALID_MESSAGE, invalid.to_string(), reference).await,
        };
        let receipt = match self.presence.tracker.end_session(self.presence.session_id, &reason) {
            Ok(receipt) => receipt,
            Err(reason) => return self.refuse(&reason, reference).await,
        };
        self.has_ended = true;
        let ended = receipt.durable().await;
        // The peer was not heard while we waited, which is not its fault.
        self.last_heard = Instant::now();
        self.answer().await?;
        match ended {
            Ok(figures) => self.peer.say(self.ended(figures, reference)).await,
            Err(why) => self.say_error(why.code(), why.to_string(), reference).await,
        }
    }

    /// Sends every answer that is ready.
    async fn answer(&mut self) -> Result<(), Gone> {
        while let Some(text) = self.owed.next_frame(&self.durability) {
            self.peer.say(text).await?;
        }
        self.peer.flush().await
    }

    async fn ping_or_give_up(&mut self) -> Result<(), Ending> {
        let (now, config) = (Instant::now(), self.state.config());
        let silent_until = self.last_heard + config.peer_timeout;
        if now >= silent_until {
            tracing::debug!(session_id = %self.presence.session_id, "the peer is silent: closing its connection");
            return Err(Ending::Close(close_code::POLICY, "silent for too long"));
        }
        if now >= self.next_ping {
            self.next_ping = now + config.ping_interval;
            self.peer.ping().await?;
        }
        let next = self.next_ping.min(silent_until);
        self.alarm.as_mut().reset(next);
        Ok(())
    }

    /// Answers everything that is owed, ends the session and says so.
    async fn say_goodbye(&mut self) -> Result<(), Gone> {
        self.answer().await?;
        while !self.owed.is_empty() {
            self.durability.changed().await;
            self.answer().await?;
        }
        if self.has_ended {
            return Ok(());
        }
        let Ok(receipt) = self.presence.tracker.end_session(self.presence.session_id, "shutdown") else {
            return Ok(());
        };
        match receipt.durable().await {
            Ok(figures) => self.peer.say(self.ended(figures, None)).await,
            Err(_) => Ok(()),
        }
    }

    fn ended(&self, figures: talktrack::Ended, reference: Option<FrameRef>) -> String {
        let talktrack::Ended { duration_seconds, message_count } = figures;
        let session_id = self.presence.session_id;
        ServerFrame::SessionEnded { session_id, duration_seconds, message_count, reference }.to_text()
    }

    fn keep_alive(&self) {
        self.presence.tracker.keep_alive(self.presence.session_id);
    }

    /// Answers what the tracker refused, and has counted.
    async fn refuse(&mut self, reason: &Reason, reference: Option<FrameRef>) -> Result<(), Gone> {
        self.say_error(reason.code(), reason.to_string(), reference).await
    }

    /// Answers what never reached the tracker, and counts it.
    async fn reject(
        &mut self,
        code: &'static str,
        message: impl Into<String>,
        reference: Option<FrameRef>,
    ) -> Result<(), Gone> {
        self.presence.tracker.count_refusal(code);
        self.say_error(code, message.into(), reference).await
    }

    async fn say_error(
        &mut self,
        code: &str,
        message: String,
        reference: Option<FrameRef>,
    ) -> Result<(), Gone> {
        self.peer.say(ServerFrame::Error { code: code.to_owned(), message, reference }.to_text()).await
    }
}

/// Says why the session cannot be started, and closes.
async fn turn_away(mut peer: Peer, code: &'static str, message: String) {
    let close = match code {
        "unauthorized" | "deleted" => close_code::POLICY,
        "shutting_down" => close_code::AWAY,
        "queue_full" | "journal_full" => close_code::AGAIN,
        _ => close_code::ERROR,
    };
    let error = ServerFrame::Error { code: code.to_owned(), message, reference: None };
    if peer.say(error.to_text()).await.is_ok() {
        peer.close(close, code).await;
    }
}
