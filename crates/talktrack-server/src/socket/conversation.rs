//! The task of one connection: receives frames, hands messages to the tracker, and sends answers as the messages become
//! durable. All memory is bounded: while an answer cannot be sent, the task reads no more frames.

mod frames;

use std::convert::Infallible;
use std::pin::Pin;
use std::time::Duration;

use axum::extract::ws::close_code;
use talktrack::error::Reason;
use talktrack::{ClaimRefusal, Durability, NewSession, NotDurable, Started};
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::ending::{Ending, turn_away};
use super::owed::Owed;
use super::peer::{Gone, Peer};
use super::presence::Presence;
use crate::access;
use crate::auth::{Caller, Lease, Notice};
use crate::limits::Meter;
use crate::state::{AppState, Stopping};
use crate::turns::Pace;
use crate::wire::{self, FrameRef, INVALID_MESSAGE, ServerFrame};

/// How long the last answers and the close handshake may take when the connection must end.
const LAST_WORDS: Duration = Duration::from_secs(20);

/// What the client is told if the store dropped a record that was acknowledged.
const DROPPED: &str =
    "something that was acknowledged is not stored: the session or its user was deleted meanwhile";

pub(super) struct Conversation {
    peer: Peer,
    state: AppState,
    caller: Caller,
    stopping: Stopping,
    presence: Presence,
    meter: Meter,
    pace: Pace,
    lease: Lease,
    /// True if the client has ended the session and was told so.
    has_ended: bool,
    owed: Owed,
    durability: Durability,
    last_heard: Instant,
    next_ping: Instant,
    /// Fires when a ping is due, the client has been silent for too long, or the lease must be checked.
    alarm: Pin<Box<Sleep>>,
}

