//! Handles incoming frames one after the other. Each message waits for its turn.

use talktrack::json::MAX_SESSION_METADATA;
use talktrack::{ErrorCode, Message};
use talktrack_protocol::{ClientFrame, Frame, FrameRef, ServerFrame, SessionUpdateFrame, Warnings};
use tokio::time::Instant;

use super::Conversation;
use crate::access;
use crate::session_frames::to_changes;
use crate::socket::BURST;
use crate::socket::ending::Ending;
use crate::socket::link::{Heard, Wake};
use crate::socket::peer::Received;
use crate::turns::Waiting;

impl Conversation {
    /// Handles a frame, and the frames that have already arrived after it.
    pub(super) async fn handle_received_burst(&mut self, received: Received) -> Result<(), Ending> {
        let began = Instant::now();
        self.link.last_heard = began;
        self.handle_received(received).await?;
        for _ in 1..BURST {
            // After a wait, the other events of the connection come first.
            if self.link.last_heard != began {
                break;
            }
            let Some(received) = self.link.peer.try_recv() else { break };
            self.handle_received(received).await?;
        }
        Ok(self.link.peer.flush().await?)
    }

    async fn handle_received(&mut self, received: Received) -> Result<(), Ending> {
        match self.link.take_text(received).await? {
            Heard::Text(text) => self.handle_frame(&text).await,
            Heard::Alive => {
                self.keep_alive();
                Ok(())
            }
            Heard::Refused => Ok(()),
        }
    }

    async fn handle_frame(&mut self, text: &str) -> Result<(), Ending> {
        let session_id = self.guard.session.session_id;
        let Frame { body, session_id: named, user_id, reference, warnings, .. } = match Frame::parse(text) {
            Ok(frame) => frame,
            Err(error) => return Ok(self.reject_frame(error.code, error.message, error.reference).await?),
        };
        if named.is_some_and(|named| !access::can_mean(&self.link.caller, &named, session_id)) {
            let problem = "session_id: is not the session of this connection";
            return Ok(self.reject_frame(ErrorCode::InvalidMessage, problem, reference).await?);
        }
        if user_id.is_some_and(|user_id| Some(&user_id) != self.guard.session.user_id.as_ref()) {
            let problem = "user_id: is not the user of this session";
            return Ok(self.reject_frame(ErrorCode::InvalidMessage, problem, reference).await?);
        }
        if let Err(wait) = self.link.meter.take(text.len()) {
            return Ok(self.reject_frame(ErrorCode::RateLimited, wait.describe(), reference).await?);
        }
        let writes = matches!(body, ClientFrame::Message(_) | ClientFrame::SessionUpdate(_));
        if writes && let Err(problem) = self.link.meter.check_dead_letters() {
            return Ok(self.reject_frame(problem.code(), problem.into_detail(), reference).await?);
        }
        match body {
            ClientFrame::Message(message) => {
                self.track_message(message.in_session(session_id), reference, warnings).await
            }
            ClientFrame::SessionUpdate(update) => self.update_session(update, reference).await,
            ClientFrame::SessionEnd { reason, ended_at, status } => {
                Ok(self.end_session(reason, ended_at, status, reference).await?)
            }
            ClientFrame::SessionStart(_) => {
                let problem = "type: session.start is only for files; a connection starts its session itself";
                Ok(self.reject_frame(ErrorCode::InvalidMessage, problem, reference).await?)
            }
            ClientFrame::Auth { token } => Ok(self.link.renew_token(token.reveal(), reference).await?),
            ClientFrame::Ping => {
                self.keep_alive();
                Ok(self.link.send(&ServerFrame::Pong { reference }).await?)
            }
        }
    }

    async fn track_message(
        &mut self,
        message: Message,
        reference: Option<FrameRef>,
        warnings: Warnings,
    ) -> Result<(), Ending> {
        let bytes = message.heap_bytes();
        self.wait_for_turn(bytes).await?;
        match self.guard.tracker.track_message_as(message, &self.guard.author) {
            Ok(receipt) => {
                self.link.pace.record_sent(receipt.seq(), bytes);
                self.pending_acks.push_message(&receipt, reference, warnings);
                Ok(())
            }
            Err(refused) => Ok(self.send_refusal(&refused.reason, reference).await?),
        }
    }

    async fn update_session(
        &mut self,
        update: SessionUpdateFrame,
        reference: Option<FrameRef>,
    ) -> Result<(), Ending> {
        self.wait_for_turn(MAX_SESSION_METADATA).await?;
        let changes = to_changes(update);
        match self.guard.tracker.update_session(self.guard.session.clone(), changes) {
            Ok(receipt) => {
                // An update writes the whole metadata of the session again, so it counts with their maximum size.
                self.link.pace.record_sent(receipt.seq(), MAX_SESSION_METADATA);
                self.pending_acks.push_update(&receipt, reference);
                Ok(())
            }
            Err(refused) => Ok(self.send_refusal(&refused.reason, reference).await?),
        }
    }

    /// Waits until this session may hand over a record with this many bytes of text. Meanwhile sends answers that
    /// become ready.
    async fn wait_for_turn(&mut self, bytes: usize) -> Result<(), Ending> {
        let waiting = Waiting::new(bytes);
        while let Some(wake) = self.link.wait_for_turn(&waiting).await? {
            if matches!(wake, Wake::Durable) {
                self.send_acks().await?;
            }
        }
        Ok(())
    }
}
