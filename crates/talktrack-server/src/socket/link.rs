//! One open WebSocket without its session: the client's end, the limits of the caller, and everything that is due by the
//! clock. A connection of one session and a feed of many both consist of a link and what they know of sessions.

use std::future::Future;
use std::pin::{Pin, pin};

use axum::extract::ws::{Utf8Bytes, close_code};
use talktrack::{Durability, ErrorCode, SessionId};
use talktrack_protocol::{FrameRef, ServerFrame, SessionName};
use tokio::time::{Instant, Sleep, sleep_until};

use super::ending::Ending;
use super::peer::{Disconnected, Peer, Received};
use crate::auth::{Caller, Lease, Notice};
use crate::limits::Meter;
use crate::state::{AppState, Stopping};
use crate::turns::{Pace, Waiting};

/// An open WebSocket.
pub(super) struct Link {
    /// The session, for the log; `None` for a feed.
    session_id: Option<SessionId>,
    pub(super) peer: Peer,
    pub(super) state: AppState,
    pub(super) caller: Caller,
    pub(super) stopping: Stopping,
    pub(super) meter: Meter,
    pub(super) pace: Pace,
    pub(super) durability: Durability,
    lease: Lease,
    pub(super) last_heard: Instant,
    next_ping: Instant,
    /// Fires when a ping is due, the client has been silent for too long, or the lease must be checked.
    pub(super) alarm: Pin<Box<Sleep>>,
}

/// What a frame is, before its text is read.
pub(super) enum Heard {
    Text(Utf8Bytes),
    /// A WebSocket ping or pong.
    Alive,
    /// A frame that was refused.
    Refused,
}

/// Why a wait has ended.
pub(super) enum Wake<T> {
    /// What was waited for.
    Done(T),
    /// More has become durable: answers may be due.
    Durable,
}

impl Link {
    pub(super) fn new(
        session_id: Option<SessionId>,
        peer: Peer,
        state: &AppState,
        caller: Caller,
        (meter, pace): (Meter, Pace),
        lease: Lease,
    ) -> Self {
        let now = Instant::now();
        Self {
            session_id,
            peer,
            caller,
            stopping: state.watch_stop(),
            meter,
            pace,
            lease,
            durability: state.tracker().durability(),
            state: state.clone(),
            last_heard: now,
            next_ping: now + state.config().ping_interval,
            // The first check of the lease is due immediately.
            alarm: Box::pin(sleep_until(now)),
        }
    }

    /// Returns the text of a frame. Refuses a frame that is not text.
    ///
    /// # Errors
    /// The connection ends if nothing can be received after the frame.
    pub(super) async fn take_text(&mut self, received: Received) -> Result<Heard, Ending> {
        match received {
            Received::Text(text) => Ok(Heard::Text(text)),
            Received::Binary => {
                let problem = "a frame must be text, not binary";
                self.reject_frame(ErrorCode::InvalidMessage, problem, None, None).await?;
                Ok(Heard::Refused)
            }
            Received::PingOrPong => Ok(Heard::Alive),
            Received::TooLarge => {
                let problem = "a frame must be at most 8 MiB";
                self.reject_frame(ErrorCode::TooLarge, problem, None, None).await?;
                Err(Ending::Close(close_code::SIZE, problem))
            }
            Received::NotUtf8 => Err(Ending::Close(close_code::INVALID, "text must be UTF-8")),
            Received::Garbage => Err(Ending::Close(close_code::PROTOCOL, "not a WebSocket frame")),
            Received::Disconnected => Err(Ending::Disconnected),
        }
    }

    /// Waits for the result of `work`, or until more has become durable. Meanwhile does what is due by the clock. The
    /// server does not read during the wait, so the silence is not the client's fault.
    ///
    /// # Errors
    /// The connection ends.
    pub(super) async fn wait_for<T>(&mut self, work: impl Future<Output = T>) -> Result<Wake<T>, Ending> {
        let mut work = pin!(work);
        loop {
            let wake = tokio::select! {
                biased;
                () = self.stopping.wait() => return Err(Ending::Stopping),
                () = self.durability.changed() => Wake::Durable,
                done = work.as_mut() => Wake::Done(done),
                () = self.alarm.as_mut() => {
                    self.last_heard = Instant::now();
                    self.check_timers().await?;
                    continue;
                }
            };
            self.last_heard = Instant::now();
            return Ok(wake);
        }
    }

