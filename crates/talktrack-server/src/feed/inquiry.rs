//! Looks up sessions that the feed itself does not know.

use futures_util::future::join_all;
use talktrack_protocol::{ClientFrame, Frame, SessionName};

use super::order::{Order, Origin, Request};
use crate::access;
use crate::auth::Caller;
use crate::error::Problem;
use crate::session_frames;
use crate::state::AppState;

/// A frame of a session that the feed has not started. It borrows nothing of the feed, so that the feed can do other
/// things while the store is asked.
pub(crate) struct Inquiry {
    pub(super) name: SessionName,
    pub(super) request: Request,
}

/// A frame of a batch.
pub(crate) enum LookedUp {
    /// A frame that starts no session.
    Other(Box<Frame>),
    /// The order of a start, or why it is refused.
    Start(Box<Result<Order, Problem>>),
}

impl Inquiry {
    /// Finds the session.
    ///
    /// # Errors
    /// 404 if the caller may not use the session or it is absent; 503 if the store must be asked and cannot answer; 400
    /// if the frame does not fit the session. The refusal is counted.
    pub(crate) async fn answer(self, state: &AppState, caller: &Caller) -> Result<Order, Problem> {
        let count = |problem: &Problem| state.tracker().count_refusal(problem.code());
        let Self { name, request } = self;
        let granted = access::to_write(state, caller, &name).await.inspect_err(count)?;
        let origin = Origin::from_granted(granted, state, caller).await;
        request.in_session(origin).inspect_err(count)
    }
}

/// Looks up the sessions that these frames start, all at once: one look-up after the other would take longer than
/// everything else that a start needs. Refusals are counted.
pub(crate) async fn look_up_starts(state: &AppState, caller: &Caller, frames: Vec<Frame>) -> Vec<LookedUp> {
    let is_start = |frame: &Frame| matches!(frame.body, ClientFrame::SessionStart(_));
    if !frames.iter().any(is_start) {
        return frames.into_iter().map(|frame| LookedUp::Other(Box::new(frame))).collect();
    }
    let look_up = async |frame: Frame| {
        if !is_start(&frame) {
            return LookedUp::Other(Box::new(frame));
        }
        LookedUp::Start(Box::new(prepare_order(state, caller, frame).await))
    };
    join_all(frames.into_iter().map(look_up)).await
}

async fn prepare_order(state: &AppState, caller: &Caller, frame: Frame) -> Result<Order, Problem> {
    let reference = frame.reference.clone();
    let session = session_frames::new_session(state, caller, None, frame).await;
    let session = session.inspect_err(|problem| state.tracker().count_refusal(problem.code()))?;
    let prepared = session_frames::prepare_start(state, caller, session).await?;
    Ok(Order::of_start(prepared, caller, reference))
}
