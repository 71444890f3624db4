//! The task of one connection: receives frames, hands messages to the tracker, and sends answers as the messages become
//! durable. All memory is bounded: while an answer cannot be sent, the task reads no more frames.

mod frames;

use std::convert::Infallible;
use std::pin::Pin;
use std::time::Duration;

use axum::extract::ws::close_code;
use talktrack::clock::{Clock as _, SystemClock};
use talktrack::{
    ClaimRefusal, Closing, Durability, ErrorCode, NewSession, NotDurable, Reason, Status, Timestamp,
};
use talktrack_protocol::{FrameRef, ServerFrame};
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::connection_guard::ConnectionGuard;
use super::ending::{Ending, reject_connection};
use super::peer::{Disconnected, Peer};
use super::pending_acks::PendingAcks;
use crate::access;
use crate::auth::{Caller, Lease, Notice};
use crate::limits::Meter;
use crate::state::{AppState, Stopping};
use crate::turns::Pace;

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
    guard: ConnectionGuard,
    meter: Meter,
    pace: Pace,
    lease: Lease,
    /// True if the client has ended the session and was told so.
    has_ended: bool,
    pending_acks: PendingAcks,
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
        let session_id = session.session_id;
        let user_id = session.user_id.clone();
        let (guard, resumed) = match ConnectionGuard::start(state, &caller, session).await {
            Ok((guard, started)) => (guard, started.resumed),
            Err((code, why)) => {
                reject_connection(peer, code, why).await;
                return None;
            }
        };
        let greeting = ServerFrame::SessionStarted { session_id, user_id, resumed }.to_text();
        peer.feed(greeting).await.ok()?;
        peer.flush().await.ok()?;
        let now = Instant::now();
        let interval = state.config().ping_interval;
        Some(Self {
            peer,
            caller,
            stopping: state.watch_stop(),
            guard,
            meter,
            pace,
            lease,
            has_ended: false,
            pending_acks: PendingAcks::default(),
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
        let Err(ending) = self.serve().await;
        match ending {
            Ending::Disconnected => {}
            Ending::Close(code, reason) => self.peer.close(code, reason).await,
            Ending::Over(why) => {
                // Accepted messages are durable soon. If the disk takes longer, the client sends them again with a new
                // token.
                let _ = timeout(LAST_WORDS, self.close_unauthorized(why)).await;
            }
            Ending::Stopping => {
                if self.end_on_shutdown().await.is_ok() {
                    self.peer.close(close_code::AWAY, "shutting down").await;
                }
            }
        }
    }

    async fn serve(&mut self) -> Result<Infallible, Ending> {
        loop {
            tokio::select! {
                biased;
                () = self.stopping.wait() => return Err(Ending::Stopping),
                () = self.durability.changed(), if !self.pending_acks.is_empty() => self.send_acks().await?,
                refusal = self.guard.claim.wait_for_refusal() => match refusal {
                    ClaimRefusal::Start(why) => return Err(self.lose_session(why).await?),
                    ClaimRefusal::Records => self.report_dropped_records().await?,
                },
                () = self.alarm.as_mut() => self.check_timers().await?,
                received = self.peer.recv() => self.handle_received_burst(received).await?,
            }
        }
    }

    /// Ends the connection because a remote store refused the session that it claims.
    async fn lose_session(&mut self, why: NotDurable) -> Result<Ending, Disconnected> {
        self.guard.give_up();
        self.has_ended = true;
        let why = access::mask_refusal(&self.caller, why);
        self.send_error(why.code(), why.to_string(), None).await?;
        self.peer.flush().await?;
        Ok(Ending::Close(close_code::POLICY, why.code().as_str()))
    }

    /// Tells the client that the store dropped acknowledged records. The connection stays open.
    async fn report_dropped_records(&mut self) -> Result<(), Disconnected> {
        let why = access::mask_refusal(&self.caller, NotDurable::Deleted);
        self.send_error(why.code(), DROPPED.to_owned(), None).await?;
        self.peer.flush().await
    }

    /// Ends the session. The end is queued after the session's messages, so when the end is durable, the messages are
    /// too.
    async fn end_session(
        &mut self,
        reason: Option<String>,
        ended_at: Option<Timestamp>,
        status: Option<Status>,
        reference: Option<FrameRef>,
    ) -> Result<(), Disconnected> {
        let reason = match talktrack_protocol::reason_of_end(reason) {
            Ok(reason) => reason,
            Err(invalid) => {
                return self.reject_frame(ErrorCode::InvalidMessage, invalid.to_string(), reference).await;
            }
        };
        let ended_at = ended_at.unwrap_or_else(|| SystemClock.now());
        let closing = Closing::new(status.unwrap_or(Status::Ended), &reason, ended_at);
        let receipt = match self.guard.tracker.end_session_as(self.guard.session.clone(), closing) {
            Ok(receipt) => receipt,
            Err(reason) => return self.send_refusal(&reason, reference).await,
        };
        self.has_ended = true;
        let ended = receipt.durable().await;
        // The server did not read while it waited for the disk, so the silence is not the client's fault.
        self.last_heard = Instant::now();
        self.send_acks().await?;
        match ended {
            Ok(figures) => self.peer.feed(self.session_ended_frame(figures, reference)).await,
            Err(why) => {
                let why = access::mask_refusal(&self.caller, why);
                self.send_error(why.code(), why.to_string(), reference).await
            }
        }
    }

    /// Sends every answer that is ready.
    async fn send_acks(&mut self) -> Result<(), Disconnected> {
        while let Some(text) =
            self.pending_acks.next_frame(&self.durability, |why| access::mask_refusal(&self.caller, why))
        {
            self.peer.feed(text).await?;
        }
        self.peer.flush().await
    }

    async fn ping_or_give_up(&mut self) -> Result<(), Ending> {
        let now = Instant::now();
        let config = self.state.config();
        let silent_until = self.last_heard + config.peer_timeout;
        if now >= silent_until {
            tracing::debug!(session_id = %self.guard.session.session_id, "the peer is silent: closing its connection");
            return Err(Ending::Close(close_code::POLICY, "silent for too long"));
        }
        if now >= self.next_ping {
            self.next_ping = now + config.ping_interval;
            self.peer.ping().await?;
        }
        Ok(())
    }

    /// Does what is due by the clock, and sets the alarm for the next due time.
    async fn check_timers(&mut self) -> Result<(), Ending> {
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
                let session_id = self.guard.session.session_id;
                tracing::info!(%session_id, "closing the connection: {why}");
                Err(Ending::Over(why))
            }
        }
    }

    /// Sends all pending answers and the reason why the connection ends, then closes it.
    async fn close_unauthorized(mut self, why: String) -> Result<(), Disconnected> {
        self.send_all_acks().await?;
        self.send_error(ErrorCode::Unauthorized, why, None).await?;
        self.peer.close(close_code::POLICY, ErrorCode::Unauthorized.as_str()).await;
        Ok(())
    }

    /// Renews the lease with another token.
    async fn renew_token(&mut self, token: &str, reference: Option<FrameRef>) -> Result<(), Disconnected> {
        match self.lease.renew(token).await {
            // The next check finds out whether the new token expires soon.
            Ok(()) => {
                self.alarm.as_mut().reset(Instant::now());
                Ok(())
            }
            Err(why) => self.reject_frame(ErrorCode::Unauthorized, why, reference).await,
        }
    }

    /// Waits for all pending answers and sends them.
    async fn send_all_acks(&mut self) -> Result<(), Disconnected> {
        self.send_acks().await?;
        while !self.pending_acks.is_empty() {
            self.durability.changed().await;
            self.send_acks().await?;
        }
        Ok(())
    }

    /// Sends all pending answers, ends the session and tells the client.
    async fn end_on_shutdown(&mut self) -> Result<(), Disconnected> {
        self.send_all_acks().await?;
        if self.has_ended {
            return Ok(());
        }
        let Ok(receipt) = self.guard.tracker.end_session(self.guard.session.clone(), "shutdown") else {
            return Ok(());
        };
        match receipt.durable().await {
            Ok(figures) => self.peer.feed(self.session_ended_frame(figures, None)).await,
            Err(_) => Ok(()),
        }
    }

    fn session_ended_frame(&self, figures: talktrack::Ended, reference: Option<FrameRef>) -> String {
        let talktrack::Ended { duration_seconds, message_count } = figures;
        let session_id = self.guard.session.session_id;
        ServerFrame::SessionEnded { session_id, duration_seconds, message_count, reference }.to_text()
    }

    fn keep_alive(&self) {
        self.guard.tracker.keep_alive(self.guard.session.clone());
    }

    /// Answers a record that the tracker refused. The tracker has counted the refusal.
    async fn send_refusal(
        &mut self,
        reason: &Reason,
        reference: Option<FrameRef>,
    ) -> Result<(), Disconnected> {
        self.send_error(reason.code(), reason.to_string(), reference).await
    }

    /// Answers a frame that never reached the tracker, and counts the refusal.
    async fn reject_frame(
        &mut self,
        code: ErrorCode,
        message: impl Into<String>,
        reference: Option<FrameRef>,
    ) -> Result<(), Disconnected> {
        self.guard.tracker.count_refusal(code);
        self.send_error(code, message.into(), reference).await
    }

    async fn send_error(
        &mut self,
        code: ErrorCode,
        message: String,
        reference: Option<FrameRef>,
    ) -> Result<(), Disconnected> {
        self.peer.feed(ServerFrame::Error { code: code.to_string(), message, reference }.to_text()).await
    }
}
