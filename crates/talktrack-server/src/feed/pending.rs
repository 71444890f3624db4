//! The answer to a frame that was handed over. It is due when what the frame asked for is durable.

use talktrack::clock::Seq;
use talktrack::{
    Durability, Ended, MessageId, NotDurable, Receipt, RecordReceipt, SessionId, SessionReceipt, Started,
    UserId,
};
use talktrack_protocol::{Ack, FrameRef, ServerFrame};

use super::Feed;
use crate::access;

/// An answer that is not due yet.
pub(crate) struct Pending {
    pub(super) session_id: SessionId,
    pub(super) reference: Option<FrameRef>,
    pub(super) awaited: Awaited,
}

pub(super) enum Awaited {
    Start {
        receipt: SessionReceipt<Started>,
        user_id: UserId,
    },
    /// A start that changed nothing.
    Repeated {
        /// The start of the session on this feed. The repeated start is answered after it.
        seq: Option<Seq>,
        user_id: UserId,
        warnings: Vec<String>,
    },
    Message {
        receipt: Receipt,
        warnings: Vec<String>,
    },
    Update(RecordReceipt),
    End(SessionReceipt<Ended>),
}

impl Pending {
    /// Returns the place of the record in the order of acceptance; `None` if nothing has to become durable.
    pub(crate) fn seq(&self) -> Option<Seq> {
        match &self.awaited {
            Awaited::Start { receipt, .. } => Some(receipt.seq()),
            Awaited::Repeated { seq, .. } => *seq,
            Awaited::Message { receipt, .. } => Some(receipt.seq()),
            Awaited::Update(receipt) => Some(receipt.seq()),
            Awaited::End(receipt) => Some(receipt.seq()),
        }
    }

    /// True if neither the queue nor the disk bounds how many of these wait at once.
    pub(crate) fn is_unbounded(&self) -> bool {
        matches!(self.awaited, Awaited::Repeated { .. } | Awaited::End(_))
    }

    /// Returns the receipt of a record that can be followed to the store.
    pub(crate) fn receipt(&self) -> Option<&RecordReceipt> {
        match &self.awaited {
            Awaited::Message { receipt, .. } => Some(receipt.as_record()),
            Awaited::Update(receipt) => Some(receipt),
            Awaited::Start { .. } | Awaited::Repeated { .. } | Awaited::End(_) => None,
        }
    }

    /// Returns the session and the `ref` of the frame.
    pub(crate) fn subject(&self) -> (SessionId, Option<&FrameRef>) {
        (self.session_id, self.reference.as_ref())
    }

    /// Returns the id of the message and the warnings about it, if the frame is a message.
    pub(crate) fn message(&self) -> Option<(MessageId, &[String])> {
        let Awaited::Message { receipt, warnings } = &self.awaited else { return None };
        Some((receipt.id(), warnings))
    }

    /// True if the frame is an update of a session.
    pub(crate) fn is_update(&self) -> bool {
        matches!(self.awaited, Awaited::Update(_))
    }

    /// Waits until what the frame asked for is durable, and returns the answer.
    pub(crate) async fn answer(self, feed: &mut Feed, durability: &mut Durability) -> ServerFrame {
        let Self { session_id, reference, .. } = &self;
        let (session_id, reference) = (*session_id, reference.clone());
        match self.wait(feed, durability).await {
            Ok(frame) => frame,
            Err(why) => {
                let why = access::mask_refusal(feed.caller(), why);
                ServerFrame::Error {
                    code: why.code().to_string(),
                    message: why.to_string(),
                    reference,
                    session_id: Some(session_id.into()),
                }
            }
        }
    }

    async fn wait(self, feed: &mut Feed, durability: &mut Durability) -> Result<ServerFrame, NotDurable> {
        let Self { session_id, reference, awaited } = self;
        match awaited {
            Awaited::Start { receipt, user_id } => {
                let seq = receipt.seq();
                let started =
                    receipt.durable().await.inspect_err(|why| feed.forget(session_id, seq, *why))?;
                let resumed = started.resumed;
                Ok(started_frame(session_id, user_id, resumed, None, reference))
            }
            Awaited::Repeated { seq, user_id, warnings } => {
                if let Some(seq) = seq {
                    durability.wait(seq).await?;
                }
                Ok(started_frame(session_id, user_id, false, Some(warnings), reference))
            }
            Awaited::Message { receipt, warnings } => {
                durability.wait(receipt.seq()).await?;
                let ack = Ack::new(receipt.id(), reference).in_session(session_id).with_warnings(warnings);
                Ok(ServerFrame::Ack { acks: vec![ack] })
            }
            Awaited::Update(receipt) => {
                durability.wait(receipt.seq()).await?;
                Ok(ServerFrame::SessionUpdated { session_id, reference })
            }
            Awaited::End(receipt) => {
                let seq = receipt.seq();
                let ended = receipt.durable().await;
                feed.close(session_id, seq);
                Ok(ended_frame(session_id, ended?, reference))
            }
        }
    }
}

/// Makes the answer to a start. `repeated` has the warnings of a start that changed nothing.
fn started_frame(
    session_id: SessionId,
    user_id: UserId,
    resumed: bool,
    repeated: Option<Vec<String>>,
    reference: Option<FrameRef>,
) -> ServerFrame {
    let is_repeated = repeated.is_some();
    let warnings = repeated.unwrap_or_default();
    ServerFrame::SessionStarted { session_id, user_id, resumed, repeated: is_repeated, warnings, reference }
}

/// Makes the answer to an end.
pub(crate) fn ended_frame(session_id: SessionId, ended: Ended, reference: Option<FrameRef>) -> ServerFrame {
    let Ended { duration_seconds, message_count } = ended;
    ServerFrame::SessionEnded { session_id, duration_seconds, message_count, reference }
}