    /// Waits until this sender may hand over the record, until it is time to look again, or until more has become
    /// durable. Returns `None` if the record may be handed over now. If the server shuts down, the waiting record is
    /// neither handed over nor acknowledged.
    ///
    /// # Errors
    /// The connection ends.
    pub(super) async fn wait_for_turn(&mut self, waiting: &Waiting) -> Result<Option<Wake<()>>, Ending> {
        match self.pace.next_look(waiting, &self.durability) {
            Some(until) => self.wait_for(sleep_until(until.into())).await.map(Some),
            None => Ok(None),
        }
    }

    async fn ping_or_give_up(&mut self) -> Result<(), Ending> {
        let now = Instant::now();
        let config = self.state.config();
        if now >= self.last_heard + config.peer_timeout {
            let session_id = self.session_id.map(tracing::field::display);
            tracing::debug!(session_id, "the peer is silent: closing its connection");
            return Err(Ending::Close(close_code::POLICY, "silent for too long"));
        }
        if now >= self.next_ping {
            self.next_ping = now + config.ping_interval;
            self.peer.ping().await?;
        }
        Ok(())
    }

    /// Does what is due by the clock, and sets the alarm for the next due time.
    pub(super) async fn check_timers(&mut self) -> Result<(), Ending> {
        if self.lease.next_check().is_some_and(|next| Instant::now() >= next) {
            self.check_lease().await?;
        }
        self.ping_or_give_up().await?;
        let silent_until = self.last_heard + self.state.config().peer_timeout;
        let next = self.next_ping.min(silent_until);
        let next = self.lease.next_check().map_or(next, |look| look.min(next));
        self.alarm.as_mut().reset(next);
        Ok(())
    }

    /// Warns the client before its token or key expires, and ends the connection when it has expired.
    async fn check_lease(&mut self) -> Result<(), Ending> {
        match self.lease.check() {
            None => Ok(()),
            Some(Notice::Expiring(expires_at)) => {
                self.peer.feed(ServerFrame::TokenExpiring { expires_at }.to_text()).await?;
                Ok(self.peer.flush().await?)
            }
            Some(Notice::Over(why)) => {
                let session_id = self.session_id.map(tracing::field::display);
                tracing::info!(session_id, "closing the connection: {why}");
                Err(Ending::Over(why))
            }
        }
    }

    /// Renews the lease with another token.
    pub(super) async fn renew_token(
        &mut self,
        token: &str,
        reference: Option<FrameRef>,
    ) -> Result<(), Disconnected> {
        match self.lease.renew(token).await {
            // The next check finds out whether the new token expires soon.
            Ok(()) => {
                self.alarm.as_mut().reset(Instant::now());
                Ok(())
            }
            Err(why) => self.reject_frame(ErrorCode::Unauthorized, why, reference, None).await,
        }
    }

    /// Sends the reason why the connection ends, and closes it.
    pub(super) async fn close_unauthorized(mut self, why: String) -> Result<(), Disconnected> {
        self.send_error(ErrorCode::Unauthorized, why, None, None).await?;
        self.peer.close(close_code::POLICY, ErrorCode::Unauthorized.as_str()).await;
        Ok(())
    }

    /// Answers a frame that never reached the tracker, and counts the refusal. `session_id` is the session that the frame
    /// names, where there are several.
    pub(super) async fn reject_frame(
        &mut self,
        code: ErrorCode,
        message: impl Into<String>,
        reference: Option<FrameRef>,
        session_id: Option<SessionName>,
    ) -> Result<(), Disconnected> {
        self.state.tracker().count_refusal(code);
        self.send_error(code, message.into(), reference, session_id).await
    }

    pub(super) async fn send_error(
        &mut self,
        code: ErrorCode,
        message: String,
        reference: Option<FrameRef>,
        session_id: Option<SessionName>,
    ) -> Result<(), Disconnected> {
        self.send(&ServerFrame::Error { code: code.to_string(), message, reference, session_id }).await
    }

    pub(super) async fn send(&mut self, frame: &ServerFrame) -> Result<(), Disconnected> {
        self.peer.feed(frame.to_text()).await
    }
}
