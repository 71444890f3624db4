//! The task of one connection: receives frames, hands messages to the tracker, and sends answers as the messages become
//! durable. All memory is bounded: while an answer cannot be sent, the task reads no more frames.

mod frames;

use std::convert::Infallible;

use axum::extract::ws::close_code;
use talktrack::clock::{Clock as _, SystemClock};
use talktrack::{ClaimRefusal, Closing, ErrorCode, NewSession, NotDurable, Reason, Status, Timestamp};
use talktrack_protocol::{FrameRef, ServerFrame};
use tokio::time::{Instant, timeout};

use super::connection_guard::ConnectionGuard;
use super::ending::{DROPPED, Ending, LAST_WORDS, reject_connection};
use super::link::Link;
use super::peer::Disconnected;
use super::pending_acks::PendingAcks;
use crate::access;

pub(super) struct Conversation {
    link: Link,
    guard: ConnectionGuard,
    /// True if the client has ended the session and was told so.
    has_ended: bool,
    pending_acks: PendingAcks,
}

impl Conversation {
    /// Starts the session and sends the greeting. If the session cannot be started, tells the client why, closes the
    /// connection and returns `None`.
    pub(super) async fn start(mut link: Link, session: NewSession) -> Option<Self> {
        let session_id = session.session_id;
        let user_id = session.user_id.clone();
        let (guard, resumed) = match ConnectionGuard::start(&link.state, &link.caller, session).await {
            Ok((guard, started)) => (guard, started.resumed),
            Err((code, why)) => {
                reject_connection(link.peer, code, why).await;
                return None;
            }
        };
        let greeting = ServerFrame::SessionStarted {
            session_id,
            user_id,
            resumed,
            repeated: false,
            warnings: Vec::new(),
            reference: None,
        };
        link.send(&greeting).await.ok()?;
        link.peer.flush().await.ok()?;
        // The server did not read while it waited for the disk, so the silence is not the client's fault.
        link.last_heard = Instant::now();
        Some(Self { link, guard, has_ended: false, pending_acks: PendingAcks::default() })
    }

    /// Runs until the client or the server ends the connection.
    pub(super) async fn run(mut self) {
        let Err(ending) = self.serve().await;
        match ending {
            Ending::Disconnected => {}
            Ending::Close(code, reason) => self.link.peer.close(code, reason).await,
            Ending::Over(why) => {
                // Accepted messages are durable soon. If the disk takes longer, the client sends them again with a new
                // token.
                let _ = timeout(LAST_WORDS, self.close_unauthorized(why)).await;
            }
            Ending::Stopping => {
                if self.end_on_shutdown().await.is_ok() {
                    self.link.peer.close(close_code::AWAY, "shutting down").await;
                }
            }
        }
    }

    async fn serve(&mut self) -> Result<Infallible, Ending> {
        loop {
            tokio::select! {
                biased;
                () = self.link.stopping.wait() => return Err(Ending::Stopping),
                () = self.link.durability.changed(), if !self.pending_acks.is_empty() => self.send_acks().await?,
                refusal = self.guard.claim.wait_for_refusal() => match refusal {
                    ClaimRefusal::Start(why) => return Err(self.lose_session(why).await?),
                    ClaimRefusal::Records => self.report_dropped_records().await?,
                },
                () = self.link.alarm.as_mut() => self.link.check_timers().await?,
                received = self.link.peer.recv() => self.handle_received_burst(received).await?,
            }
        }
    }

    /// Ends the connection because a remote store refused the session that it claims.
    async fn lose_session(&mut self, why: NotDurable) -> Result<Ending, Disconnected> {
        self.guard.give_up();
        self.has_ended = true;
        let why = access::mask_refusal(&self.link.caller, why);
        self.link.send_error(why.code(), why.to_string(), None, None).await?;
        self.link.peer.flush().await?;
        Ok(Ending::Close(close_code::POLICY, why.code().as_str()))
    }

    /// Tells the client that the store dropped acknowledged records. The connection stays open.
    async fn report_dropped_records(&mut self) -> Result<(), Disconnected> {
        let why = access::mask_refusal(&self.link.caller, NotDurable::Deleted);
        self.link.send_error(why.code(), DROPPED.to_owned(), None, None).await?;
        self.link.peer.flush().await
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
        self.link.last_heard = Instant::now();
        self.send_acks().await?;
        match ended {
            Ok(figures) => self.link.send(&self.session_ended_frame(figures, reference)).await,
            Err(why) => {
                let why = access::mask_refusal(&self.link.caller, why);
                self.link.send_error(why.code(), why.to_string(), reference, None).await
            }
        }
    }

    /// Sends every answer that is ready.
    async fn send_acks(&mut self) -> Result<(), Disconnected> {
        while let Some(text) = self
            .pending_acks
            .next_frame(&self.link.durability, |why| access::mask_refusal(&self.link.caller, why))
        {
            self.link.peer.feed(text).await?;
        }
        self.link.peer.flush().await
    }

    /// Sends all pending answers and the reason why the connection ends, then closes it.
    async fn close_unauthorized(mut self, why: String) -> Result<(), Disconnected> {
        self.send_all_acks().await?;
        self.link.close_unauthorized(why).await
    }

    /// Waits for all pending answers and sends them.
    async fn send_all_acks(&mut self) -> Result<(), Disconnected> {
        self.send_acks().await?;
        while !self.pending_acks.is_empty() {
            self.link.durability.changed().await;
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
            Ok(figures) => self.link.send(&self.session_ended_frame(figures, None)).await,
            Err(_) => Ok(()),
        }
    }

    fn session_ended_frame(&self, figures: talktrack::Ended, reference: Option<FrameRef>) -> ServerFrame {
        let talktrack::Ended { duration_seconds, message_count } = figures;
        let session_id = self.guard.session.session_id;
        ServerFrame::SessionEnded { session_id, duration_seconds, message_count, reference }
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
        self.link.send_error(reason.code(), reason.to_string(), reference, None).await
    }

    async fn reject_frame(
        &mut self,
        code: ErrorCode,
        message: impl Into<String>,
        reference: Option<FrameRef>,
    ) -> Result<(), Disconnected> {
        self.link.reject_frame(code, message, reference, None).await
    }
}
