//! `/sessions/{session_id}/delete`: asks for confirmation and deletes a session.

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use talktrack::SessionId;

use super::format::{Moment, format_stored_count, short_user};
use super::page::{ErrorPage, Layout, NavItem, render_page};
use super::visitor::{ConversationName, Visitor};
use crate::access::{self, SessionView};
use crate::deletion::{self, DeletionReport};
use crate::error::Problem;
use crate::state::AppState;

#[derive(Template)]
#[template(path = "delete.html")]
struct ConfirmPage {
    layout: Layout,
    id: SessionId,
    user: String,
    started: Moment,
    messages: String,
}

#[derive(Template)]
#[template(path = "deleted.html")]
struct DeletedPage {
    layout: Layout,
    report: DeletionReport,
}

/// Shows what would be deleted and asks for confirmation.
pub(super) async fn confirm_deletion(
    State(state): State<AppState>,
    visitor: Visitor,
    ConversationName(name): ConversationName,
) -> Result<Response, ErrorPage> {
    let layout = || visitor.layout(NavItem::Conversations);
    let answer = async {
        access::to_delete(&state, &visitor.caller, &name).await?;
        let session = SessionView::open(&state, &visitor.caller, &name).await?.session;
        let id = session.session_id;
        let messages = format_stored_count(session.message_count, "message", "messages");
        let user = short_user(session.user_id.as_ref());
        let started = Moment::new(session.started_at);
        Ok(render_page(StatusCode::OK, &ConfirmPage { layout: layout(), id, user, started, messages }))
    };
    answer.await.map_err(|problem: Problem| ErrorPage::new(problem, layout()))
}

/// Deletes the session.
pub(super) async fn delete_conversation(
    State(state): State<AppState>,
    visitor: Visitor,
    ConversationName(name): ConversationName,
) -> Result<Response, ErrorPage> {
    let layout = || visitor.layout(NavItem::Conversations);
    let answer = async {
        let (_, report) = deletion::delete_session(&state, &visitor.caller, &name).await?;
        Ok(render_page(StatusCode::OK, &DeletedPage { layout: layout(), report }))
    };
    answer.await.map_err(|problem: Problem| ErrorPage::new(problem, layout()))
}
