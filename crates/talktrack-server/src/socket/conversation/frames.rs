//! Handles incoming frames one after the other. Each message waits for its turn.

use axum::extract::ws::close_code;
use talktrack::json::MAX_SESSION_METADATA;
use talktrack::{ErrorCode, Message, SessionChanges};
use talktrack_protocol::{ClientFrame, Frame, FrameRef, ServerFrame, SessionUpdateFrame, Warnings};
use tokio::time::{Instant, sleep_until};

use super::Conversation;
use crate::socket::ending::Ending;
use crate::socket::peer::Received;
use crate::turns::Waiting;

/// The maximum number of frames that are handled before other events of the connection.
const BURST: usize = 64;

impl Conversation {
    /// Handles a frame, and the frames that have already arrived after it.
    pub(super) async fn handle_received_burst(&mut self, received: Received) -> Result<(), Ending> {
        let began = Instant::now();
        self.last_heard = began;
        self.handle_received(received).await?;
        for _ in 1..BURST {
            // After a wait, the other events of the connection come first.
            if self.last_heard != began {
                break;
            }
            let Some(received) = self.peer.try_recv() else { break };
            self.handle_received(received).await?;
        }
        Ok(self.peer.flush().await?)
    }

    async fn handle_received(&mut self, received: Received) -> Result<(), Ending> {
        match received {
            Received::Text(text) => self.handle_frame(&text).await,
            Received::Binary => Ok(self
                .reject_frame(ErrorCode::InvalidMessage, "a frame must be text, not binary", None)
                .await?),
            Received::PingOrPong => {
                self.keep_alive();
                Ok(())
            }
            Received::TooLarge => {
                self.reject_frame(ErrorCode::TooLarge, "a frame must be at most 8 MiB", None).await?;
                Err(Ending::Close(close_code::SIZE, "a frame must be at most 8 MiB"))
            }
            Received::NotUtf8 => Err(Ending::Close(close_code::INVALID, "text must be UTF-8")),
            Received::Garbage => Err(Ending::Close(close_code::PROTOCOL, "not a WebSocket frame")),
            Received::Disconnected => Err(Ending::Disconnected),
        }
    }

    async fn handle_frame(&mut self, text: &str) -> Result<(), Ending> {
        let session_id = self.guard.session.session_id;
        let Frame { body, session_id: named, user_id, reference, warnings, .. } = match Frame::parse(text) {
            Ok(frame) => frame,
            Err(error) => return Ok(self.reject_frame(error.code, error.message, error.reference).await?),
        };
        if named.is_some_and(|named| named != session_id) {
            let problem = "session_id: is not the session of this connection";
            return Ok(self.reject_frame(ErrorCode::InvalidMessage, problem, reference).await?);
        }
        if user_id.is_some_and(|user_id| Some(&user_id) != self.guard.session.user_id.as_ref()) {
            let problem = "user_id: is not the user of this session";
            return Ok(self.reject_frame(ErrorCode::InvalidMessage, problem, reference).await?);
        }
        if let Err(wait) = self.meter.take(text.len()) {
            return Ok(self.reject_frame(ErrorCode::RateLimited, wait.describe(), reference).await?);
        }
        let writes = matches!(body, ClientFrame::Message(_) | ClientFrame::SessionUpdate(_));
        if writes && let Err(problem) = self.meter.check_dead_letters() {
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
            ClientFrame::Auth { token } => Ok(self.renew_token(token.reveal(), reference).await?),
            ClientFrame::Ping => {
                self.keep_alive();
                Ok(self.peer.feed(ServerFrame::Pong { reference }.to_text()).await?)
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
                self.pace.record_sent(receipt.seq(), bytes);
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
        let metadata = update.metadata.unwrap_or_default();
        let changes = SessionChanges::new().with_metadata(metadata).with_dimensions(update.dimensions);
        match self.guard.tracker.update_session(self.guard.session.clone(), changes) {
            Ok(receipt) => {
                // An update writes the whole metadata of the session again, so it counts with their maximum size.
                self.pace.record_sent(receipt.seq(), MAX_SESSION_METADATA);
                self.pending_acks.push_update(&receipt, reference);
                Ok(())
            }
            Err(refused) => Ok(self.send_refusal(&refused.reason, reference).await?),
        }
    }

    /// Waits until this session may hand over a record with this many bytes of text. Meanwhile sends answers that
    /// become ready and does what is due by the clock. If the server shuts down, the waiting record is neither handed
    /// over nor acknowledged.
    async fn wait_for_turn(&mut self, bytes: usize) -> Result<(), Ending> {
        let waiting = Waiting::new(bytes);
        while let Some(until) = self.pace.next_look(&waiting, &self.durability) {
            tokio::select! {
                biased;
                () = self.stopping.wait() => return Err(Ending::Stopping),
                () = self.durability.changed() => self.send_acks().await?,
                () = self.alarm.as_mut() => {
                    self.last_heard = Instant::now();
                    self.check_timers().await?;
                }
                () = sleep_until(until.into()) => {}
            }
            // The server does not read while it waits for the turn, so the silence is not the client's fault.
            self.last_heard = Instant::now();
        }
        Ok(())
    }
}
