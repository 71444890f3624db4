//! `/talk`: lets a person talk to an echo agent with their own voice. The script of the page makes the conversation
//! through the same endpoints that agents use.

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
    /// The user of the conversation; `None` if the page chooses a random one.
    user: Option<Uuid>,
    /// The WebSocket address of the server as the browser sees it.
    address: String,
    /// True if a connection needs a token.
    needs_token: bool,
}

/// Returns the page.
pub(super) async fn page(
    State(state): State<AppState>,
    visitor: Visitor,
    headers: HeaderMap,
) -> Result<Response, Trouble> {
    let frame = Frame::of(&visitor, Here::Talk);
    if let Err(problem) = visitor.caller.require(Scope::Write) {
        return Err(Trouble::of(problem, frame));
    }
    let user = visitor.caller.resolve_user(None).ok().flatten();
    let (address, needs_token) = (address(&headers)?, !state.authenticator().is_open());
    Ok(shown(StatusCode::OK, &TalkPage { frame, user, address, needs_token }))
}

/// Returns the WebSocket address of this server.
fn address(headers: &HeaderMap) -> Result<String, Problem> {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let host = header("host").ok_or_else(|| Problem::invalid("Host: missing"))?;
    let scheme = if header("x-forwarded-proto") == Some("https") { "wss" } else { "ws" };
    Ok(format!("{scheme}://{host}"))
}
