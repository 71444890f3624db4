//! `/talk`: tries it with one's own voice. The conversation is made by the page's script, over the same doors that agents use;
//! the agent in it is an echo.

use askama::Template;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use uuid::Uuid;

use super::page::{Frame, Here, Trouble, shown};
use super::visitor::Visitor;
use crate::config::Scope;
use crate::error::Problem;
use crate::state::AppState;

#[derive(Template)]
#[template(path = "talk.html")]
struct TalkPage {
    frame: Frame,
    /// Whose conversation it will be; `None` where the page chooses somebody.
    user: Option<Uuid>,
    /// The server, as one reaches it from here.
    address: String,
    /// Who connects needs a token.
    needs_token: bool,
}

/// The page.
pub(super) async fn page(
    State(state): State<AppState>,
    visitor: Visitor,
    headers: HeaderMap,
) -> Result<Response, Trouble> {
    let frame = Frame::of(&visitor, Here::Talk);
    if let Err(problem) = visitor.caller.require(Scope::Write) {
        return Err(Trouble::of(problem, frame));
    }
    let user = visitor.caller.speaks_for(None).ok().flatten();
    let (address, needs_token) = (address(&headers)?, !state.gate().is_open());
    Ok(shown(StatusCode::OK, &TalkPage { frame, user, address, needs_token }))
}

/// Where a WebSocket to this server is opened.
fn address(headers: &HeaderMap) -> Result<String, Problem> {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let host = header("host").ok_or_else(|| Problem::invalid("Host: missing"))?;
    let scheme = if header("x-forwarded-proto") == Some("https") { "wss" } else { "ws" };
    Ok(format!("{scheme}://{host}"))
}