impl Conversation {
    /// Starts the session and sends the greeting. If the session cannot be started, tells the client why, closes the
    /// connection and returns `None`.
    pub(super) async fn start(
        mut peer: Peer,
        state: &AppState,
        caller: Caller,
        session: NewSession,
        (meter, pace): (Meter, Pace),
        lease: Lease,
    ) -> Option<Self> {
        let (session_id, user_id) = (session.session_id, session.user_id);
        let (presence, resumed) = match Presence::begin(state, &caller, session).await {
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
            caller,
            stopping: state.watch_stop(),
            presence,
            meter,
            pace,
            lease,
            has_ended: false,
            owed: Owed::default(),
            durability: state.tracker().durability(),
            state: state.clone(),
            last_heard: now,
            next_ping: now + interval,
            // The first check of the lease is due immediately.
            alarm: Box::pin(sleep_until(now)),
        })
    }

    /// Runs until the client or the server ends the connection.
    pub(super) async fn run(mut self) {
        let Err(ending) = self.talk().await;
        match ending {
            Ending::Gone => {}
            Ending::Close(code, reason) => self.peer.close(code, reason).await,
            Ending::Over(why) => {
                // Accepted messages are durable soon. If the disk takes longer, the client sends them again with a new
                // token.
                let _ = timeout(LAST_WORDS, self.dismiss(why)).await;
            }
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
                refusal = self.presence.claim.wait_for_refusal() => match refusal {
                    ClaimRefusal::Start(why) => return Err(self.lose_session(why).await?),
                    ClaimRefusal::Records => self.tell_of_dropped_records().await?,
                },
                () = self.alarm.as_mut() => self.watch().await?,
                heard = self.peer.hear() => self.listen(heard).await?,
            }
        }
    }

    /// Ends the connection because a remote store refused the session that it claims.
    async fn lose_session(&mut self, why: NotDurable) -> Result<Ending, Gone> {
        self.presence.give_up();
        self.has_ended = true;
        let why = access::refusal(&self.caller, why);
        self.say_error(why.code(), why.to_string(), None).await?;
        self.peer.flush().await?;
        Ok(Ending::Close(close_code::POLICY, why.code()))
    }

    /// Tells the client that the store dropped acknowledged records. The connection stays open.
    async fn tell_of_dropped_records(&mut self) -> Result<(), Gone> {
        let why = access::refusal(&self.caller, NotDurable::Deleted);
        self.say_error(why.code(), DROPPED.to_owned(), None).await?;
        self.peer.flush().await
    }

    /// Ends the session. The end is queued after the session's messages, so when the end is durable, the messages are
    /// too.
    async fn end(&mut self, reason: Option<String>, reference: Option<FrameRef>) -> Result<(), Gone> {
        let reason = match wire::reason_of_end(reason) {
            Ok(reason) => reason,
            Err(invalid) => return self.reject(INVALID_MESSAGE, invalid.to_string(), reference).await,
        };
        let receipt = match self.presence.tracker.end_session(self.presence.session, &reason) {
            Ok(receipt) => receipt,
            Err(reason) => return self.refuse(&reason, reference).await,
        };
        self.has_ended = true;
        let ended = receipt.durable().await;
        // The server did not read while it waited for the disk, so the silence is not the client's fault.
        self.last_heard = Instant::now();
        self.answer().await?;
        match ended {
            Ok(figures) => self.peer.say(self.ended(figures, reference)).await,
            Err(why) => {
                let why = access::refusal(&self.caller, why);
                self.say_error(why.code(), why.to_string(), reference).await
            }
        }
    }

    /// Sends every answer that is ready.
    async fn answer(&mut self) -> Result<(), Gone> {
        while let Some(text) =
            self.owed.next_frame(&self.durability, |why| access::refusal(&self.caller, why))
        {
            self.peer.say(text).await?;
        }
        self.peer.flush().await
    }

    async fn ping_or_give_up(&mut self) -> Result<(), Ending> {
        let (now, config) = (Instant::now(), self.state.config());
        let silent_until = self.last_heard + config.peer_timeout;
        if now >= silent_until {
            tracing::debug!(session_id = %self.presence.session.session_id, "the peer is silent: closing its connection");
            return Err(Ending::Close(close_code::POLICY, "silent for too long"));
        }
        if now >= self.next_ping {
            self.next_ping = now + config.ping_interval;
            self.peer.ping().await?;
        }
        Ok(())
    }

    /// Does what is due by the clock, and sets the alarm for the next due time.
    async fn watch(&mut self) -> Result<(), Ending> {
        if self.lease.next_look().is_some_and(|next| Instant::now() >= next) {
            self.look_at_lease().await?;
        }
        self.ping_or_give_up().await?;
        let silent_until = self.last_heard + self.state.config().peer_timeout;
        let next = self.next_ping.min(silent_until);
        let next = self.lease.next_look().map_or(next, |look| look.min(next));
        self.alarm.as_mut().reset(next);
        Ok(())
    }

    /// Warns the client before its token or key expires, and ends the connection when it has expired.
    async fn look_at_lease(&mut self) -> Result<(), Ending> {
        match self.lease.look() {
            None => Ok(()),
            Some(Notice::Expiring(expires_at)) => {
                self.peer.say(ServerFrame::TokenExpiring { expires_at }.to_text()).await?;
                Ok(self.peer.flush().await?)
            }
            Some(Notice::Over(why)) => {
                let session_id = self.presence.session.session_id;
                tracing::info!(%session_id, "closing the connection: {why}");
                Err(Ending::Over(why))
            }
        }
    }

    /// Sends all pending answers and the reason why the connection ends, then closes it.
    async fn dismiss(mut self, why: String) -> Result<(), Gone> {
        self.answer_all().await?;
        self.say_error("unauthorized", why, None).await?;
        self.peer.close(close_code::POLICY, "unauthorized").await;
        Ok(())
    }

    /// Renews the lease with another token.
    async fn renew(&mut self, token: &str, reference: Option<FrameRef>) -> Result<(), Gone> {
        match self.lease.renew(token).await {
            // The next check finds out whether the new token expires soon.
            Ok(()) => {
                self.alarm.as_mut().reset(Instant::now());
                Ok(())
            }
            Err(why) => self.reject("unauthorized", why, reference).await,
        }
    }

    /// Waits for all pending answers and sends them.
    async fn answer_all(&mut self) -> Result<(), Gone> {
        self.answer().await?;
        while !self.owed.is_empty() {
            self.durability.changed().await;
            self.answer().await?;
        }
        Ok(())
    }

    /// Sends all pending answers, ends the session and tells the client.
    async fn say_goodbye(&mut self) -> Result<(), Gone> {
        self.answer_all().await?;
        if self.has_ended {
            return Ok(());
        }
        let Ok(receipt) = self.presence.tracker.end_session(self.presence.session, "shutdown") else {
            return Ok(());
        };
        match receipt.durable().await {
            Ok(figures) => self.peer.say(self.ended(figures, None)).await,
            Err(_) => Ok(()),
        }
    }

    fn ended(&self, figures: talktrack::Ended, reference: Option<FrameRef>) -> String {
        let talktrack::Ended { duration_seconds, message_count } = figures;
        let session_id = self.presence.session.session_id;
        ServerFrame::SessionEnded { session_id, duration_seconds, message_count, reference }.to_text()
    }

    fn keep_alive(&self) {
        self.presence.tracker.keep_alive(self.presence.session);
    }

    /// Answers a record that the tracker refused. The tracker has counted the refusal.
    async fn refuse(&mut self, reason: &Reason, reference: Option<FrameRef>) -> Result<(), Gone> {
        self.say_error(reason.code(), reason.to_string(), reference).await
    }

    /// Answers a frame that never reached the tracker, and counts the refusal.
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
