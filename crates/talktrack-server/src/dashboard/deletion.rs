//! `/sessions/{session_id}/delete`: asks for confirmation and deletes a session.

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use uuid::Uuid;

use super::page::{Frame, Here, Trouble, shown};
use super::visitor::{Conversation, Visitor};
use super::words::{Moment, short, stored_count};
use crate::access::{self, SessionView};
use crate::deletion::{self, DeletionReport};
use crate::error::Problem;
use crate::state::AppState;

#[derive(Template)]
#[template(path = "delete.html")]
struct AskPage {
    frame: Frame,
    id: Uuid,
    user: String,
    started: Moment,
    messages: String,
}

#[derive(Template)]
#[template(path = "deleted.html")]
struct DeletedPage {
    frame: Frame,
    gone: DeletionReport,
}

/// Shows what would be deleted and asks for confirmation.
pub(super) async fn ask(
    State(state): State<AppState>,
    visitor: Visitor,
    Conversation(name): Conversation,
) -> Result<Response, Trouble> {
    let frame = || Frame::of(&visitor, Here::Conversations);
    let answer = async {
        access::to_delete(&state, &visitor.caller, &name).await?;
        let session = SessionView::open(&state, &visitor.caller, &name).await?.session;
        let id = session.session_id;
        let messages = stored_count(session.message_count, "message", "messages");
        let (user, started) = (short(session.user_id), Moment::new(session.started_at));
        Ok(shown(StatusCode::OK, &AskPage { frame: frame(), id, user, started, messages }))
    };
    answer.await.map_err(|problem: Problem| Trouble::of(problem, frame()))
}

/// Deletes the session.
pub(super) async fn delete(
    State(state): State<AppState>,
    visitor: Visitor,
    Conversation(name): Conversation,
) -> Result<Response, Trouble> {
    let frame = || Frame::of(&visitor, Here::Conversations);
    let answer = async {
        let (_, gone) = deletion::delete_session(&state, &visitor.caller, &name).await?;
        Ok(shown(StatusCode::OK, &DeletedPage { frame: frame(), gone }))
    };
    answer.await.map_err(|problem: Problem| Trouble::of(problem, frame()))
}
